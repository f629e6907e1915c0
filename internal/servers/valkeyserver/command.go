package valkeyserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Do sends one command over the server's unix socket and returns the reply as
// text: an array has one element a line, a nil is empty. An error reply is an
// error. Each command has its own connection; this is for set-up and inspection,
// and needs no client library. ctx bounds it, to 5 s at most.
func (s *Server) Do(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reply, err := s.exchange(ctx, words)
	if err != nil {
		return "", fmt.Errorf("valkeyserver: %s: %w", strings.Join(words[:min(2, len(words))], " "), err)
	}
	return reply, nil
}

func (s *Server) exchange(ctx context.Context, words []string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.Socket())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(conn, request.String()); err != nil {
		return "", err
	}
	return reply(bufio.NewReader(conn))
}

// reply reads one RESP2 value.
func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty line for a reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New(rest)
	}
	n, err := strconv.Atoi(rest)
	switch {
	case err != nil:
		return "", fmt.Errorf("reply %q: %w", line, err)
	case n < 0:
		return "", nil
	case kind == '$':
		text := make([]byte, n+len("\r\n"))
		_, err := io.ReadFull(r, text)
		return string(text[:n]), err
	default:
		return replies(r, n)
	}
}

func replies(r *bufio.Reader, n int) (string, error) {
	lines := make([]string, n)
	for i := range lines {
		var err error
		if lines[i], err = reply(r); err != nil {
			return "", err
		}
	}
	return strings.Join(lines, "\n"), nil
}

// Primary reports whether the server calls itself a primary, which takes writes.
func (s *Server) Primary(ctx context.Context) (bool, error) {
	role, err := s.Do(ctx, "ROLE")
	if err != nil {
		return false, err
	}
	return strings.HasPrefix(role, "master"), nil
}

// until polls every 10 ms until ok, or ctx ends.
func until(ctx context.Context, what string, ok func() bool) error {
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("valkeyserver: %s: %w", what, ctx.Err())
		case <-every.C:
		}
	}
	return nil
}
