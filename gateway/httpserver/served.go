package httpserver

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"github.com/cloudwego/gopkg/bufiox"
	"github.com/cloudwego/hertz/pkg/app"
	"github.com/cloudwego/hertz/pkg/network"
)

// served is a connection while Hertz serves it: with buffers, and with the context of
// its requests. A parked connection has neither. That is why Hertz's own connection is
// not used, whose readers, writers and contexts last as long as the socket: a third of
// what a waiting student took. docs/adr/0017 has the figures.
type served struct {
	*conn
	r *bufiox.DefaultReader
	w *bufiox.DefaultWriter

	parked *Parked         // nil: it is not
	then   func(p *Parked) // see Park
	slot   any             // see Slot
	one    [1]byte         // of ReadByte
}

var _ network.Conn = (*served)(nil)

// serving returns the connection for Hertz, and the context of its requests, which ends
// when the peer leaves or the server is closed.
func (c *conn) serving(base context.Context) (context.Context, *served) {
	ctx, cancel := context.WithCancel(base)
	c.callOnLeave(nil, cancel)
	return ctx, &served{conn: c, r: bufiox.NewDefaultReader(c), w: bufiox.NewDefaultWriter(c)}
}

// Slot is a place for what the handlers of a request want to keep with it until it is
// answered or parked. It is empty at first. It is nil for a request without a connection,
// as in tests. Unlike the context's own keys it takes no map for each request.
func Slot(c *app.RequestContext) *any {
	if on, ok := c.GetConn().(*served); ok {
		return &on.slot
	}
	return nil
}

// Peek implements network.Reader. Hertz expects io.EOF, where bufiox has another error
// if something was read.
func (s *served) Peek(n int) ([]byte, error) {
	buf, err := s.r.Peek(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return buf, err
}

// Skip implements network.Reader.
func (s *served) Skip(n int) error {
	if s.Len() < n {
		return io.ErrShortBuffer
	}
	return s.r.Skip(n)
}

// Release implements network.Reader.
func (s *served) Release() error { return s.r.Release(nil) }

// Len implements network.Reader.
func (s *served) Len() int { return s.r.Buffered() }

// ReadByte implements network.Reader.
func (s *served) ReadByte() (byte, error) {
	_, err := s.r.Read(s.one[:])
	return s.one[0], err
}

// ReadBinary implements network.Reader.
func (s *served) ReadBinary(n int) ([]byte, error) {
	p := make([]byte, n)
	_, err := s.r.ReadBinary(p)
	return p, err
}

// Read reads through the buffer.
func (s *served) Read(p []byte) (int, error) { return s.r.Read(p) }

// Malloc implements network.Writer.
func (s *served) Malloc(n int) ([]byte, error) { return s.w.Malloc(n) }

// WriteBinary implements network.Writer.
func (s *served) WriteBinary(p []byte) (int, error) { return s.w.WriteBinary(p) }

// Flush implements network.Writer.
func (s *served) Flush() error { return s.w.Flush() }

// Write writes what is in the buffer, and then p.
func (s *served) Write(p []byte) (int, error) {
	if err := s.Flush(); err != nil {
		return 0, err
	}
	return s.conn.Write(p)
}

// SetReadTimeout does nothing: the connection has its own deadlines.
func (s *served) SetReadTimeout(time.Duration) error { return nil }

// SetWriteTimeout does nothing.
func (s *served) SetWriteTimeout(time.Duration) error { return nil }

// Close does nothing while the connection is parked: Hertz closes what it gives away.
func (s *served) Close() error {
	if s.parked != nil {
		return nil
	}
	return s.conn.Close()
}

// HandleSpecificError says which errors Hertz must not log: of peers that have left.
func (s *served) HandleSpecificError(err error, _ string) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
