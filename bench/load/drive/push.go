package drive

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"time"
)

// push holds a WebSocket open and reads what the server says: text frames, in
// one piece and unmasked, as servers send them (RFC 6455, section 5).
func (p *play) push(ctx context.Context, s *student) {
	defer s.wire.close()
	defer s.first()
	session, _ := s.journey.leg()
	request := fmt.Appendf(nil, "GET /live?sessionId=%s&token=%s HTTP/1.1\r\nHost: doorstep\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", session, s.token)
	p.gate <- struct{}{}
	a, err := s.wire.call(ctx, request, callWithin)
	<-p.gate
	p.count(ctx, "socket", a, err)
	if err != nil || a.status != http.StatusSwitchingProtocols {
		return
	}
	s.first()
	_ = s.wire.conn.SetDeadline(time.Time{}) // the end of ctx closes it
	frame := make([]byte, 1024)
	for {
		n, err := readFrame(s.wire.conn, frame)
		if err != nil {
			p.count(ctx, "socket", answer{}, err)
			return
		}
		s.sight(frame[:n], time.Now())
	}
}

// readFrame reads one frame's payload of up to len(into) bytes.
func readFrame(from io.Reader, into []byte) (int, error) {
	if _, err := io.ReadFull(from, into[:2]); err != nil {
		return 0, err
	}
	n := int(into[1])
	switch {
	case n == 126:
		if _, err := io.ReadFull(from, into[:2]); err != nil {
			return 0, err
		}
		n = int(binary.BigEndian.Uint16(into))
	case n > 126: // longer, or masked
		return 0, errShape
	}
	if n > len(into) {
		return 0, errShape
	}
	return io.ReadFull(from, into[:n])
}
