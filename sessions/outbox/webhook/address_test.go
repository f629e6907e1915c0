package webhook_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/outboxtest"
	"doorstep/sessions/outbox/webhook"
)

func TestForbidden(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.255.255.255": true, "0.0.0.0": true, "0.1.2.3": true, "10.1.2.3": true, "172.16.0.1": true, "172.31.255.255": true,
		"192.168.1.1": true, "169.254.169.254": true, "100.64.0.1": true, "100.127.255.255": true, "192.0.0.8": true, "192.0.2.1": true,
		"198.18.0.1": true, "198.19.255.255": true, "198.51.100.7": true, "203.0.113.7": true, "192.88.99.1": true, "224.0.0.1": true,
		"240.0.0.1": true, "255.255.255.255": true,
		"::": true, "::1": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd00:ec2::254": true, "fec0::1": true, "ff02::1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "::ffff:169.254.169.254": true, "::ffff:100.64.0.1": true, "::10.0.0.1": true,
		"64:ff9b::10.0.0.1": true, "64:ff9b::7f00:1": true, "64:ff9b:1::1": true, "2002:0a00:0001::1": true, "2001::1": true, "2001:db8::1": true,
		"3fff::1": true, "4000::1": true, "2606:4700::1111%eth0": true,

		"1.1.1.1": false, "100.63.255.255": false, "100.128.0.1": false, "172.15.0.1": false, "172.32.0.1": false, "198.17.0.1": false,
		"::ffff:1.1.1.1": false, "2606:4700::1111": false, "2001:4860:4860::8888": false, "64:ff9b::101:101": false,
	} {
		assert.Equal(t, want, webhook.Forbidden(netip.MustParseAddr(text)), text)
	}
}

// A name is looked up for each connection, and the address that it stands for then is
// what is checked: an answer that changes after a check (DNS rebinding) does not help.
func TestWebhook_address_inside_of_the_network(t *testing.T) {
	t.Parallel()
	r, m := receive(t), &seen{}
	at, err := url.Parse(r.URL)
	require.NoError(t, err)
	asked := &atomic.Int32{}
	names := nameServer(t, asked)
	w, err := webhook.New(webhook.Options{URL: "https://hooks.example.com:" + at.Port() + "/", Secrets: []string{newSecret}, Metrics: m})
	require.NoError(t, err, "the name says nothing")
	w.ResolveBy(names)
	for range 3 {
		errs := w.Publish(t.Context(), rows(outboxtest.Events(1)...))
		require.True(t, outbox.IsDown(errs[0]), "no event is given up for it")
		require.ErrorContains(t, errs[0], "inside of the network")
	}
	outcomes, _, _ := m.read()
	require.Equal(t, map[string]int{"forbidden": 3}, outcomes)
	tried, _ := r.calls()
	require.Zero(t, tried)
	require.GreaterOrEqual(t, asked.Load(), int32(3), "each time")

	allowed, err := webhook.New(webhook.Options{URL: "http://hooks.example.com:" + at.Port() + "/", Secrets: []string{newSecret}, AllowPrivate: true})
	require.NoError(t, err)
	allowed.ResolveBy(names)
	require.Equal(t, []error{nil}, allowed.Publish(t.Context(), rows(outboxtest.Events(1)...)))
}

// nameServer answers that every name is 127.0.0.1, and has no IPv6 address.
func nameServer(t *testing.T, asked *atomic.Int32) *net.Resolver {
	t.Helper()
	server, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(question)
			if err != nil {
				return
			}
			asked.Add(1)
			_, _ = server.WriteTo(nameAnswer(question[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// nameAnswer is the answer to a question of one name (RFC 1035, section 4.1).
func nameAnswer(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	isA := binary.BigEndian.Uint16(question[end+1:]) == 1
	answer := append([]byte(nil), question[:end+5]...)
	copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}) // an answer; one question
	if isA {
		answer[7] = 1                                                                 // one record:
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1) // the name, A, IN, TTL 0
	}
	return answer
}
