package api

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cloudwego/hertz/pkg/app"

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
			if a.deps.Regions != nil {
				recordOf(c).kept = &keptBody{}
			}
			if r, err = a.readReport(c, format); err != nil {
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
	if err := a.deps.Sessions.Here(ctx, device); err != nil { // before the body is read, which may have to go there
		return err
	}
	if !r.read {
		if r, err = a.readReport(c, format); err != nil {
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
func (a *API) readReport(c *app.RequestContext, format sessions.Format) (received, error) {
	wire := &wireReader{in: a.deps.Body(c)}
	r := received{read: true}
	if kept := recordOf(c).kept; kept != nil {
		wire.in = io.TeeReader(wire.in, kept)
	}
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
		return r, errNoBody
	case errors.Is(err, ingest.ErrTooLarge):
		r.outcome = tooLarge
	case err != nil:
		r.outcome = unreadable
	}
	return r, nil
}

var (
	errLargeBodies = errors.New("too many large bodies are being read")
	errNoBody      = &sessions.Error{Code: Overloaded, Message: "the body did not arrive", RetryAfter: shedRetry}
)

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
	kind, body := ingest.Answer(format, a.steer(device, r, receipt))
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
	client, now := a.deps.Client(c), a.deps.Now()
	proven := ok && known.Accepts(key.Secret)
	if !proven { // else no guess, and it must not wait for those of others
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
	proven = proven && known.ID == found.ID && known.SecretHash == found.SecretHash // a device's secret is hashed once
	if !proven && !found.Accepts(key.Secret) || found.ID == "" {
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

// maxRefresh bounds the form of a refresh: a secret and some words.
const maxRefresh = 4 << 10

// refreshDevice answers transistorsoft's refresh of a token, which the app asks for after
// a 401. A device's secret does not expire, so it gets the one that it has, while that
// is valid.
func (a *API) refreshDevice(ctx context.Context, c *app.RequestContext) error {
	if !a.inFlight.begin() {
		return errInFlight
	}
	defer a.inFlight.end()
	text, err := io.ReadAll(io.LimitReader(a.deps.Body(c), maxRefresh))
	if err != nil {
		return errNoBody
	}
	form, _ := url.ParseQuery(string(text)) // what can be read of it
	word := form.Get("refresh_token")
	if _, err = a.reporter(ctx, c, sessions.Transistorsoft, word); err != nil {
		return err
	}
	recordOf(c).role = string(sessions.Trainer)
	writeJSON(c, http.StatusOK, map[string]string{"access_token": word, "refresh_token": word, "token_type": "Bearer"})
	return nil
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
