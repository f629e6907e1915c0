package privacy

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// link is the way to the live store, which can be cut: what is under way then
// is lost, as it would not be with a server that only sleeps.
type link struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	isCut bool
	conns map[net.Conn]struct{}
	done  sync.WaitGroup
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	dir, err := os.MkdirTemp("", "link") //nolint:usetesting // its own may be too long for a socket's path
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	l := &link{listener: listener, target: target, conns: map[net.Conn]struct{}{}}
	l.done.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.set(false)
		l.done.Wait()
		_ = os.RemoveAll(dir)
	})
	return l
}

func (l *link) url() string { return "unix://" + l.listener.Addr().String() }

// set cuts the link, or mends it.
func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = !up
	if l.isCut {
		for c := range l.conns {
			_ = c.Close()
		}
		clear(l.conns)
	}
}

func (l *link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", l.target)
		if err != nil || !l.keep(near, far) {
			_ = near.Close()
			continue
		}
		for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
			l.done.Go(func() {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			})
		}
	}
}

// keep takes both ends into the books, unless the link is cut.
func (l *link) keep(near, far net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		_ = far.Close()
		return false
	}
	l.conns[near], l.conns[far] = struct{}{}, struct{}{}
	return true
}
