package chaosevents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool" // the test has a table of its own

	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/postgres"
)

// childVar holds a life as JSON, and makes this test binary run it.
const childVar = "DOORSTEP_CHAOS_LIFE"

// life is one process: what it is, and the step at which it kills itself.
type life struct {
	Number      int
	Worker      bool // else a gateway
	DatabaseURL string
	Endpoint    string
	PushURL     string
	Trap        string // a step; empty: none
	After       int    // at which pass of the step
}

const (
	bus       = "application-events"
	notify    = "journey-events-queue"
	analytics = "journey-analytics-queue"
	// lease and visibility are short, so that what a killed process held is soon free
	// again.
	lease      = 1500 * time.Millisecond
	visibility = 2 * time.Second
)

// The steps from a transition to the record that its event is published, and from a
// message to its deletion.
var (
	gatewaySteps = []string{
		"in the transaction", "committed, not answered", "claimed, not published", "half the batch published",
		"published, not marked", "while marking", "marked",
	}
	workerSteps = []string{"received, nothing done", "pushed, not marked", "marked, not deleted", "deleted"}
)

// at is called at each step. The pass that was set kills this process with SIGKILL.
func (l *life) at(step string) {
	if l.Trap == step && passings.Add(1) == int32(l.After) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

var passings atomic.Int32

func live(text string) error {
	var l life
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	repo, err := postgres.New(postgres.Options{URL: l.DatabaseURL, MaxConns: 6})
	if err != nil {
		return err
	}
	if l.Worker {
		return l.work(repo)
	}
	return l.serve(repo)
}

// serve is the part of a gateway that makes events: transitions by HTTP, and a relay.
func (l *life) serve(repo *postgres.Repository) error {
	publisher, err := aws.NewEventBridge(aws.EventBridgeOptions{
		Bus: bus, Endpoint: l.Endpoint, Timeout: time.Second, BreakerTimeout: 200 * time.Millisecond,
	})
	if err != nil {
		return err
	}
	relay, err := outbox.NewRelay(trappedStore{repo.Outbox(), l}, []outbox.Destination{{
		Name: outbox.Bus, To: trappedBus{publisher, l}, Timeout: time.Second, Lease: lease,
	}}, outbox.RelayOptions{InFlight: 4, DownCap: 300 * time.Millisecond, RetryBase: 50 * time.Millisecond})
	if err != nil {
		return err
	}
	go func() { _ = relay.Run(context.Background()) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("addr=%s\n", listener.Addr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := l.step(r.Context(), repo, sessions.ID(r.FormValue("id")), r.FormValue("step"))
		switch code := sessions.CodeOf(err); code {
		case "":
			l.at("committed, not answered")
			relay.Nudge()
		case sessions.DatabaseUnavailable:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusConflict)
			_, _ = fmt.Fprint(w, code)
		}
	}))
}

func (l *life) step(ctx context.Context, repo *postgres.Repository, id sessions.ID, step string) error {
	if step == "approach" {
		return approach(ctx, repo, id)
	}
	_, err := repo.Change(ctx, id, func(s *sessions.Session) ([]sessions.Event, error) {
		events, err := transition(s, step)
		if err == nil {
			l.at("in the transaction")
		}
		return events, err
	})
	return err
}

// approach records that the journey is arriving, as sessions.Service.Report does.
func approach(ctx context.Context, repo *postgres.Repository, id sessions.ID) error {
	s, err := repo.Session(ctx, id)
	if err == nil {
		_, err = repo.Record(ctx, sessions.Event{
			ID: sessions.ArrivingID(sessions.JourneyKey{SessionID: id, StartedAt: s.JourneyStartedAt}), Type: sessions.JourneyArriving,
			SessionID: id, TrainerID: s.TrainerID, StudentID: s.StudentID, At: time.Now(), JourneyStartedAt: s.JourneyStartedAt,
		})
	}
	return err
}

func transition(s *sessions.Session, step string) ([]sessions.Event, error) {
	switch step {
	case "start":
		return s.Start("", time.Now())
	case "stop":
		return s.Stop(sessions.EndCancelled, time.Now())
	case "arrive":
		return s.Arrive(time.Now())
	}
	return nil, errors.New("no such step")
}

type trappedStore struct {
	*postgres.Outbox
	life *life
}

func (s trappedStore) Claim(ctx context.Context, look outbox.Look) (outbox.Claimed, error) {
	claimed, err := s.Outbox.Claim(ctx, look)
	if len(claimed.Rows) > 0 {
		s.life.at("claimed, not published")
	}
	return claimed, err
}

func (s trappedStore) Done(ctx context.Context, to string, seqs []int64) error {
	s.life.at("published, not marked")
	if s.life.Trap == "while marking" {
		time.AfterFunc(500*time.Microsecond, func() { s.life.at("while marking") })
	}
	err := s.Outbox.Done(ctx, to, seqs)
	if err == nil {
		s.life.at("marked")
	}
	return err
}

type trappedBus struct {
	*aws.EventBridge
	life *life
}

func (b trappedBus) Publish(ctx context.Context, rows []outbox.Row) []error {
	if b.life.Trap == "half the batch published" {
		b.EventBridge.Publish(ctx, rows[:(len(rows)+1)/2])
		b.life.at("half the batch published")
	}
	return b.EventBridge.Publish(ctx, rows)
}

// work is a worker with two consumers: one with an effect outside of PostgreSQL, which
// Once limits to one, and one whose effect is a row.
func (l *life) work(repo *postgres.Repository) error {
	pool, err := pgxpool.New(context.Background(), l.DatabaseURL)
	if err != nil {
		return err
	}
	once := postgres.NewOnce(repo, lease)
	push := handler(func(ctx context.Context, e sessions.Event) error {
		l.at("received, nothing done")
		err := once.Once(ctx, "notify", e.ID, func(ctx context.Context) error {
			err := l.push(ctx, e.ID)
			l.at("pushed, not marked")
			return err
		})
		if err == nil {
			l.at("marked, not deleted")
		}
		return err
	})
	row := handler(func(ctx context.Context, e sessions.Event) error {
		_, err := pool.Exec(ctx, `INSERT INTO chaos_rows VALUES ($1) ON CONFLICT DO NOTHING`, string(e.ID))
		return err
	})
	// One at a time, so that a kill is between one push and its record.
	first, err := l.consumer("notify", notify, 1, push)
	if err != nil {
		return err
	}
	second, err := l.consumer("analytics", analytics, 5, row)
	if err != nil {
		return err
	}
	fmt.Println("addr=none")
	go func() { _ = first.Run(context.Background()) }()
	return second.Run(context.Background())
}

func (l *life) consumer(name, queue string, concurrency int, h outbox.Handler) (*aws.Consumer, error) {
	return aws.NewConsumer(aws.ConsumerOptions{
		Name: name, Queue: queue, Endpoint: l.Endpoint, Concurrency: concurrency, Visibility: visibility,
		CallTimeout: time.Second, RetryBase: time.Nanosecond, RetryCap: time.Second, Metrics: passedBy{l},
	}, h)
}

// passedBy is told of a message's deletion.
type passedBy struct{ life *life }

func (p passedBy) MessageHandled(consumer, result string, _ time.Duration) {
	if consumer == "notify" && result == "done" {
		p.life.at("deleted")
	}
}

// push calls the push service.
func (l *life) push(ctx context.Context, event sessions.ID) error {
	query := url.Values{"event": {string(event)}, "life": {fmt.Sprint(l.Number)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.PushURL+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

type handler func(context.Context, sessions.Event) error

func (h handler) Handle(ctx context.Context, e sessions.Event) error { return h(ctx, e) }
