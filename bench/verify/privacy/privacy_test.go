package privacy

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"doorstep/bench/rig"
	"doorstep/sessions"
)

// homeColumn is the only column that may hold a place, and only a home: the
// booking side wrote it and owns it.
const homeColumn = "database tutoring_sessions.student_home_location"

// journey is one session whose places are all canaries.
type journey struct {
	processes        *processes
	id               sessions.ID
	trainer, student sessions.Caller
	home             Canary
	places           []Canary // all but the home
	otp              string
	link             string // a share link's token
	answered         int64  // the last fix, Unix ms
}

// home is the n-th home: far from the others, in digits that nothing else prints.
func home(n int) Canary {
	return Canary{fmt.Sprint("home ", n), 67.1357924 + 0.0412563*float64(n), -143.6824931 - 0.0523789*float64(n)}
}

// book books and starts the n-th journey.
func (p *processes) book(t *testing.T, n int) *journey {
	t.Helper()
	j := &journey{
		processes: p, id: sessions.NewID(), home: home(n),
		trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer},
		student: sessions.Caller{ID: sessions.NewID(), Role: sessions.Student},
	}
	admin := sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}
	booking := fmt.Sprintf(`{"sessionId":%q,"trainerId":%q,"studentId":%q,"studentHome":{"latitude":%.7f,"longitude":%.7f}}`,
		j.id, j.trainer.ID, j.student.ID, j.home.Lat, j.home.Lng)
	require.Equal(t, 201, p.ask(t, admin, "POST", "/admin/sessions", booking).status)
	require.Equal(t, 204, p.ask(t, j.student, "PUT", "/me/push-tokens", fmt.Sprintf(`{"token":"device-%s","platform":"web"}`, j.id)).status)
	require.Equal(t, 201, j.post(t, "start-journey", "").status)
	made := p.ask(t, j.student, "POST", "/students/sessions/"+string(j.id)+"/share-links", "")
	require.Equal(t, 201, made.status)
	_, j.link, _ = strings.Cut(made.data["url"].(string), "#")
	p.links = append(p.links, j.link)
	return j
}

// shown reads by the journey's share link, at once and by a wait.
func (j *journey) shown(t *testing.T, want bool) {
	t.Helper()
	for _, wait := range []string{"0", "1"} {
		status := j.processes.callAs(t, j.link, "GET", "/share/live?wait="+wait, "")
		require.Equal(t, want, status == 200 || status == 304, "whether the link shows anything: %d", status)
	}
}

func (j *journey) post(t *testing.T, verb, body string) reply {
	t.Helper()
	return j.processes.ask(t, j.trainer, "POST", "/admin/sessions/"+string(j.id)+"/"+verb, body)
}

// fix sends a place some metres north and east of the home, with further fields.
func (j *journey) fix(t *testing.T, name string, north, east float64, more string) reply {
	t.Helper()
	at := j.place(name, north, east).json()
	// The second of two fixes in one millisecond of the store's clock is stale.
	for time.Now().UnixMilli() <= j.answered {
		time.Sleep(100 * time.Microsecond)
	}
	defer func() { j.answered = time.Now().UnixMilli() }()
	return j.processes.ask(t, j.trainer, "POST", "/admin/location-tracking/journey/updates",
		fmt.Sprintf(`{"sessionId":%q,%s%s}`, j.id, at, more))
}

func (c Canary) json() string { return fmt.Sprintf(`"latitude":%.7f,"longitude":%.7f`, c.Lat, c.Lng) }

// place makes a canary of this journey.
func (j *journey) place(name string, north, east float64) Canary {
	lat, lng := j.home.Lat+north/111_195, j.home.Lng+east/(111_195*math.Cos(j.home.Lat*math.Pi/180))
	at := Canary{j.home.Name + "'s " + name, math.Round(lat*1e7) / 1e7, math.Round(lng*1e7) / 1e7}
	j.places = append(j.places, at)
	return at
}

func (j *journey) look(t *testing.T, want bool) {
	t.Helper()
	live := j.processes.ask(t, j.student, "GET", "/admin/location-tracking/journey/live?sessionId="+string(j.id), "")
	require.Equal(t, 200, live.status)
	require.Equal(t, want, live.data["location"] != nil, "whether the student sees the location")
	j.shown(t, want)
}

// onTheWay sends fixes of every kind: stored, refused, ignored, malformed, another
// trainer's. It ends with the trainer near the door.
func (j *journey) onTheWay(t *testing.T) {
	t.Helper()
	require.Equal(t, 201, j.fix(t, "fix in the street", 131.3, 93.7, `,"speed":12.5,"heading":77`).status)
	require.Equal(t, 201, j.fix(t, "fix that agrees", 91.3, 73.7, "").status)
	require.Equal(t, 400, j.fix(t, "refused jump", 5017, 4013, "").status)
	require.Equal(t, 201, j.fix(t, "vague fix", -411, 377, `,"accuracy":900`).status)
	ago := func(d time.Duration) string {
		return `,"recordedAt":"` + time.Now().Add(-d).UTC().Format(time.RFC3339Nano) + `"`
	}
	require.Equal(t, 200, j.fix(t, "stale fix", 333, 222, ago(time.Second)).status)
	require.Equal(t, "before_start", j.fix(t, "fix from before", 322, 211, ago(time.Minute)).data["ignored"])
	require.Equal(t, 400, j.fix(t, "malformed fix", 171, 191, `,"longitude":"none"`).status)
	require.Equal(t, 400, j.fix(t, "unparsable fix", 181, 193, `,"accuracy":none`).status)
	stranger := *j
	stranger.trainer = sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}
	require.Equal(t, 403, stranger.fix(t, "stranger's fix", 151, 131, "").status)
	j.places = stranger.places
	at := j.place("place in a query", 91, 97)
	require.Equal(t, 400, j.processes.ask(t, j.student, "GET",
		fmt.Sprintf("/admin/location-tracking/journey/live?sessionId=%.7f,%.7f", at.Lat, at.Lng), "").status)
	require.Equal(t, 201, j.fix(t, "mock fix", 41.9, 31.1, `,"mock":true`).status)
	j.look(t, true)
}

// privateLife reports places by each stock app while no journey of the trainer's runs, and
// by a phone that was revoked.
func (p *processes) privateLife(t *testing.T, n int) *journey {
	t.Helper()
	j := &journey{processes: p, home: home(n), trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}}
	for i, format := range sessions.Formats() {
		made := p.ask(t, j.trainer, "POST", "/me/devices", fmt.Sprintf(`{"format":%q,"name":"phone"}`, format))
		require.Equal(t, 201, made.status)
		secret, _ := made.data["secret"].(string)
		p.tokens = append(p.tokens, secret)
		for round := range 3 {
			at := j.place(fmt.Sprint("private place ", format, round), 100+37.3*float64(10*i+round), 211.7)
			path, body := "/ingest/"+string(format), ""
			switch format {
			case sessions.OwnTracks:
				body = fmt.Sprintf(`{"_type":"location","lat":%.7f,"lon":%.7f,"tst":%d}`, at.Lat, at.Lng, time.Now().Unix())
			case sessions.OsmAnd:
				path += fmt.Sprintf("?id=%s&lat=%.7f&lon=%.7f", secret, at.Lat, at.Lng)
			case sessions.Transistorsoft:
				body = fmt.Sprintf(`{"location":{"coords":{"latitude":%.7f,"longitude":%.7f},"timestamp":%q}}`, at.Lat, at.Lng, time.Now().UTC().Format(time.RFC3339))
			default:
				body = fmt.Sprintf(`{"locations":[{"geometry":{"coordinates":[%.7f,%.7f]},"properties":{"timestamp":%q}}]}`, at.Lng, at.Lat, time.Now().UTC().Format(time.RFC3339))
			}
			if round == 1 {
				body = strings.TrimSuffix(body, "}") // cannot be read
			}
			want := 200
			if round == 2 {
				require.Equal(t, 204, p.ask(t, j.trainer, "DELETE", "/me/devices/"+fmt.Sprint(made.data["deviceId"]), "").status)
				want = 401
			}
			require.Equal(t, want, p.callAs(t, secret, http.MethodPost, path, body), "%s", format)
		}
	}
	return j
}

// callAs makes a call with another credential than a user's token, and returns the status.
func (p *processes) callAs(t *testing.T, secret, method, path, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+p.Addr().String()+"/api/v1"+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+secret)
	res, err := p.client.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode
}

// canaries are all places that must not be found, homes first.
func canaries(journeys []*journey) (homes, places []Canary) {
	for _, j := range journeys {
		homes, places = append(homes, j.home), append(places, j.places...)
	}
	return homes, places
}

// leaks are the findings that are not allowed. A home is allowed in homeColumn.
func leaks(all Streams, journeys []*journey) (found []Finding) {
	homes, places := canaries(journeys)
	for _, f := range Search(all, append(homes, places...)) {
		if f.Stream != homeColumn || !strings.HasPrefix(f.Canary, "home") || strings.Contains(f.Canary, "'s") {
			found = append(found, f)
		}
	}
	return found
}

// nothingIsKnown searches everything one second after an end.
func nothingIsKnown(t *testing.T, p *processes, ended time.Time, journeys []*journey) {
	t.Helper()
	time.Sleep(time.Until(ended.Add(time.Second))) // the promise: after a second
	all := p.everything(t)
	assert.Empty(t, leaks(all, journeys))
	for name, text := range all {
		for _, token := range p.tokens {
			signature := token[strings.LastIndexByte(token, '.'):]
			assert.NotContains(t, string(text), signature, "a token is in %s", name)
		}
		for _, link := range p.links {
			assert.NotContains(t, string(text), link, "what opens a share link is in %s", name)
		}
	}
	for _, j := range journeys {
		if j.otp == "" {
			continue
		}
		for name, text := range all {
			kept := strings.HasPrefix(name, "database") && !strings.Contains(name, "outbox") && !strings.Contains(name, "consumed")
			if kept || name == "pushes" || strings.HasPrefix(name, "metrics") || strings.HasPrefix(name, "live store") {
				continue // it is allowed there, or one number among many
			}
			assert.False(t, HasCode(text, j.otp), "the code is in %s", name)
		}
	}
}

func TestPrivacy(t *testing.T) {
	t.Parallel()
	for name, onBus := range map[string]bool{"consumers_in_process": false, "consumers_behind_the_bus": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forgets(t, open(t, onBus))
		})
	}
}

// forgets plays a journey of each kind of end, one after the other. Each search is
// for the places of all journeys that have ended so far. The one that arrives begins
// first, because it needs some seconds.
func forgets(t *testing.T, p *processes) {
	t.Helper()
	arrived, began := p.book(t, 1), time.Now()
	arrived.onTheWay(t)
	requireKnown(t, p, arrived)

	private := p.privateLife(t, 5)
	nothingIsKnown(t, p, time.Now().Add(-time.Second), []*journey{private})

	cancelled := p.book(t, 2)
	cancelled.onTheWay(t)
	require.Equal(t, 200, cancelled.post(t, "stop-journey", "").status)
	ended := time.Now()
	require.Equal(t, 404, cancelled.fix(t, "fix after the end", 77, 99, "").status)
	cancelled.look(t, false)
	nothingIsKnown(t, p, ended, []*journey{cancelled})

	away := p.book(t, 3)
	away.onTheWay(t)
	ended = endedWhileAway(t, p, away)
	nothingIsKnown(t, p, ended, []*journey{cancelled, away})

	time.Sleep(time.Until(began.Add(rig.Ride)))
	answer := arrived.post(t, "arrived", "{"+arrived.place("fix at the door", 21.7, 13.9).json()+"}")
	ended = time.Now()
	require.Equal(t, 200, answer.status, "%v", answer.data)
	arrived.otp, _ = answer.data["otp"].(string)
	require.Len(t, arrived.otp, 4)
	arrived.look(t, false)
	nothingIsKnown(t, p, ended, []*journey{arrived, cancelled, away})
	require.Equal(t, 200, arrived.post(t, "verify-otp", `{"otp":"`+arrived.otp+`"}`).status)

	timedOut := p.book(t, 4)
	timedOut.onTheWay(t)
	requireKnown(t, p, timedOut)
	ended = timeOut(t, p, timedOut)
	all := []*journey{arrived, cancelled, away, timedOut}
	nothingIsKnown(t, p, ended, all)
	plantedIsFound(t, p, all)
}

// requireKnown proves that the search works: while a journey runs, the live store
// does hold its places.
func requireKnown(t *testing.T, p *processes, j *journey) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range leaks(p.everything(t), []*journey{j}) {
		require.True(t, strings.HasPrefix(f.Stream, "live store"), "even now only there: %s", f)
		known[strings.Fields(f.Stream)[2]+" "+f.Canary+" "+f.Form] = true
	}
	for _, place := range []string{j.home.Name, j.home.Name + "'s mock fix"} {
		for _, where := range []string{"key", "snapshot"} {
			require.True(t, known[where+" "+place+" digits"], "%s in the %s of the live store: %v", place, where, known)
		}
	}
}

// endedWhileAway ends a journey while the live store cannot be reached, and returns
// when the clean-up has removed it there.
func endedWhileAway(t *testing.T, p *processes, j *journey) time.Time {
	t.Helper()
	p.network.Stop()
	require.Equal(t, 202, j.fix(t, "fix while away", 39, 27, "").status)
	require.Equal(t, 200, j.post(t, "stop-journey", "").status)
	knows := func() bool {
		all := Streams{}
		p.liveStore(t, all)
		return len(leaks(all, []*journey{j})) > 0
	}
	require.True(t, knows(), "it could not be reached")
	require.NoError(t, p.network.Start())
	back := time.Now()
	require.Eventually(t, func() bool { return !knows() }, patience, 20*time.Millisecond, "the clean-up removes it")
	t.Logf("cleaned %s after the live store was back", time.Since(back).Round(time.Millisecond))
	return time.Now()
}

// timeOut has the sweeper of another gateway, with a shorter journey limit, end a
// journey, and returns when it has ended.
func timeOut(t *testing.T, p *processes, j *journey) time.Time {
	t.Helper()
	o := p.options
	o.JourneyTTL = time.Second
	p.start(t, o)
	require.Eventually(t, func() bool {
		return p.ask(t, j.trainer, "GET", "/admin/sessions/"+string(j.id), "").data["journeyEndReason"] == "timeout"
	}, patience, 20*time.Millisecond)
	return time.Now()
}

// plantedIsFound plants a place everywhere where it could be stored, and finds it.
func plantedIsFound(t *testing.T, p *processes, journeys []*journey) {
	t.Helper()
	planted := journeys[0].places[0]
	text := fmt.Sprintf("%.6f", planted.Lat)
	p.logger().Debug("planted", "at", text)
	_, err := p.store.Do(t.Context(), "HSET", "planted", "lat", text)
	require.NoError(t, err)
	p.sql(t, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `UPDATE outbox SET last_error = $1`, text)
		if err == nil {
			_, err = conn.Exec(ctx, `UPDATE tutoring_sessions SET trainer_start_location = jsonb_build_object('latitude', $1::numeric)`, text)
		}
		return err
	})
	found := map[string]bool{}
	for _, f := range leaks(p.everything(t), journeys) {
		found[f.Stream] = true
	}
	want := map[string]bool{
		"logs": true, "live store key planted": true, "live store snapshot": true,
		"database outbox.last_error": true, "database tutoring_sessions.trainer_start_location": true,
	}
	assert.Equal(t, want, found)
}

// A server's slow log keeps the arguments of slow calls, and so their places. It is
// no key, so no gateway can clean it. docs/runbook.md has it switched off for this
// reason.
func TestSlowLog(t *testing.T) {
	t.Parallel()
	for limit, keeps := range map[string]bool{"0": true, "-1": false} {
		t.Run("slower_than_"+limit, func(t *testing.T) {
			t.Parallel()
			p := open(t, false)
			_, err := p.store.Do(t.Context(), "CONFIG", "SET", "slowlog-log-slower-than", limit)
			require.NoError(t, err)
			j := p.book(t, 1)
			require.Equal(t, 201, j.fix(t, "fix", 61.3, 43.7, "").status)
			require.Equal(t, 200, j.post(t, "stop-journey", "").status)
			log, err := p.store.Do(t.Context(), "SLOWLOG", "GET", "128")
			require.NoError(t, err)
			assert.Equal(t, keeps, len(Search(Streams{"slow log": []byte(log)}, j.places)) > 0)
		})
	}
}
