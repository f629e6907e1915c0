package phones_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/bench/verify/phones"
	"doorstep/internal/pause"
	"doorstep/internal/phoneapps"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/internal/servers/valkeytest"
	"doorstep/sessions"
)

var (
	day    = flag.Int("day", 600, "points of the long backlog; 17280 are 24 hours at one in 5 s")
	outage = flag.Duration("outage", 2*time.Second, "how long a store is away")
	out    = flag.String("table", "", "file for the table")
)

// inJourney is how long a journey has run when its phone's queue ends. What is in the
// queue from before its start is dropped.
const inJourney = 12 * time.Second

// compress is how much shorter the pauses of the apps are made.
const compress = 50

// lab is a built gateway on real stores.
type lab struct {
	gateway  *rig.Gateway
	valkey   *valkeyserver.Server
	database *postgrestest.Server
	admin    *rig.Caller
	http     *http.Client
	away     sync.WaitGroup // stores that are away
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		valkey: valkeytest.Private(t, valkeyserver.Valkey), database: postgrestest.Private(t),
		http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	program, err := rig.Build(t.Context())
	require.NoError(t, err)
	t.Cleanup(program.Remove)
	settings := []string{
		"VALKEY_URL=" + l.valkey.URL(), "DATABASE_URL=" + l.database.New(t), "JWT_SECRET=" + rig.Secret, "PUBLIC_URL=http://127.0.0.1:1",
	}
	require.NoError(t, program.Run(t.Context(), settings, "migrate"))
	l.gateway, err = program.Start(t.Context(), settings...)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.gateway.Kill()) })
	l.admin, err = rig.NewCaller(sessions.Admin, l.http)
	require.NoError(t, err)
	return l
}

// pilot is a trainer's journey, and the device that reports it.
type pilot struct {
	*rig.Journey
	lab    *lab
	device string
	target phones.Target
}

// begin books and starts a journey, and makes the device.
func (l *lab) begin(ctx context.Context, t *testing.T, app phoneapps.App) *pilot {
	t.Helper()
	journey, err := rig.NewJourney(home, l.http)
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, journey.Book(ctx, l.gateway.URL(), l.admin).Status)
	made := journey.Trainer.Do(ctx, http.MethodPost, l.gateway.URL(), "/me/devices", map[string]string{"format": app.Format(), "name": string(app)})
	require.Equal(t, http.StatusCreated, made.Status, "%+v", made)
	var device struct{ DeviceID, Secret, User string }
	require.NoError(t, json.Unmarshal(made.Data, &device))
	require.Equal(t, http.StatusCreated, journey.Start(ctx, l.gateway.URL()).Status)
	p := &pilot{Journey: journey, lab: l, device: device.DeviceID}
	p.target = phones.Target{
		URL: l.gateway.URL() + "/api/v1/ingest", Login: phoneapps.Login{User: device.User, Secret: device.Secret}, HTTP: l.http, Pin: p.pin,
	}
	return p
}

// pin reads when the live location was recorded; zero where there is none. While a store
// is away nobody need see it, so it waits for that.
func (p *pilot) pin(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, *outage+10*time.Second)
	defer cancel()
	for {
		live := p.Live(ctx, p.lab.gateway.URL(), "", 0)
		var body struct {
			Location *struct{ Timestamp time.Time }
			Degraded bool
		}
		if live.Status == http.StatusOK && json.Unmarshal(live.Data, &body) == nil && !body.Degraded {
			if body.Location == nil {
				return time.Time{}, nil
			}
			return body.Location.Timestamp, nil
		}
		if err := pause.For(ctx, 20*time.Millisecond); err != nil {
			return time.Time{}, errors.Join(err, live.Err)
		}
	}
}

// once calls break before the request n.
func once(n int, breakIt func(context.Context) error) func(context.Context, int) error {
	var done sync.Once
	return func(ctx context.Context, request int) (err error) {
		if request >= n {
			done.Do(func() { err = breakIt(ctx) })
		}
		return err
	}
}

// takeAway takes a store away for a while.
func (l *lab) takeAway(pause, resume func() error) func(context.Context) error {
	return func(context.Context) error {
		l.away.Add(1)
		time.AfterFunc(*outage, func() { _ = resume(); l.away.Done() })
		return pause()
	}
}

// revoke deletes the device, and waits until the gateway has felt it.
func (p *pilot) revoke(ctx context.Context) error {
	p.Trainer.Do(ctx, http.MethodDelete, p.lab.gateway.URL(), "/me/devices/"+p.device, nil)
	time.Sleep(time.Second)
	return ctx.Err()
}

// TestGateway plays every app through every scenario at the built gateway: each queue
// empties, the present is shown, the pin never goes back, and nothing but a revoked
// secret is answered 4xx.
//
//nolint:paralleltest // it takes stores away
func TestGateway(t *testing.T) {
	l := newLab(t)
	ctx := t.Context()
	scenarios := func(app phoneapps.App, p *pilot, now time.Time) []phones.Scenario {
		n := 5
		if app.Most() != 1 {
			n = 0 // its one request
		}
		list := phones.Scenarios(home, now, *day, time.Second)
		burst := list[0].Points
		return append(list,
			phones.Scenario{Name: "the journey ends", Points: burst, Before: once(n, func(ctx context.Context) error { return p.Stop(ctx, l.gateway.URL()).Err })},
			phones.Scenario{Name: "the secret is revoked", Points: burst, GiveUp: 10, Before: once(n, p.revoke)},
			phones.Scenario{Name: "Valkey away", Points: burst, Compress: compress, Before: once(n, l.takeAway(l.valkey.Pause, l.valkey.Resume))},
			phones.Scenario{Name: "PostgreSQL away", Points: burst, Compress: compress, Before: once(n, l.takeAway(l.database.Pause, l.database.Resume))},
		)
	}
	count := len(scenarios(phoneapps.Overland, nil, time.Now()))
	var pilots []*pilot
	for _, app := range phoneapps.Apps {
		for range count {
			pilots = append(pilots, l.begin(ctx, t, app))
		}
	}
	time.Sleep(inJourney)
	var results []phones.Result
	for i, p := range pilots {
		scenario := scenarios(phoneapps.Apps[i/count], p, time.Now())[i%count]
		r, err := phones.Play(ctx, phoneapps.Apps[i/count], p.target, scenario)
		require.NoError(t, err)
		l.away.Wait() // or the next play would find it away
		results = append(results, r)
		judge(t, r)
	}
	table := phones.Table(results)
	t.Log("\n" + table)
	if *out != "" {
		require.NoError(t, os.WriteFile(*out, []byte(table), 0o600))
	}
}

func judge(t *testing.T, r phones.Result) {
	t.Helper()
	assert.False(t, r.PinWentBack, "%+v", r)
	if r.Scenario == "the secret is revoked" {
		assert.Equal(t, r.FourXX(), r.Refused["401"], "%+v", r)
		return
	}
	assert.Zero(t, r.Left+r.Lost+r.FourXX(), "%+v", r)
	assert.GreaterOrEqual(t, r.Present, time.Duration(0), "%+v", r)
	if r.Scenario != "the journey ends" {
		assert.False(t, r.PinIsOld, "%+v", r)
	}
}
