package main

import (
	"context"
	"fmt"
	"strings"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// proxy is a network that can be made bad, between a gateway and one server.
type proxy struct{ *toxiproxy.Proxy }

// proxy puts one before a server that listens on TCP.
func (s *stage) proxy(upstream string) (*proxy, error) {
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := &proxy{toxiproxy.NewProxy(api, "network", "127.0.0.1:0", upstream)}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	s.onEnd(func() error { p.Stop(); return nil })
	return p, nil
}

// A toxic is what is wrong with the network: toxiproxy's own words.
type toxic struct{ kind, stream, attributes string }

// The toxics. Without a word: what is sent arrives nowhere, and nobody says so.
func latency(ms, jitterMS int) toxic {
	return toxic{"latency", "downstream", fmt.Sprintf(`{"latency":%d,"jitter":%d}`, ms, jitterMS)}
}

func bandwidth(kilobytes int) toxic {
	return toxic{"bandwidth", "downstream", fmt.Sprintf(`{"rate":%d}`, kilobytes)}
}

func resets(afterMS int) toxic {
	return toxic{"reset_peer", "downstream", fmt.Sprintf(`{"timeout":%d}`, afterMS)}
}

func silence(stream string) toxic { return toxic{"timeout", stream, `{"timeout":0}`} }

// worsen adds to what is wrong.
func (p *proxy) worsen(toxics ...toxic) error {
	for _, t := range toxics {
		text := fmt.Sprintf(`{"name":"%s-%s","type":"%s","stream":"%s","toxicity":1,"attributes":%s}`,
			t.kind, t.stream, t.kind, t.stream, t.attributes)
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return fmt.Errorf("toxic %s: %w", t.kind, err)
		}
	}
	return nil
}

// heal makes the network a good one. Connections that were silent are closed by
// that, as a peer that comes back closes what it does not know any more.
func (p *proxy) heal(ctx context.Context) { p.Toxics.ResetToxics(ctx) }
