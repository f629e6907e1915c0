package httpserver

import (
	"crypto/tls"
	"errors"
	"io"
	"net"

	"github.com/cloudwego/hertz/pkg/protocol/consts"
)

// handshake makes the TLS of a new connection, where the listener has a certificate, and
// reports whether the connection can be served. Its time is that for the first byte of a
// request, which a drain shortens.
func (c *conn) handshake() bool {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return true
	}
	err := secured.HandshakeContext(c.l.server.base)
	if err == nil {
		return true
	}
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &plain) && plain.Conn != nil && beginsLikeHTTP(plain.RecordHeader):
		c.mu.Lock() // a drain may be about to use it
		c.Conn, c.refused = plain.Conn, true
		c.mu.Unlock()
		_, _ = c.Write(c.l.refuse(consts.StatusBadRequest))
	case !errors.Is(err, io.EOF): // else it was opened and closed, as a check of the port is
		c.l.opts.Events.ConnShed(shedTLSHandshake)
	}
	return false
}

// beginsLikeHTTP reports whether a client that does not speak TLS speaks HTTP.
func beginsLikeHTTP(first [5]byte) bool {
	switch string(first[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "PATCH", "DELET", "OPTIO":
		return true
	}
	return false
}

// socket is the connection below TLS.
func (c *conn) socket() net.Conn {
	if secured, ok := c.Conn.(*tls.Conn); ok {
		return secured.NetConn()
	}
	return c.Conn
}
