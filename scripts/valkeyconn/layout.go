package valkeyconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/valkey-io/valkey-go"
)

// slotCount is the number of slots that a cluster divides its keys into.
const slotCount = 16384

// slotOf is the slot of a key or channel, by the cluster's own rule: CRC-16
// (XMODEM) of the text between the first braces, or of all of it where there are
// none.
func slotOf(key string) uint16 {
	if _, rest, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(rest, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return crc % slotCount
}

var crc16 = func() (table [256]uint16) {
	const polynomial = 0x1021
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 == 0 {
				crc <<= 1
			} else {
				crc = crc<<1 ^ polynomial
			}
		}
		table[i] = crc
	}
	return table
}()

// layout is one server's answer to the question which server owns which slots.
type layout struct {
	spans  []span
	others []string // every address it named, replicas included
	single bool     // it is no cluster
}

// span is a range of slots with one owner.
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

// layoutOf asks the server at addr which server owns which slots. CLUSTER
// SLOTS is deprecated in favour of a newer command, but every version has it,
// and it names the port that fits the asking connection, TLS or not.
func layoutOf(ctx context.Context, c valkey.Client, addr string) (layout, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	rows, err := c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
	if notClustered(err) || forbidden(err) && mode(ctx, c) == "standalone" || unknown(err) && mode(ctx, c) != "cluster" {
		return layout{single: true, spans: []span{{addr: addr}}}, nil
	}
	if forbidden(err) || unknown(err) {
		return layout{}, fmt.Errorf("%w: ask which server owns which slots (+cluster|slots): %w", errForbidden, err)
	}
	if err != nil {
		return layout{}, fmt.Errorf("cluster slots: %w", err)
	}
	host, _, _ := net.SplitHostPort(addr)
	found, err := parseLayout(rows, host)
	if err != nil {
		return layout{}, fmt.Errorf("cluster slots: %w", err)
	}
	return found, nil
}

// notClustered reports whether an error is the refusal of a server that is not a
// cluster.
func notClustered(err error) bool {
	refusal, ok := valkey.IsValkeyErr(err)
	if err == nil || !ok {
		return false
	}
	return strings.Contains(strings.ToLower(refusal.Error()), "cluster support disabled")
}

// unknown reports whether an error says that there is no such command, or that it was
// given another name.
func unknown(err error) bool {
	refusal, ok := valkey.IsValkeyErr(err)
	return err != nil && ok && strings.Contains(strings.ToLower(refusal.Error()), "unknown command")
}

// forbidden reports whether an error says that the user lacks a right, or is not known
// with that password.
func forbidden(err error) bool {
	refusal, ok := valkey.IsValkeyErr(err)
	return err != nil && ok && beginsWith(refusal, "NOPERM", "WRONGPASS", "NOAUTH")
}

// signIn is the error of a new connection, marked where it is about the user.
func signIn(err error) error {
	if forbidden(err) {
		return fmt.Errorf("%w: sign in: %w", errForbidden, err)
	}
	return err
}

// mode asks a server that does not say which slots it owns whether it has any: it is
// standalone, cluster or sentinel, and empty where the server does not tell. Every user may
// send HELLO.
func mode(ctx context.Context, c valkey.Client) string {
	about, _ := c.Do(ctx, c.B().Hello().Build()).AsMap()
	word := about["mode"]
	text, _ := word.ToString()
	return text
}

// parseLayout reads the reply: rows of first slot, last slot, primary, replicas.
// host is the host of the server that replied.
func parseLayout(rows []valkey.ValkeyMessage, host string) (layout, error) {
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
		return layout{}, errors.New("no slot has an owner")
	}
	return l, nil
}

// addressOf reads host and port of a server in the reply. No host means the host
// that we asked: the server does not know its own host or does not tell it. "?"
// means that the cluster has lost that server; then there is no address.
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
