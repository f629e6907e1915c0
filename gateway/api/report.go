package api

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cloudwego/hertz/pkg/app"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"doorstep/gateway/api/ingest"
	"doorstep/ratelimit"
	"doorstep/sessions"
)

// verdictHeader tells what became of the newest point of a report. Stock apps ignore it.
const verdictHeader = "Doorstep-Verdict"

// Outcomes of points besides the verdicts of UpdateVerdicts, and, from flooded on, of
// whole reports, whose points are not counted.
const (
	noJourney  = "no_journey"
	leftOut    = "left_out"   // over five minutes older than the newest, or than now
	malformed  = "malformed"  // of no use
	otherWord  = "other"      // a message that is no point
	encrypted  = "encrypted"  // only its sender can read it
	flooded    = "flooded"    // the device reports too often
	unreadable = "unreadable" // not of the format
	tooLarge   = "too_large"  // what came within the limit was taken
	nothing    = "nothing"    // no point in it
)

// ReportOutcomes lists what can become of a point that a stock app reports.
func ReportOutcomes() []string {
	return append(UpdateVerdicts(), noJourney, leftOut, malformed, otherWord, encrypted, flooded, unreadable, tooLarge, nothing)
}

// stockReport takes what a stock app reports. Such an app keeps what was refused and sends it
// again for ever, before anything newer. So whatever a known device reports is answered
// with 200; see docs/phones.md.
func (a *API) stockReport(format sessions.Format) app.HandlerFunc {
	return a.failing(func(ctx context.Context, c *app.RequestContext) error { return a.takeReport(ctx, c, format) })
}

// received is a report that has been read.
type received struct {
	ingest.Report
	outcome string // of the whole; empty: it could be read to its end
	read    bool
	over    bool // the device reports too often: only what brings the pin forward counts
}

func (a *API) takeReport(ctx context.Context, c *app.RequestContext, format sessions.Format) error {
	if !a.inFlight.begin() {
		return errInFlight
	}
	defer a.inFlight.end()
	var r received
	var err error
	word, said := deviceWord(c)
	if !said && format == sessions.OsmAnd {
		if word = ingest.DeviceID(string(c.URI().QueryString())); word == "" { // it is in the body
			if r, err = a.readReport(ctx, c, format); err != nil {
				return err
			}
			word = r.DeviceID
		}
	}
	device, err := a.reporter(ctx, c, format, word)
	if err != nil {
		return err
	}
	recordOf(c).role = string(sessions.Trainer)
	over := a.floods(device.ID, 1)
	if size := c.Request.Header.ContentLength(); over && !r.read && (size < 0 || size > maxFloodBody) {
		return a.dropReport(c, format, device)
	}
	if !r.read {
		if r, err = a.readReport(ctx, c, format); err != nil {
			return err
		}
	}
	r.over = over
	return a.judgeReport(ctx, c, format, device, r)
}

// maxFloodBody is the longest body that is still read of a device that reports too often:
// a point or a few.
const maxFloodBody = 16 << 10

// dropReport answers a report as ever, without looking at it.
func (a *API) dropReport(c *app.RequestContext, format sessions.Format, device sessions.Reporter) error {
	return a.answerReport(c, format, device, received{outcome: flooded}, sessions.Receipt{}, flooded)
}

// deviceWord is the credential in the Authorization header: the password of Basic, or
// the token of Bearer. It reports false without such a header.
func deviceWord(c *app.RequestContext) (word string, said bool) {
	scheme, value, _ := strings.Cut(strings.TrimSpace(string(c.GetHeader("Authorization"))), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return value, true
	case strings.EqualFold(scheme, "Basic"):
		text, _ := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		_, password, _ := strings.Cut(string(text), ":")
		return password, true
	}
	return "", false
}

// readReport reads the body. What is not of the format is no error: it would come again
// for ever. An error is one of the connection, or that there is no room for one more
// large body.
func (a *API) readReport(ctx context.Context, c *app.RequestContext, format sessions.Format) (received, error) {
	wire := &wireReader{in: a.deps.Body(ctx, c)}
	r := received{read: true}
	body, err := decompressed(c, wire)
	if err == nil {
		r.Report, err = ingest.Decode(format, ingest.Request{Query: string(c.URI().QueryString()), Body: body})
	}
	if wire.err == nil {
		_, _ = io.CopyN(io.Discard, wire, maxBody) // the end of a chunked body; otherwise the connection could not be used again
	}
	switch {
	case wire.err != nil && errors.Is(wire.err, a.deps.Crowded):
		return r, errLargeBodies
	case wire.err != nil: // 503 and not 408: an app that takes 4xx for an answer would delete its point
		return r, &sessions.Error{Code: Overloaded, Message: "the body did not arrive", RetryAfter: shedRetry}
	case errors.Is(err, ingest.ErrTooLarge):
		r.outcome = tooLarge
	case err != nil:
		r.outcome = unreadable
	}
	return r, nil
}

var errLargeBodies = errors.New("too many large bodies are being read")

// decompressed is the body without its content coding.
func decompressed(c *app.RequestContext, in io.Reader) (io.Reader, error) {
	switch strings.ToLower(string(c.Request.Header.Peek("Content-Encoding"))) {
	case "gzip", "x-gzip":
		return gzip.NewReader(in)
	}
	return in, nil
}

// wireReader keeps the error of the connection apart from those of the body's contents.
type wireReader struct {
	in  io.Reader
	err error
}

// Read implements io.Reader.
func (r *wireReader) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// judgeReport gives the points to the journey of the device's trainer.
func (a *API) judgeReport(ctx context.Context, c *app.RequestContext, format sessions.Format, device sessions.Reporter, r received) error {
	fixes := make([]sessions.Fix, 0, len(r.Points))
	for _, p := range r.Points {
		fixes = append(fixes, p.Fix)
	}
	now := a.deps.Now()
	fixes = newestOnly(fixes, now)
	r.over = a.floods(device.ID, (len(fixes)-1)/batchUnit) || r.over
	if forward := a.phones.forward(device.ID, fixes, now); r.over && !forward {
		return a.dropReport(c, format, device)
	}
	counts := map[string]int{}
	newest, err := a.deps.Sessions.UpdateFromDevice(ctx, device, fixes, func(receipt sessions.Receipt) {
		counts[verdictOf(receipt)]++
		a.countUpdate(receipt)
	})
	verdict := verdictOf(newest)
	switch {
	case sessions.CodeOf(err) == sessions.NoActiveJourney:
		device.SessionID, verdict, counts[noJourney] = "", noJourney, len(fixes)
	case err != nil:
		if sessions.Unavailable(err) {
			a.deps.Metrics.Reported(string(format), "unavailable", len(fixes))
		}
		return err
	case len(fixes) == 0:
		verdict = nothing
	}
	counts[leftOut], counts[malformed] = r.Total-len(fixes), r.Malformed
	counts[otherWord], counts[encrypted] = r.Other, r.Encrypted
	for outcome, n := range counts {
		a.deps.Metrics.Reported(string(format), outcome, n)
	}
	return a.answerReport(c, format, device, r, newest, verdict)
}

// newestOnly leaves the newest of a queue that seems to be stale by this gateway's clock.
// All of it would be, and the phone's clock is learnt from one.
func newestOnly(fixes []sessions.Fix, now time.Time) []sessions.Fix {
	if n := len(fixes); n > 0 && !fixes[n-1].RecordedAt.IsZero() && now.Sub(fixes[n-1].RecordedAt) > ingest.KeptFor {
		return fixes[n-1:]
	}
	return fixes
}

func verdictOf(r sessions.Receipt) string {
	if r.Late {
		return storedLate
	}
	return r.Verdict.String()
}

// answerReport answers as the app needs it, always with 200.
func (a *API) answerReport(
	c *app.RequestContext, format sessions.Format, device sessions.Reporter, r received, receipt sessions.Receipt, verdict string,
) error {
	if r.outcome != "" {
		a.deps.Metrics.Reported(string(format), r.outcome, 1)
		if len(r.Points) == 0 {
			verdict = r.outcome
		}
	} else if verdict == nothing {
		a.deps.Metrics.Reported(string(format), nothing, 1)
	}
	if flags := sessions.Suspicions(receipt.Flags).Names(); len(flags) > 0 {
		verdict += "; flags=" + strings.Join(flags, ",")
	}
	kind, body := ingest.Answer(format, a.steer(device, receipt, r.outcome))
	if strings.HasPrefix(kind, "application/json") {
		kind = jsonType
	}
	c.Header(verdictHeader, verdict)
	c.Data(http.StatusOK, kind, body)
	return nil
}

// floods takes from the device's rate, which is that of a caller. Over it the report is
// answered as ever, and dropped.
func (a *API) floods(device sessions.ID, units int) bool {
	return a.callers != nil && units > 0 && a.callers.TakeN("device "+string(device), units, a.deps.Now()) > 0
}

// reporter finds the device of a credential, or refuses. Wrong credentials of every kind
// get the same answer.
func (a *API) reporter(ctx context.Context, c *app.RequestContext, format sessions.Format, word string) (sessions.Reporter, error) {
	key, sound := sessions.ParseDeviceKey(word)
	if !sound {
		key.ID = ""
	}
	known, ok := a.deps.Sessions.KnownReporter(key.ID)
	client, now := a.deps.Client(ctx, c), a.deps.Now()
	if !ok || !known.Accepts(key.Secret) { // else no guess, and it must not wait for those of others
		if wait := a.guesses.wait(client, key.ID, now); wait > 0 {
			// 503: the caller may be a good phone beside a revoked one, and an app takes 4xx for final.
			return sessions.Reporter{}, &sessions.Error{Code: Overloaded, Message: "too many wrong credentials; try again", RetryAfter: wait}
		}
	}
	var found sessions.Reporter
	var err error
	if sound {
		if found, _, err = a.deps.Sessions.Reporter(ctx, key.ID); err != nil {
			return sessions.Reporter{}, err
		}
	}
	if !found.Accepts(key.Secret) || found.ID == "" {
		a.guesses.take(client, key.ID, now)
		a.deps.Metrics.Unauthenticated(deviceReason)
		challenge := "Bearer"
		if format == sessions.OwnTracks {
			challenge = `Basic realm="doorstep"`
		}
		c.Header("WWW-Authenticate", challenge)
		return sessions.Reporter{}, sessions.Refuse(Unauthenticated, "the credentials of this device are not valid")
	}
	return found, nil
}

// deviceReason is why a token was refused, in metrics, where it was a device's.
const deviceReason = "device"

// UnauthenticatedReasons lists why credentials can be refused besides auth.Reasons.
func UnauthenticatedReasons() []string { return []string{deviceReason, linkReason} }

// guesses limits wrong credentials by address and by device. Over the limit nothing is
// looked up, and nothing compared, but for a device that this gateway knows: it is not
// locked out by others.
type guesses struct{ clients, devices *ratelimit.Limit }

// A phone that was revoked tries again about once a minute, and many phones may have one
// address.
func newGuesses() guesses {
	return guesses{clients: ratelimit.New(time.Second, 60), devices: ratelimit.New(10*time.Second, 20)}
}

func (g guesses) wait(client netip.Prefix, device sessions.ID, now time.Time) (wait time.Duration) {
	if client.IsValid() {
		wait = g.clients.Wait(client.String(), now)
	}
	if device != "" {
		wait = max(wait, g.devices.Wait(string(device), now))
	}
	return wait
}

func (g guesses) take(client netip.Prefix, device sessions.ID, now time.Time) {
	if client.IsValid() {
		g.clients.Take(client.String(), now)
	}
	if device != "" {
		g.devices.Take(string(device), now)
	}
}

const (
	// toldFor is how long a gateway relies on what it has told a phone. Another gateway
	// may have told it something else since. It is less than the longest interval, so a
	// phone that was told that one by another gateway is told anew.
	toldFor  = 4 * time.Minute
	toldRoom = 65_536
)

// lately is what this gateway remembers of devices that report.
type lately struct {
	mu      *sync.Mutex
	devices *simplelru.LRU[sessions.ID, phoneLately]
}

type phoneLately struct {
	interval time.Duration // what it was last told
	at       time.Time     // when
	newest   time.Time     // the latest point of what was not dropped, by the phone's clock
}

func newLately() lately {
	l, _ := simplelru.NewLRU[sessions.ID, phoneLately](toldRoom, nil) // fails only for a size of 0 or less
	return lately{new(sync.Mutex), l}
}

// changes notes an interval, and reports whether the device does not know it. Apps start
// their receiver anew at each command, so they get one only where it changes something.
func (l lately) changes(device sessions.ID, interval time.Duration, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, ok := l.devices.Get(device)
	if ok && last.interval == interval && now.Sub(last.at).Abs() < toldFor {
		return false
	}
	last.interval, last.at = interval, now
	l.devices.Add(device, last)
	return true
}

// forward reports whether the newest of the fixes is of the last five minutes and a second
// newer than what came before. An app empties its queue as fast as it can, the oldest
// point first: however fast that is, its last point must not be dropped. Of one device
// that are 600 points at once at most, and then one a second.
func (l lately) forward(device sessions.ID, fixes []sessions.Fix, now time.Time) bool {
	if len(fixes) == 0 {
		return false
	}
	newest := fixes[len(fixes)-1].RecordedAt
	l.mu.Lock()
	defer l.mu.Unlock()
	last, _ := l.devices.Get(device)
	if newest.IsZero() || now.Sub(newest).Abs() > ingest.KeptFor || newest.Sub(last.newest) < time.Second {
		return false
	}
	last.newest = newest
	l.devices.Add(device, last)
	return true
}

// steerStep is what intervals are rounded to, so that a second more or less is no
// change.
const steerStep = 5 * time.Second

// steer is what the app is told: the interval of the rate while a journey runs, longer
// where the receipt says so, and the longest while none does.
func (a *API) steer(device sessions.Reporter, receipt sessions.Receipt, outcome string) ingest.Steer {
	if !a.deps.Steer || outcome == flooded {
		return ingest.Steer{}
	}
	interval := sessions.Steering{Ended: true}.NextFix(a.deps.RateInterval)
	if device.SessionID != "" {
		interval = max(a.deps.RateInterval, receipt.NextUpdate.Round(steerStep))
	}
	if !a.phones.changes(device.ID, interval, a.deps.Now()) {
		return ingest.Steer{}
	}
	return ingest.Steer{Interval: interval}
}
