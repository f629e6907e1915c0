package edge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"doorstep/bench/rig"
	"doorstep/client"
	"doorstep/geo"
	"doorstep/internal/pause"
)

// travel is one journey while it is played.
type travel struct {
	*world
	*rig.Journey
	home int
}

// ride sends fixes to the gateway at home until the world closes, and stops the journey.
// It returns when the fix of each version was sent, while all ways were whole.
func (t *travel) ride(ctx context.Context) (sent map[int64]time.Time, err error) {
	base, began := t.regions[t.home].base(), time.Now()
	sent = map[int64]time.Time{}
	for open := true; open; {
		_ = pause.For(ctx, *pace)
		select {
		case <-t.closing:
			open = false
			continue
		case <-ctx.Done():
			return sent, ctx.Err()
		default:
		}
		at := time.Now()
		a := t.Update(ctx, base, geo.Offset(t.Home, 0, 50_000-10*time.Since(began).Seconds()))
		phase := t.updated(t.home, a)
		switch a.Status {
		case http.StatusCreated:
			var receipt struct{ Seq int64 }
			if err := json.Unmarshal(a.Data, &receipt); err != nil {
				return sent, err
			}
			if phase == beforeCut {
				sent[receipt.Seq] = at
			}
		case http.StatusAccepted:
		default:
			return sent, fmt.Errorf("an update in %s was answered %s: %w", names[t.home], a.Label(), a.Err)
		}
	}
	for failing := time.Now(); ; {
		a := t.Stop(ctx, base)
		if a.Status == http.StatusOK || a.Code == "NO_ACTIVE_JOURNEY" {
			return sent, nil
		}
		if time.Since(failing) > patience {
			return sent, fmt.Errorf("the stop in %s was answered %s: %w", names[t.home], a.Label(), a.Err)
		}
		_ = pause.For(ctx, *pace)
	}
}

// longestWait is how long a student's app asks to wait.
const longestWait = 20 * time.Second

// watch is a student's app that polls a gateway until it is shown the end. What it sees
// must never be older than what it saw. It returns when it saw each version.
func (t *travel) watch(ctx context.Context, at int) (seen map[int64]time.Time, err error) {
	seen = map[int64]time.Time{}
	etag, last, wait, closing := "", int64(0), 0, time.Time{}
	for {
		a := t.Live(ctx, t.regions[at].base(), etag, wait)
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return seen, err
		}
		var v client.View
		if a.Status == http.StatusOK {
			if err := json.Unmarshal(a.Data, &v); err != nil {
				return seen, err
			}
		}
		t.read(way{t.home, at}, a, v.Degraded)
		switch {
		case a.Status == http.StatusOK && !v.Degraded:
			version := a.Version()
			if version <= last && wait > 0 {
				return seen, fmt.Errorf("a student in %s had version %d of a journey in %s and was shown %s", names[at], last, names[t.home], a.ETag)
			}
			etag, last, wait = a.ETag, version, int(longestWait/time.Second)
			seen[version] = now
			if !v.Active {
				return seen, nil
			}
		case a.Status == http.StatusNotModified && a.Took > time.Second:
		case a.Status == http.StatusOK, a.Status == http.StatusNotModified, a.Status == http.StatusServiceUnavailable:
			_ = pause.For(ctx, 200*time.Millisecond)
		default:
			return seen, fmt.Errorf("a student in %s was answered %s of a journey in %s: %w", names[at], a.Label(), names[t.home], a.Err)
		}
		select {
		case <-t.closing:
			if closing.IsZero() {
				closing = now
			}
			if now.Sub(closing) > patience {
				return seen, fmt.Errorf("a student in %s has not seen the end of a journey in %s: %s", names[at], names[t.home], a.Label())
			}
		default:
		}
	}
}
