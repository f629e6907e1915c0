package api_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// valkey sends one command to the server at url and returns its reply as text. It
// uses no code of the gateway.
func valkey(t testing.TB, url string, args ...string) string {
	t.Helper()
	path, unix := strings.CutPrefix(url, "unix://")
	require.True(t, unix, "a server on a socket: %s", url)
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(a), a)
	}
	_, err = io.WriteString(conn, command.String())
	require.NoError(t, err)
	reply, err := readReply(bufio.NewReader(conn))
	require.NoError(t, err)
	return reply
}

// readReply reads one RESP value, nested ones a line each.
func readReply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	kind, rest := line[0], line[1:]
	switch kind {
	case '-':
		return "", fmt.Errorf("valkey: %s", rest)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		text := make([]byte, n+2)
		_, err = io.ReadFull(r, text)
		return string(text[:n]), err
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil {
			return "", err
		}
		lines := make([]string, n)
		for i := range lines {
			if lines[i], err = readReply(r); err != nil {
				return "", err
			}
		}
		return strings.Join(lines, "\n"), nil
	default:
		return rest, nil
	}
}

// dump is all keys that contain part, and their values.
func dump(t testing.TB, url, part string) string {
	t.Helper()
	var all strings.Builder
	for key := range strings.Lines(valkey(t, url, "KEYS", "*"+part+"*")) {
		key = strings.TrimSpace(key)
		fmt.Fprintln(&all, key)
		switch valkey(t, url, "TYPE", key) {
		case "hash":
			fmt.Fprintln(&all, valkey(t, url, "HGETALL", key))
		case "none": // gone meanwhile
		default:
			require.Fail(t, "a key of another type: "+key)
		}
	}
	return all.String()
}
