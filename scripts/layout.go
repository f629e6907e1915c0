package scripts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// layout is what a server says of who owns what.
type layout struct {
	spans  []span
	others []string // every address it named, replicas too
	single bool     // it is no cluster
}

// span is a row of slots with one owner.
type span struct {
	first, last uint16
	addr        string
}

func (l layout) size() int {
	if l.single {
		return 1
	}
	return slotCount
}

// layoutOf asks the server at addr. CLUSTER SLOTS is the older command and
// called deprecated, but every version has it, and it names the port that fits
// the asking connection, TLS or not.
func layoutOf(ctx context.Context, c valkey.Client, addr string) (layout, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	rows, err := c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
	if alone(err) {
		return layout{single: true, spans: []span{{addr: addr}}}, nil
	}
	if err != nil {
		return layout{}, fmt.Errorf("cluster slots: %w", err)
	}
	host, _, _ := net.SplitHostPort(addr)
	found, err := layoutIn(rows, host)
	if err != nil {
		return layout{}, fmt.Errorf("cluster slots: %w", err)
	}
	return found, nil
}

// alone reads the refusal of a server that is no cluster, or of one that will
// not say: a cluster would redirect us later on.
func alone(err error) bool {
	said, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return false
	}
	text := strings.ToLower(said.Error())
	return strings.Contains(text, "cluster support disabled") || strings.Contains(text, "unknown command") ||
		strings.HasPrefix(text, "noperm")
}

// layoutIn reads the reply: rows of first slot, last slot, primary, replicas.
func layoutIn(rows []valkey.ValkeyMessage, host string) (layout, error) {
	var l layout
	for _, row := range rows {
		fields, err := row.ToArray()
		if err != nil || len(fields) < 3 {
			return layout{}, fmt.Errorf("a row of %d fields: %w", len(fields), err)
		}
		first, err1 := fields[0].AsInt64()
		last, err2 := fields[1].AsInt64()
		if err := errors.Join(err1, err2); err != nil || first < 0 || last < first || last >= slotCount {
			return layout{}, fmt.Errorf("slots %d to %d: %w", first, last, err)
		}
		for i, server := range fields[2:] {
			addr := addressOf(server, host)
			if addr == "" {
				continue
			}
			l.others = append(l.others, addr)
			if i == 0 {
				l.spans = append(l.spans, span{first: uint16(first), last: uint16(last), addr: addr})
			}
		}
	}
	if len(l.spans) == 0 {
		return layout{}, errors.New("nobody owns any")
	}
	return l, nil
}

// addressOf reads host and port. A server that does not know its own host, or
// will not tell, means the one that we asked; "?" is one that it has lost.
func addressOf(server valkey.ValkeyMessage, asked string) string {
	fields, err := server.ToArray()
	if err != nil || len(fields) < 2 {
		return ""
	}
	host, err := fields[0].ToString()
	if err != nil || host == "" {
		host = asked
	}
	port, err := fields[1].AsInt64()
	if err != nil || host == "?" {
		return ""
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}
