package phones

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"doorstep/internal/pause"
	"doorstep/internal/phoneapps"
)

// Target is a gateway and a device there.
type Target struct {
	URL   string // of the ingest calls, without the format: http://host/api/v1/ingest
	Login phoneapps.Login
	HTTP  *http.Client
	// Pin reads when the live location was recorded; zero where there is none. Nil
	// where nobody looks.
	Pin func(ctx context.Context) (time.Time, error)
}

// Scenario is what a phone goes through with a queue.
type Scenario struct {
	Name   string
	Points []phoneapps.Point // in the queue at the start, oldest first
	// LoseAnswers and Refuse are shares of the requests: those whose answer is lost on
	// the way, and those that a proxy answers with 503.
	LoseAnswers, Refuse float64
	RestartEvery        int // requests; 0 for never
	// Live is how many more fixes the receiver has while the queue empties, and LiveEvery
	// the time between two. They are a second apart by the phone's clock.
	Live      int
	LiveEvery time.Duration
	// Before is called before each request, counted from 0; it may break something.
	// Nil for nothing.
	Before func(ctx context.Context, request int) error
	Seed   uint64
	// Compress divides the pauses of the app; 0 leaves them out.
	Compress float64
	// GiveUp ends the play after so many answers 4xx without one 2xx: the app would try for
	// ever. 0 means 20.
	GiveUp int
}

// Result is a line of the table.
type Result struct {
	App      phoneapps.App
	Scenario string
	Points   int
	Requests int
	Bytes    int64 // of bodies and queries sent
	// Present and Empty are how long it took, the app's pauses in full, until a
	// request with the newest point that the app had was taken, and until the queue was
	// empty. Negative where that never came.
	Present, Empty time.Duration
	Refused        map[string]int // by status, "no answer"
	Left, Lost     int            // points in the queue at the end, and thrown away
	Stopped        bool
	PinWentBack    bool
	PinIsOld       bool // it did not show the newest point when that had been taken
}

// FourXX counts the answers that blind a phone.
func (r Result) FourXX() (n int) {
	for status, count := range r.Refused {
		if strings.HasPrefix(status, "4") {
			n += count
		}
	}
	return n
}

// maxRequests bounds a play: four times a day's points, sent one by one.
const maxRequests = 4 * 17_280

// Play lets an app empty its queue at a gateway. An error is one of the play and not
// of the gateway.
func Play(ctx context.Context, app phoneapps.App, t Target, s Scenario) (Result, error) {
	p := play{
		target: t, scenario: s, client: NewClient(app, t.Login), rng: rand.New(rand.NewPCG(s.Seed, 1)),
		result: Result{App: app, Scenario: s.Name, Points: len(s.Points), Refused: map[string]int{}, Present: -1, Empty: -1},
	}
	for _, point := range s.Points {
		p.client.Record(point)
	}
	err := p.run(ctx)
	p.result.Left, p.result.Lost, p.result.Stopped = p.client.Queued(), p.client.Lost, p.client.Stopped()
	return p.result, err
}

type play struct {
	target   Target
	scenario Scenario
	client   *Client
	rng      *rand.Rand
	result   Result
	elapsed  time.Duration // with the app's pauses in full
	denied   int           // answers 4xx since the last 2xx
	pin      time.Time
	began    time.Time
	live     int // of Scenario.Live
}

func (p *play) run(ctx context.Context) error {
	p.began = time.Now()
	for (p.client.Queued() > 0 || p.live < p.scenario.Live) && p.denied < cmp.Or(p.scenario.GiveUp, 20) {
		if err := p.receive(ctx); err != nil {
			return err
		}
		if p.client.Queued() == 0 {
			continue
		}
		if p.result.Requests == maxRequests {
			return fmt.Errorf("phones: %s, %s: the queue does not empty: %v", p.client.App, p.scenario.Name, p.result.Refused)
		}
		if s := p.scenario; s.Before != nil {
			if err := s.Before(ctx, p.result.Requests); err != nil {
				return err
			}
		}
		if err := p.step(ctx); err != nil {
			return err
		}
	}
	if p.client.Queued() == 0 {
		p.result.Empty = p.elapsed
	}
	return p.look(ctx, time.Time{})
}

// receive gives the app the fixes that have come meanwhile. With an empty queue it waits
// for the next.
func (p *play) receive(ctx context.Context) error {
	for s := p.scenario; p.live < s.Live; p.live++ {
		if left := time.Until(p.began.Add(time.Duration(p.live+1) * s.LiveEvery)); left > 0 {
			if p.client.Queued() > 0 {
				return ctx.Err()
			}
			p.elapsed += left
			if err := pause.For(ctx, left); err != nil {
				return err
			}
		}
		p.client.Record(onward(s.Points[len(s.Points)-1], p.live+1))
	}
	return ctx.Err()
}

// wake is how long an app that waits for an event waits: its next location.
const wake = 5 * time.Second

func (p *play) step(ctx context.Context) error {
	request, newest, pause, ok := p.client.Next()
	if !ok { // a new location is an event; it is in the queue of the next play
		p.elapsed += wake
		p.client.Wake()
		return p.pause(ctx, wake)
	}
	if err := p.pause(ctx, pause); err != nil {
		return err
	}
	p.elapsed += pause
	p.result.Requests++
	if every := p.scenario.RestartEvery; every > 0 && p.result.Requests%every == 0 {
		_, _, _ = p.send(ctx, request) // the app dies while it waits
		p.client.Restart()
		return nil
	}
	began := time.Now()
	status, body, err := p.send(ctx, request)
	p.elapsed += time.Since(began)
	if err != nil {
		return err
	}
	p.count(status)
	before := p.client.Queued()
	p.client.Answered(status, body)
	taken := p.client.Queued() < before && status/100 == http.StatusOK/100
	if taken && !newest.At.Before(p.client.Newest()) && (p.result.Present < 0 || p.scenario.Live > 0) {
		if p.result.Present < 0 {
			p.result.Present = p.elapsed
		}
		return p.look(ctx, newest.At)
	}
	if p.result.Requests%500 == 0 {
		return p.look(ctx, time.Time{})
	}
	return nil
}

func (p *play) count(status int) {
	switch status / 100 {
	case http.StatusBadRequest / 100:
		p.denied++
	case http.StatusOK / 100:
		p.denied = 0
	}
	switch {
	case status == 0:
		p.result.Refused["no answer"]++
	case status/100 != http.StatusOK/100:
		p.result.Refused[fmt.Sprint(status)]++
	}
}

// send sends a request. Status 0 is no answer.
func (p *play) send(ctx context.Context, q phoneapps.Request) (status int, body []byte, err error) {
	p.result.Bytes += int64(len(q.Query) + len(q.Body))
	if p.rng.Float64() < p.scenario.Refuse {
		return http.StatusServiceUnavailable, nil, nil
	}
	url := p.target.URL + "/" + p.client.App.Format()
	if q.Query != "" {
		url += "?" + q.Query
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(q.Body))
	if err != nil {
		return 0, nil, err
	}
	r.Header = q.Header
	answer, err := p.target.HTTP.Do(r)
	if err != nil {
		return 0, nil, ctx.Err()
	}
	body, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err = errors.Join(err, answer.Body.Close()); err != nil || p.rng.Float64() < p.scenario.LoseAnswers {
		return 0, nil, ctx.Err()
	}
	return answer.StatusCode, body, nil
}

// pause waits as the app does, compressed.
func (p *play) pause(ctx context.Context, d time.Duration) error {
	if p.scenario.Compress == 0 || d == 0 {
		return nil
	}
	return pause.For(ctx, time.Duration(float64(d)/p.scenario.Compress))
}

// pinAge is how old the pin may be beside the newest point: a fix in 5 s is stored,
// and formats tell whole seconds.
const pinAge = 6 * time.Second

// look reads the pin, which may only go on, and must be at present unless that is
// zero.
func (p *play) look(ctx context.Context, present time.Time) error {
	if p.target.Pin == nil {
		return nil
	}
	pin, err := p.target.Pin(ctx)
	if err != nil {
		return err
	}
	if !pin.IsZero() {
		p.result.PinWentBack = p.result.PinWentBack || pin.Before(p.pin)
		p.pin = pin
	}
	if !present.IsZero() && pin.Before(present.Add(-pinAge)) {
		p.result.PinIsOld = true
	}
	return nil
}

// Table writes results as Markdown.
func Table(results []Result) string {
	var b bytes.Buffer
	b.WriteString("| Scenario | App | Points | Requests | kB | To the present | Queue empty | Not 2xx | Left | Lost |\n|---|---|--:|--:|--:|--:|--:|---|--:|--:|\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s | %s | %s | %d | %d |\n",
			r.Scenario, r.App, r.Points, r.Requests, r.Bytes/1000, took(r.Present), took(r.Empty), refusals(r.Refused), r.Left, r.Lost)
	}
	return b.String()
}

func took(d time.Duration) string {
	if d < 0 {
		return "never"
	}
	return d.Round(100 * time.Millisecond).String()
}

func refusals(counts map[string]int) string {
	var words []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s: %d", status, counts[status]))
	}
	return cmp.Or(strings.Join(words, ", "), "–")
}
