package livetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/sessions"
)

// enough random histories to find any of the wrong stores below. The rarest takes
// about half of them.
const enough = 3000

func TestHistories(t *testing.T) { Histories(t, Memory) }

// A differential test that finds nothing proves nothing until it has found something.
// Each of these stores differs from the right one by the smallest possible step.
func TestHistories_finds(t *testing.T) {
	t.Parallel()
	for name, open := range mutants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range enough {
				found, err := diverge(t.Context(), Memory(t, sessions.LiveOptions{}), open(t), histories.Example(seed))
				require.NoError(t, err)
				if found != "" {
					t.Logf("found by history %d: %s", seed, found)
					return
				}
			}
			assert.Fail(t, "not found")
		})
	}
}

func mutants() map[string]func(testing.TB) Fixture {
	rules := func(change func(*sessions.LiveOptions)) func(testing.TB) Fixture {
		o := sessions.LiveOptions{}.WithDefaults()
		change(&o)
		return func(t testing.TB) Fixture { return Memory(t, o) }
	}
	wrapped := func(wrap func(sessions.Live) sessions.Live) func(testing.TB) Fixture {
		return func(t testing.TB) Fixture {
			f := Memory(t, sessions.LiveOptions{})
			f.Live = wrap(f.Live)
			return f
		}
	}
	return map[string]func(testing.TB) Fixture{
		"interval":     rules(func(o *sessions.LiveOptions) { o.RateInterval += time.Millisecond }),
		"tolerance":    rules(func(o *sessions.LiveOptions) { o.RateTolerance -= time.Millisecond }),
		"location_ttl": rules(func(o *sessions.LiveOptions) { o.LocationTTL += time.Millisecond }),
		"journey_ttl":  rules(func(o *sessions.LiveOptions) { o.JourneyTTL += time.Millisecond }),
		"radius":       rules(func(o *sessions.LiveOptions) { o.RadiusM += 0.6 }),
		"vague":        rules(func(o *sessions.LiveOptions) { o.Rules.VagueM += 0.1 }),
		"future":       rules(func(o *sessions.LiveOptions) { o.Rules.FutureMS++ }),
		"past":         rules(func(o *sessions.LiveOptions) { o.StaleAfter -= time.Millisecond }),

		"end_forgotten":     wrapped(func(l sessions.Live) sessions.Live { return endForgotten{l} }),
		"open_wakes":        wrapped(func(l sessions.Live) sessions.Live { return openWakes{l} }),
		"speed_forgotten":   wrapped(func(l sessions.Live) sessions.Live { return speedForgotten{l} }),
		"version_in_tenths": wrapped(func(l sessions.Live) sessions.Live { return versionInTenths{l} }),
		"meta_forgotten":    wrapped(func(l sessions.Live) sessions.Live { return metaForgotten{l} }),
	}
}

type endForgotten struct{ sessions.Live }

func (endForgotten) End(context.Context, sessions.Journey) error { return nil }

type openWakes struct{ sessions.Live }

// Open of the wrong store opens an ended journey as one that started a millisecond
// later.
func (o openWakes) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	opened, err := o.Live.Open(ctx, j)
	if err != nil || opened {
		return opened, err
	}
	j.StartedAt = j.StartedAt.Add(time.Millisecond)
	_, err = o.Live.Open(ctx, j)
	return false, err
}

type speedForgotten struct{ sessions.Live }

func (s speedForgotten) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	fix.SpeedKMH = nil
	return s.Live.Update(ctx, ref, fix)
}

type versionInTenths struct{ sessions.Live }

func (v versionInTenths) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	snap, err := v.Live.Latest(ctx, ref)
	snap.Version -= snap.Version % 100
	return snap, err
}

type metaForgotten struct{ sessions.Live }

func (metaForgotten) SetMeta(context.Context, sessions.ID, sessions.Meta) error { return nil }
