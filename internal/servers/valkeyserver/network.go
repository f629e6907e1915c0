package valkeyserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
)

// ping returns nil when the server answers a PING. A demand for a password is an
// answer, too: Options.Args may have set one.
func (s *Server) ping(ctx context.Context) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", s.Socket())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != "+PONG" && !strings.HasPrefix(line, "-NOAUTH") {
		return fmt.Errorf("PING answered %q", line)
	}
	return nil
}

// choosePorts asks the kernel for the free ports that the server needs. Both stay
// open until both are known, or the kernel might give the same one twice.
func (s *Server) choosePorts(ctx context.Context) error {
	if !s.options.TCP {
		return nil
	}
	var listen net.ListenConfig
	first, err := listen.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("valkeyserver: free port: %w", err)
	}
	second, err := listen.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return errors.Join(fmt.Errorf("valkeyserver: free port: %w", err), first.Close())
	}
	s.port = port(first)
	if s.options.Cluster {
		s.busPort = port(second)
	}
	return errors.Join(first.Close(), second.Close())
}

func port(l net.Listener) int {
	return l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // of a "tcp4" listener it is one
}

// portTaken reads the server's log in the error: its exit code is 1 for every
// kind of failure.
func portTaken(err error) bool {
	return strings.Contains(err.Error(), "Address already in use")
}
