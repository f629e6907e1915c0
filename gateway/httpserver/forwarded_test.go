package httpserver

import (
	"net/netip"
	"testing"

	"github.com/cloudwego/hertz/pkg/protocol"
	"github.com/stretchr/testify/assert"
)

func TestClientOf(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	const peer = "10.0.0.1/32"
	for _, tc := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"nothing", nil, peer},
		{"one", []string{"X-Forwarded-For", "192.0.2.1"}, "192.0.2.1/32"},
		{"the_last_counts", []string{"X-Forwarded-For", "6.6.6.6, 192.0.2.1"}, "192.0.2.1/32"},
		{"trusted_ones_are_passed_over", []string{"X-Forwarded-For", "6.6.6.6,192.0.2.1 , 10.1.2.3,fd00::1"}, "192.0.2.1/32"},
		{"several_lines", []string{"X-Forwarded-For", "6.6.6.6", "X-Forwarded-For", "192.0.2.1"}, "192.0.2.1/32"},
		{"a_client_in_a_trusted_network", []string{"X-Forwarded-For", "10.9.9.9"}, "10.9.9.9/32"},
		{"with_a_port", []string{"X-Forwarded-For", "192.0.2.1:4711"}, "192.0.2.1/32"},
		{"ipv6", []string{"X-Forwarded-For", "2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::/64"},
		{"ipv6_with_brackets_and_port", []string{"X-Forwarded-For", "[2001:db8:1:2::1]:4711"}, "2001:db8:1:2::/64"},
		{"ipv4_in_ipv6", []string{"X-Forwarded-For", "::ffff:192.0.2.1"}, "192.0.2.1/32"},
		{"no_address", []string{"X-Forwarded-For", "192.0.2.1, nonsense"}, peer},
		{"empty", []string{"X-Forwarded-For", " , "}, peer},
		{"empty_items", []string{"X-Forwarded-For", "192.0.2.1,,"}, "192.0.2.1/32"},
		{"forwarded", []string{"Forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1"}, "192.0.2.1/32"},
		{"forwarded_in_any_case", []string{"Forwarded", "proto=https; FOR=192.0.2.1"}, "192.0.2.1/32"},
		{"forwarded_list", []string{"Forwarded", "for=6.6.6.6, for=192.0.2.1, for=10.3.3.3"}, "192.0.2.1/32"},
		{"forwarded_ipv6", []string{"Forwarded", `for="[2001:db8:1:2::1]:4711"`}, "2001:db8:1:2::/64"},
		{"forwarded_unknown", []string{"Forwarded", "for=unknown"}, peer},
		{"forwarded_made_up", []string{"Forwarded", "for=192.0.2.1, for=_hidden"}, peer},
		{"forwarded_without_for", []string{"Forwarded", "proto=https"}, peer},
		{"both_agree", []string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=192.0.2.1"}, "192.0.2.1/32"},
		{"both_differ", []string{"X-Forwarded-For", "192.0.2.1", "Forwarded", "for=6.6.6.6"}, peer},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var h protocol.RequestHeader
			for i := 0; i < len(tc.headers); i += 2 {
				h.Add(tc.headers[i], tc.headers[i+1])
			}
			assert.Equal(t, tc.want, clientOf(&h, trusted, netip.MustParsePrefix(peer)).String())
		})
	}
}
