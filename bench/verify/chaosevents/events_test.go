package chaosevents

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5" // it looks behind the outbox, which no code of the product does
	"github.com/stretchr/testify/require"

	"doorstep/geo"
	"doorstep/internal/servers/awstest"
	"doorstep/internal/servers/postgrestest"
	"doorstep/internal/servers/process"
	"doorstep/sessions"
	"doorstep/sessions/outbox"
	"doorstep/sessions/outbox/aws"
	"doorstep/sessions/postgres"
)

var (
	journeys       = flag.Int("journeys", 100, "journeys under kills")
	outageJourneys = flag.Int("outage-journeys", 300, "journeys while the bus is down")
	outage         = flag.Duration("outage", 4*time.Second, "the length of a simulated hour in which the bus is down")
	seed           = flag.Uint64("seed", 1, "decides which process is killed when")
)

func TestMain(m *testing.M) {
	awstest.SetEnv(func(name, value string) { _ = os.Setenv(name, value) })
	if text := os.Getenv(childVar); text != "" {
		fmt.Fprintln(os.Stderr, live(text))
		os.Exit(1)
	}
	postgrestest.Main(m)
}

// world is what outlives the processes.
type world struct {
	database *postgrestest.Server
	repo     *postgres.Repository
	aws      *awstest.Server
	push     *httptest.Server

	mu     sync.Mutex
	pushes []Push
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{database: postgrestest.Private(t), aws: awstest.Start()}
	t.Cleanup(w.aws.Close)
	require.NoError(t, postgres.Migrate(t.Context(), w.database.DSN(), nil))
	w.sql(t, func(conn *pgx.Conn) error {
		_, err := conn.Exec(t.Context(), `CREATE TABLE chaos_rows (event_id uuid PRIMARY KEY)`)
		return err
	})
	var err error
	w.repo, err = postgres.New(postgres.Options{URL: w.database.DSN()})
	require.NoError(t, err)
	t.Cleanup(w.repo.Close)
	w.aws.Bus(bus)
	for _, queue := range []string{notify, analytics} {
		w.aws.Queue(queue, visibility, 1000)
		w.aws.Rule(bus, aws.Source, queue, string(sessions.JourneyStarted), string(sessions.JourneyArriving), string(sessions.JourneyEnded))
	}
	w.push = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		life, _ := strconv.Atoi(r.FormValue("life"))
		w.pushed(sessions.ID(r.FormValue("event")), life)
	}))
	t.Cleanup(w.push.Close)
	return w
}

func (w *world) pushed(event sessions.ID, life int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushes = append(w.pushes, Push{event, life})
}

func (w *world) sql(t *testing.T, do func(*pgx.Conn) error) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), w.database.DSN())
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	require.NoError(t, do(conn))
}

func (w *world) book(ctx context.Context) (sessions.ID, error) {
	s, _, err := w.repo.Create(ctx, sessions.Session{
		ID: sessions.NewID(), TrainerID: sessions.NewID(), StudentID: sessions.NewID(), Status: sessions.Scheduled,
		Home: geo.MustPoint(12.9763472, 77.5929284), Mode: sessions.Car, CreatedAt: time.Now(),
	})
	return s.ID, err
}

// history reads what all parts have recorded.
func (w *world) history(t *testing.T) History {
	t.Helper()
	h := History{Journeys: map[sessions.ID]int{}, Rows: map[sessions.ID]int{}, Fatal: map[int]bool{}}
	w.sql(t, func(conn *pgx.Conn) error {
		rows, err := conn.Query(t.Context(), `SELECT type, detail FROM outbox ORDER BY seq`)
		if err != nil {
			return err
		}
		for rows.Next() {
			var eventType string
			var detail []byte
			if err := rows.Scan(&eventType, &detail); err != nil {
				return err
			}
			e, err := sessions.ParseEvent(sessions.EventType(eventType), detail)
			if err != nil {
				return err
			}
			h.Written = append(h.Written, Arrival{e, string(e.Detail())})
		}
		if rows, err = conn.Query(t.Context(), `SELECT event_id::text FROM chaos_rows`); err != nil {
			return err
		}
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				return err
			}
			h.Rows[sessions.ID(id)]++
		}
		return conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL`).Scan(&h.Dead)
	})
	for _, entry := range w.aws.Events() {
		e, err := sessions.ParseEvent(sessions.EventType(entry.DetailType), []byte(entry.Detail))
		require.NoError(t, err)
		h.Bus = append(h.Bus, Arrival{e, entry.Detail})
	}
	h.Dead += len(w.aws.Messages(notify+"-dlq")) + len(w.aws.Messages(analytics+"-dlq"))
	w.mu.Lock()
	defer w.mu.Unlock()
	h.Pushes = slices.Clone(w.pushes)
	return h
}

func (w *world) backlog(t *testing.T) (outbox.Backlog, error) {
	t.Helper()
	list, err := w.repo.Outbox().Backlog(t.Context(), nil)
	if err != nil {
		return outbox.Backlog{}, err
	}
	return list[0], nil
}

// drained waits until no event is on its way any more.
func (w *world) drained(t *testing.T, within time.Duration) {
	t.Helper()
	var waiting, messages int
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		at, err := w.backlog(t)
		if err != nil {
			continue
		}
		waiting = at.Waiting
		messages = w.aws.Waiting(notify) + w.aws.Waiting(analytics)
		if waiting+messages == 0 {
			return
		}
	}
	t.Fatalf("after %s there are %d events in the outbox and %d messages in queues", within, waiting, messages)
}

// killing runs processes, which are killed, and starts new ones.
type killing struct {
	*world
	t      *testing.T
	random *rand.Rand

	mu     sync.Mutex
	number int
	addrs  map[int]string // of the gateways that run
	died   map[string]int // by how
	fatal  map[int]bool
	traps  map[bool]int // how many processes were planned, workers and gateways
}

// start starts a process and waits until it prints its address.
func (k *killing) start(l life) (*process.Process, string) {
	l.DatabaseURL, l.Endpoint, l.PushURL = k.database.DSN(), k.aws.URL(), k.push.URL
	text, err := json.Marshal(l)
	require.NoError(k.t, err)
	cmd := exec.Command(os.Args[0]) // it must not die with a context
	cmd.Env = append(os.Environ(), childVar+"="+string(text))
	cmd.Stderr = os.Stderr
	out, in := io.Pipe()
	cmd.Stdout = in
	process, err := process.Start(cmd)
	require.NoError(k.t, err)
	go func() { // a process that dies before it prints ends the wait
		<-process.Done()
		_ = in.Close()
	}()
	line, _ := bufio.NewReader(out).ReadString('\n')
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return process, strings.TrimSpace(strings.TrimPrefix(line, "addr="))
}

// slot starts one process after the other until stop.
func (k *killing) slot(worker bool, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		l, killAfter := k.plan(worker)
		process, addr := k.start(l)
		k.set(l, addr)
		var timer <-chan time.Time
		if l.Trap == "" {
			timer = time.After(killAfter)
		} else {
			timer = time.After(5 * time.Second) // a step that is never reached
		}
		how := l.Trap
		select {
		case <-process.Done():
		case <-timer:
			how = "at random"
			_ = process.Kill()
		case <-stop:
			how = "at random"
			_ = process.Kill()
		}
		k.end(l, how)
	}
}

// plan has two of three processes of a kind killed at a step, each step in turn, and
// the third at random.
func (k *killing) plan(worker bool) (life, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.number++
	l := life{Number: k.number, Worker: worker, After: 1 + k.random.IntN(4)}
	steps := gatewaySteps
	if worker {
		steps = workerSteps
	}
	if n := k.traps[worker]; n%3 != 2 {
		l.Trap = steps[(n-n/3)%len(steps)]
	}
	k.traps[worker]++
	return l, 50*time.Millisecond + time.Duration(k.random.IntN(600))*time.Millisecond
}

func (k *killing) set(l life, addr string) {
	if !l.Worker && addr != "" {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.addrs[l.Number] = addr
	}
}

func (k *killing) end(l life, how string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.addrs, l.Number)
	k.died[how]++
	if l.Worker {
		k.fatal[l.Number] = true
	}
}

// covered reports whether a process was killed at every step.
func (k *killing) covered() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !slices.ContainsFunc(slices.Concat(gatewaySteps, workerSteps), func(step string) bool { return k.died[step] == 0 })
}

// gateway returns the address of a gateway that runs, as far as is known.
func (k *killing) gateway() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	addrs := slices.Collect(maps.Values(k.addrs))
	if len(addrs) == 0 {
		return ""
	}
	return addrs[k.random.IntN(len(addrs))]
}

var client = &http.Client{Timeout: 5 * time.Second}

// step asks gateways until one answers. A refusal counts as success only when an
// earlier try may have done the step.
func (k *killing) step(id sessions.ID, step string) error {
	unknown := false
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		addr := k.gateway()
		if addr == "" {
			continue
		}
		res, err := client.PostForm("http://"+addr+"/", map[string][]string{"id": {string(id)}, "step": {step}})
		if err != nil {
			unknown = true
			continue
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		switch {
		case res.StatusCode == http.StatusOK:
			return nil
		case res.StatusCode == http.StatusServiceUnavailable:
			unknown = true
		case unknown:
			return nil
		default:
			return fmt.Errorf("%s %s: %s", step, id, body)
		}
	}
	return fmt.Errorf("%s %s: no gateway answers", step, id)
}

// drive takes journeys through their steps, eight at a time, until more returns
// false.
func (k *killing) drive(plan map[sessions.ID]int, more func(done int) bool) {
	var (
		wg   sync.WaitGroup
		done atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			for more(int(done.Load())) {
				var id sessions.ID
				var err error
				for range 200 { // the database may be down just now
					if id, err = k.book(context.Background()); err == nil {
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
				n := int(done.Add(1))
				steps, events := []string{"start", "stop"}, 2
				if n%3 == 0 {
					steps, events = []string{"start", "stop", "start", "approach", "approach", "arrive", "approach"}, 5
				}
				for _, step := range steps {
					if err == nil {
						err = k.step(id, step)
					}
				}
				if err != nil {
					k.t.Error(err)
					return
				}
				k.mu.Lock()
				plan[id] = events
				k.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// disturb makes the bus and the queues fail now and then, until stop.
func (k *killing) disturb(stop <-chan struct{}) (count int) {
	faults := []awstest.Fault{awstest.Throttle, awstest.Internal, awstest.Drop, awstest.Lose, awstest.Stall, awstest.Deny}
	random := rand.New(rand.NewPCG(*seed, 2))
	for {
		for _, f := range []awstest.Fault{awstest.None, faults[random.IntN(len(faults))]} {
			k.aws.Fail(f)
			wait := 100 * time.Millisecond
			if f == awstest.None {
				wait = time.Duration(300+random.IntN(900)) * time.Millisecond
			}
			select {
			case <-stop:
				k.aws.Fail(awstest.None)
				return count
			case <-time.After(wait):
			}
		}
		count++
	}
}

// TestKills is the run: gateways and workers killed at every step and at
// random, PostgreSQL restarted and killed, the bus disturbed.
func TestKills(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	k := &killing{
		world: w, t: t, random: rand.New(rand.NewPCG(*seed, 1)), addrs: map[int]string{}, died: map[string]int{},
		fatal: map[int]bool{}, traps: map[bool]int{},
	}
	stop := make(chan struct{})
	var running, restarts sync.WaitGroup
	for _, worker := range []bool{false, false, false, true, true} {
		running.Go(func() { k.slot(worker, stop) })
	}
	disturbances := 0
	running.Go(func() { disturbances = k.disturb(stop) })
	restart := func(end func() error) {
		restarts.Go(func() {
			if err := end(); err != nil {
				t.Error(err)
			}
			if err := w.database.Restart(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	plan := map[sessions.ID]int{}
	var once, twice sync.Once
	limit := time.Now().Add(30*time.Second + time.Duration(*journeys)*100*time.Millisecond)
	k.drive(plan, func(done int) bool {
		if done >= *journeys/3 {
			once.Do(func() { restart(w.database.Stop) })
		}
		if done >= *journeys*2/3 {
			twice.Do(func() { restart(w.database.Kill) })
		}
		return (done < *journeys || !k.covered()) && time.Now().Before(limit) && !t.Failed()
	})
	restarts.Wait()
	close(stop)
	running.Wait()
	require.True(t, k.covered(), "a process was killed at every step: %v", k.died)
	killed := time.Since(began)

	// The last ones are not killed, and finish the work of the others.
	for _, worker := range []bool{false, true} {
		k.number++
		process, _ := k.start(life{Number: k.number, Worker: worker})
		defer func() { _ = process.Kill() }()
	}
	w.drained(t, time.Minute+time.Duration(*journeys)*100*time.Millisecond)

	h := w.history(t)
	h.Journeys, h.Fatal = plan, k.fatal
	found := Check(h)
	report := [][2]any{
		{"journeys", len(h.Journeys)},
		{"events written", len(h.Written)},
		{"arrivals on the bus", len(h.Bus)},
		{"  of them repeats, under the same id", h.Repeats()},
		{"pushes", len(h.Pushes)},
		{"  of them repeats, after a kill between push and record", len(h.Pushes) - len(h.Written)},
		{"analytics rows", len(h.Rows)},
		{"dead letters", h.Dead},
	}
	for _, step := range slices.Concat(gatewaySteps, workerSteps, []string{"at random"}) {
		report = append(report, [2]any{"killed: " + step, k.died[step]})
	}
	report = append(report, [2]any{"PostgreSQL restarted, killed", "1, 1"}, [2]any{"disturbances of bus and queues", disturbances},
		[2]any{"with kills", killed.Round(time.Second)}, [2]any{"in all", time.Since(began).Round(time.Second)},
		[2]any{"violations", len(found)})
	table(fmt.Sprintf("kills, seed %d", *seed), report)
	require.Empty(t, found)
}

// TestOutage is an hour without a bus, shortened. The cap of the back-off is shorter
// by the same factor, so that the bus is asked as often as in an hour.
func TestOutage(t *testing.T) {
	began := time.Now()
	w := newWorld(t)
	scale := float64(*outage) / float64(time.Hour)
	short := func(d time.Duration) time.Duration { return max(time.Millisecond, time.Duration(float64(d)*scale)) }
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	var relays []*outbox.Relay
	for range 2 {
		publisher, err := aws.NewEventBridge(aws.EventBridgeOptions{
			Bus: bus, Endpoint: w.aws.URL(), Timeout: 500 * time.Millisecond, BreakerTimeout: short(5 * time.Second),
		})
		require.NoError(t, err)
		relay, err := outbox.NewRelay(w.repo.Outbox(), []outbox.Destination{{
			Name: outbox.Bus, To: publisher, Timeout: 2 * time.Second, MaxAttempts: 2,
		}}, outbox.RelayOptions{DownBase: short(250 * time.Millisecond), DownCap: short(15 * time.Second)})
		require.NoError(t, err)
		relays = append(relays, relay)
		running.Go(func() { _ = relay.Run(ctx) })
	}
	var counting sync.Mutex
	counts := map[sessions.ID]int{}
	for name, queue := range map[string]string{"notify": notify, "analytics": analytics} {
		once := postgres.NewOnce(w.repo, 0)
		consumer, err := (&life{Endpoint: w.aws.URL()}).consumer(name, queue, 10, handler(func(ctx context.Context, e sessions.Event) error {
			return once.Once(ctx, name, e.ID, func(context.Context) error {
				if name == "notify" {
					w.pushed(e.ID, 0)
					return nil
				}
				counting.Lock()
				defer counting.Unlock()
				counts[e.ID]++
				return nil
			})
		}))
		require.NoError(t, err)
		running.Go(func() { _ = consumer.Run(ctx) })
	}

	plan := map[sessions.ID]int{}
	var mu sync.Mutex
	var driving sync.WaitGroup
	down := time.Now()
	w.aws.Fail(awstest.Drop)
	for i := range 8 {
		driving.Go(func() {
			for n := i; n < *outageJourneys; n += 8 {
				id, err := w.book(ctx)
				for _, step := range []string{"start", "stop"} {
					if err == nil {
						_, err = w.repo.Change(ctx, id, func(s *sessions.Session) ([]sessions.Event, error) { return transition(s, step) })
					}
					relays[n%2].Nudge()
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				plan[id] = 2
				mu.Unlock()
			}
		})
	}
	for _, f := range []awstest.Fault{awstest.Stall, awstest.Throttle, awstest.Internal, awstest.Deny, awstest.Drop} {
		w.aws.Fail(f)
		time.Sleep(*outage / 5)
	}
	driving.Wait()
	behind, err := w.backlog(t)
	require.NoError(t, err)
	require.Zero(t, behind.Dead, "an outage makes no dead letters")
	require.Equal(t, 2**outageJourneys, behind.Waiting)
	asked, lasted := w.aws.Calls("PutEvents"), time.Since(down)
	w.aws.Fail(awstest.None)
	back := time.Now()
	var drained time.Duration
	for drained == 0 {
		if at, err := w.backlog(t); err == nil && at.Waiting == 0 {
			drained = time.Since(back)
		}
		require.Less(t, time.Since(back), 5*time.Minute)
		time.Sleep(10 * time.Millisecond)
	}
	w.drained(t, 5*time.Minute)

	h := w.history(t)
	h.Journeys = plan
	counting.Lock()
	h.Rows = maps.Clone(counts)
	counting.Unlock()
	found := Check(h)
	table("the bus down for a simulated hour", [][2]any{
		{"journeys", len(plan)},
		{"events waiting when it came back", 2 * *outageJourneys},
		{"the hour took", lasted.Round(time.Millisecond)},
		{"calls to the bus meanwhile, by two relays", asked},
		{"until the outbox was empty", drained.Round(time.Millisecond)},
		{"events a second", int(float64(2**outageJourneys) / drained.Seconds())},
		{"arrivals on the bus", len(h.Bus)},
		{"  of them repeats", h.Repeats()},
		{"pushes", len(h.Pushes)},
		{"analytics effects", len(h.Rows)},
		{"dead letters", h.Dead},
		{"in all", time.Since(began).Round(time.Second)},
		{"violations", len(found)},
	})
	require.Empty(t, found)
}

func table(title string, rows [][2]any) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(out, "%s\n", title)
	for _, row := range rows {
		fmt.Fprintf(out, "  %v\t%v\n", row[0], cmp.Or(fmt.Sprint(row[1]), "-"))
	}
	_ = out.Flush()
}
