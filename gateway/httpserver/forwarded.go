package httpserver

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/cloudwego/hertz/pkg/protocol"
)

// clientOf is the address that the request of a trusted proxy is counted under:
// the last one in X-Forwarded-For, or in Forwarded (RFC 7239), that is not itself
// a trusted proxy's. What stands before it was written by somebody else, and may
// be invented.
//
// The result is the proxy's own address, peer, where the proxies say nothing, say
// something that is no address (RFC 7239 allows "unknown" and made-up names), or
// where the two headers differ: then one of them came from the client, and it is
// not known which. A proxy should set one of them and remove the other.
func clientOf(h *protocol.RequestHeader, trusted []netip.Prefix, peer netip.Prefix) netip.Prefix {
	plain, hasPlain := lastUntrusted(h, "X-Forwarded-For", trusted, address)
	extended, hasExtended := lastUntrusted(h, "Forwarded", trusted, forwardedFor)
	switch {
	case hasPlain && hasExtended && plain != extended:
		return peer
	case hasPlain && plain.IsValid():
		return networkOf(plain)
	case hasExtended && extended.IsValid():
		return networkOf(extended)
	default:
		return peer
	}
}

// lastUntrusted walks a list from its end to the first address that is not
// trusted. If all are trusted it is the first of the list, because a client can
// be inside a trusted network, too. It is invalid where the walk meets something
// that is no address.
func lastUntrusted(h *protocol.RequestHeader, name string, trusted []netip.Prefix, parse func(string) netip.Addr) (at netip.Addr, present bool) {
	lines := h.PeekAll(name)
	if len(lines) == 0 {
		return at, false
	}
	for _, item := range slices.Backward(strings.Split(string(bytes.Join(lines, []byte(","))), ",")) {
		if item = strings.Trim(item, " \t"); item == "" {
			continue
		}
		if at = parse(item); !at.IsValid() || !contains(trusted, at) {
			break
		}
	}
	return at, true
}

// forwardedFor is the address in one element of Forwarded. Names are in any case,
// and values may be quoted. A quoted value with a comma in it is no address, so it
// does no harm that the list was split there.
func forwardedFor(element string) netip.Addr {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		if strings.EqualFold(name, "for") {
			return address(strings.Trim(value, `"`))
		}
	}
	return netip.Addr{}
}

// address parses an address as proxies write it: with or without a port, and an
// IPv6 address with or without brackets.
func address(text string) netip.Addr {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	at, _ := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return at.Unmap().WithZone("")
}

func contains(networks []netip.Prefix, at netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(at) })
}

// networkOf is what an address is counted under: itself, or the /64 network that
// one IPv6 subscriber gets.
func networkOf(at netip.Addr) netip.Prefix {
	p, _ := at.Prefix(min(at.BitLen(), 64))
	return p
}
