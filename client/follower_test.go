package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/client"
)

// read is one scripted live read, and how long the gateway holds it.
type read struct {
	view client.View
	err  error
	took time.Duration
}

func seen(etag string, active bool) read {
	return read{view: client.View{ETag: etag, Active: active}}
}

var nothing = read{view: client.View{NotModified: true}, took: 25 * time.Second}

// asked is one request of a follower.
type asked struct {
	client.ReadOptions
	at time.Duration
}

// journey gives scripted live reads.
type journey struct {
	began time.Time
	reads []read
	asked []asked
}

func (j *journey) Live(ctx context.Context, _ string, o client.ReadOptions) (client.View, error) {
	j.asked = append(j.asked, asked{o, time.Since(j.began)})
	if len(j.asked) > len(j.reads) {
		<-ctx.Done()
		return client.View{}, ctx.Err()
	}
	r := j.reads[len(j.asked)-1]
	time.Sleep(r.took)
	return r.view, r.err
}

// follow runs a follower for ten minutes at most and returns what it yielded.
func follow(t *testing.T, f client.Follower, reads ...read) (j *journey, etags []string, errs []error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	j = &journey{began: time.Now(), reads: reads}
	f.Client, f.SessionID = j, "s"
	for v, err := range f.Views(ctx) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		etags = append(etags, v.ETag)
	}
	return j, etags, errs
}

func TestFollower_Views(t *testing.T) {
	bubble(t, func(t *testing.T) {
		j, etags, errs := follow(t, client.Follower{}, seen("1", false), nothing, seen("2", true), seen("3", true), nothing, seen("4", false))
		assert.Equal(t, []string{"1", "2", "3", "4"}, etags, "it waits for the beginning, and ends with the journey")
		assert.Empty(t, errs)
		wait := 25 * time.Second
		assert.Equal(t, []asked{
			{client.ReadOptions{}, 0},
			{client.ReadOptions{ETag: "1", Wait: wait}, 0},
			{client.ReadOptions{ETag: "1", Wait: wait}, 25 * time.Second},
			{client.ReadOptions{ETag: "2", Wait: wait}, 25 * time.Second},
			{client.ReadOptions{ETag: "3", Wait: wait}, 25 * time.Second},
			{client.ReadOptions{ETag: "3", Wait: wait}, 50 * time.Second},
		}, j.asked)
	})
}

func TestFollower_Views_of_a_journey_that_has_ended(t *testing.T) {
	bubble(t, func(t *testing.T) {
		j, etags, _ := follow(t, client.Follower{Begun: true}, seen("9", false))
		assert.Equal(t, []string{"9"}, etags)
		assert.Len(t, j.asked, 1)
	})
}

func TestFollower_Views_fails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		overloaded := &client.Error{Status: 503, Code: client.Overloaded}
		waits := &client.Error{Status: 429, Code: client.TooManyWaits, RetryAfter: 5 * time.Second}
		forbidden := &client.Error{Status: 403, Code: client.Forbidden}
		j, etags, errs := follow(t, client.Follower{}, seen("1", true), read{err: errLost}, read{err: overloaded}, read{err: waits}, seen("2", true), read{err: forbidden}, seen("3", true))
		assert.Equal(t, []string{"1", "2"}, etags)
		assert.Equal(t, []error{errLost, overloaded, waits, forbidden}, errs, "the last one no repeat mends")
		between := func(i int, least, most time.Duration) {
			gap := j.asked[i+1].at - j.asked[i].at
			assert.True(t, gap >= least && gap < most, "%v is not in [%v, %v)", gap, least, most)
		}
		between(1, 500*time.Millisecond, 1500*time.Millisecond)
		between(2, time.Second, 3*time.Second)
		between(3, 5*time.Second, 6*time.Second)
		assert.Equal(t, "1", j.asked[4].ETag, "what it knew before the failures")
	})
}

func TestFollower_Views_degraded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		degraded := read{view: client.View{Active: true, Degraded: true}}
		j, etags, _ := follow(t, client.Follower{}, degraded, seen("1", true), degraded, seen("2", false))
		assert.Equal(t, []string{"", "1", "", "2"}, etags)
		assert.Equal(t, []string{"", "", "1", "1"}, []string{j.asked[0].ETag, j.asked[1].ETag, j.asked[2].ETag, j.asked[3].ETag})
		assert.GreaterOrEqual(t, j.asked[1].at, 500*time.Millisecond)
	})
}

// A gateway that drains answers its waiters early; a proxy may answer at once,
// always.
func TestFollower_Views_never_loops_hot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		early := read{view: client.View{NotModified: true}, took: time.Millisecond}
		for name, r := range map[string]read{"304": early, "the same again": seen("1", true), "no ETag": seen("", true)} {
			first := seen(r.view.ETag, true)
			if r.view.NotModified {
				first = seen("1", true)
			}
			j, _, _ := follow(t, client.Follower{}, first, r, r, r, seen("2", false))
			assert.GreaterOrEqual(t, j.asked[4].at, 3*time.Second, name)
		}
	})
}

func TestFollower_Views_breaks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		j := &journey{began: time.Now(), reads: []read{seen("1", true), {err: errLost}}}
		for _, err := range (client.Follower{Client: j, Wait: 10 * time.Second}).Views(t.Context()) {
			if err != nil {
				break
			}
		}
		require.Len(t, j.asked, 2)
		assert.Equal(t, 10*time.Second, j.asked[1].Wait)
	})
}
