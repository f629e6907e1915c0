package released

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/internal/servers/haproxy"
	"doorstep/internal/servers/process"
)

// member is a gateway in one of HAProxy's places.
type member struct {
	*rig.Gateway
	place int
}

// balance starts HAProxy with a place for each gateway of a version and one for the next.
func (r *rolling) balance() {
	r.Helper()
	r.places = make([]haproxy.Backend, *gateways+1)
	for i := range r.places {
		addr, err := process.FreeAddr()
		require.NoError(r, err)
		r.places[i] = haproxy.Backend{Name: fmt.Sprintf("place%d", i), Addr: addr}
	}
	checks := haproxy.QuickChecks
	if *alb {
		checks = haproxy.ALBChecks
	}
	var err error
	r.front, err = haproxy.Start(r.Context(), r.places, checks, func(f haproxy.Failure) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failures = append(r.failures, f)
	})
	require.NoError(r, err)
	r.Cleanup(func() { require.NoError(r, r.front.Stop()) })
	// It takes all for healthy at first.
	r.await("HAProxy finds out that no gateway is there", func(stats map[string]haproxy.Stats) bool { return !stats[haproxy.All].InService })
}

// await returns when HAProxy's counters are as wanted.
func (r *rolling) await(what string, wanted func(map[string]haproxy.Stats) bool) {
	r.Helper()
	require.Eventually(r, func() bool {
		stats, err := r.front.Stats(r.Context())
		return err == nil && wanted(stats)
	}, 3*patience, 10*time.Millisecond, what)
}

// members are the gateways that take calls now, the oldest first.
func (r *rolling) members() []*member {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.serving)
}

// start starts a gateway of a version in a free place, and returns once HAProxy sends calls to it.
func (r *rolling) start(p *rig.Program) {
	r.Helper()
	serving := r.members()
	m := &member{}
	for slices.ContainsFunc(serving, func(other *member) bool { return other.place == m.place }) {
		m.place++
	}
	var err error
	m.Gateway, err = p.Start(r.Context(), append(r.settingsOf(p), "LISTEN="+r.places[m.place].Addr)...)
	require.NoError(r, err)
	r.Cleanup(func() { _ = m.Kill() })
	r.all = append(r.all, m.Gateway)
	r.await("HAProxy takes the gateway into service", func(stats map[string]haproxy.Stats) bool { return stats[r.places[m.place].Name].InService })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serving = append(r.serving, m)
}

// drain ends a gateway, which takes calls until HAProxy sends it none. meanwhile, if not
// nil, is called while it drains.
func (r *rolling) drain(m *member, meanwhile func()) {
	r.Helper()
	ended := make(chan error, 1)
	go func() { ended <- m.Stop(r.Context()) }()
	if meanwhile != nil {
		meanwhile()
	}
	r.await("HAProxy takes the gateway out of service", func(stats map[string]haproxy.Stats) bool { return !stats[r.places[m.place].Name].InService })
	r.mu.Lock()
	r.serving = slices.DeleteFunc(r.serving, func(other *member) bool { return other == m })
	r.mu.Unlock()
	require.NoError(r, <-ended, "the exit after SIGTERM: %s", m.LogTail())
}

// roll replaces the gateways by those of another version, one after the other. The first
// one drains while meanwhile, if not nil, is called.
func (r *rolling) roll(name string, to *rig.Program, meanwhile func()) {
	r.Helper()
	for _, old := range r.members() {
		r.start(to)
		r.phase(name)
		r.drain(old, meanwhile)
		meanwhile = nil
	}
}
