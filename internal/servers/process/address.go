package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreeAddr returns a loopback address whose port was free a moment ago. The port
// is below those that the kernel gives to outgoing connections (32768 and up,
// unless set): such a connection could otherwise take the port before the
// program that asked for it has come to listen.
func FreeAddr() (string, error) {
	var err error
	for range 100 {
		var l net.Listener
		addr := fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(20_000)) //nolint:gosec // a port, not a secret
		if l, err = new(net.ListenConfig).Listen(context.Background(), "tcp4", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("process: free port: %w", err)
}
