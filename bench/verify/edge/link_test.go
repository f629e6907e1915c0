package edge

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	listen, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listen.Close() })
	go func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listen.Addr().String()
}

func dial(t *testing.T, l *Link) net.Conn {
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func TestLink(t *testing.T) {
	const trip = 50 * time.Millisecond
	l, err := NewLink(echo(t), trip)
	require.NoError(t, err)
	conn := dial(t, l)
	began, got := time.Now(), make([]byte, 5)
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	assert.Equal(t, "hello", string(got))
	assert.GreaterOrEqual(t, time.Since(began), 2*trip, "there and back")

	l.Cut()
	_, err = conn.Write([]byte("lost"))
	require.NoError(t, err, "nobody tells")
	during := dial(t, l)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(4*trip)))
	_, err = conn.Read(got)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing comes")

	l.Heal()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
	_, err = conn.Read(got)
	require.ErrorIs(t, err, io.EOF, "what was open during the cut ends")
	_, err = during.Read(got)
	require.ErrorIs(t, err, io.EOF, "what was opened during it, too")
	after := dial(t, l)
	_, err = after.Write([]byte("again"))
	require.NoError(t, err)
	_, err = io.ReadFull(after, got)
	require.NoError(t, err)
	assert.Equal(t, "again", string(got))
	require.NoError(t, l.Close())
}
