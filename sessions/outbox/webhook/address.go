package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
)

// errInside is an address that is not on the public internet. Wrapped with the address.
var errInside = errors.New("the receiver's address is inside of the network (allow it with DOORSTEP_WEBHOOK_ALLOW_PRIVATE)")

// checkURL refuses at the start what could never be delivered. What the host's name
// stands for is checked when it is dialled.
func checkURL(text string, allowPrivate bool) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("webhook: URL cannot be read") // err has the URL
	}
	host := u.Hostname()
	switch {
	case u.Scheme != "https" && u.Scheme != "http", host == "":
		return errors.New("webhook: URL must be https://host/…")
	case u.Scheme == "http" && !allowPrivate:
		return errors.New("webhook: URL must be https; http is for a receiver inside of the network (DOORSTEP_WEBHOOK_ALLOW_PRIVATE)")
	case u.User != nil:
		return errors.New("webhook: URL must not hold a user or a password: events are signed")
	case u.Fragment != "":
		return errors.New("webhook: URL must not have a fragment (#)")
	case allowPrivate:
		return nil
	}
	at, err := netip.ParseAddr(host)
	if host = strings.ToLower(strings.TrimSuffix(host, ".")); err == nil && forbidden(at) || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return fmt.Errorf("webhook: URL: %w", errInside)
	}
	return nil
}

// refuseInside is a net.Dialer's Control. It sees the address itself, after the name was
// looked up, for each address that is tried: so a name that changes what it stands for
// between a check and the connection does not get past it.
func refuseInside(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || forbidden(at.Addr()) {
		return fmt.Errorf("%w: %s", errInside, address)
	}
	return nil
}

// Of IPv4 what the registry of special addresses (RFC 6890 and its updates) does not call
// global; of IPv6 only the unicast space that is given out, without the ranges in it that
// carry an IPv4 address or are for documents.
var (
	insideIPv4 = prefixes("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4")
	publicIPv6 = netip.MustParsePrefix("2000::/3")
	insideIPv6 = prefixes("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
	// nat64 carries the IPv4 address that is meant in its last four bytes.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// forbidden reports whether an address is not on the public internet: loopback, private,
// link-local, unique local, shared by carriers (CGNAT), multicast, reserved, or IPv6 that
// stands for such an IPv4 address.
func forbidden(at netip.Addr) bool {
	at = at.Unmap()
	if nat64.Contains(at.WithZone("")) {
		b := at.As16()
		at = netip.AddrFrom4([4]byte(b[12:]))
	}
	inside := insideIPv4
	if at.Is6() {
		if inside = insideIPv6; at.Zone() != "" || !publicIPv6.Contains(at) {
			return true
		}
	}
	for _, p := range inside {
		if p.Contains(at) {
			return true
		}
	}
	return false
}
