package regions

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"doorstep/gateway/hub"
	"doorstep/internal/pause"
	"doorstep/internal/retryafter"
	"doorstep/sessions"
)

// Waits is the hub's source and reader where there are regions. Of a journey of this region
// it is what it was made of. A journey of another region has one long poll there for all its waits here,
// with the token of one of those who wait; its answers wake them. Each of them was let in
// by this gateway before. Safe for concurrent use.
type Waits struct {
	regions *Regions
	source  hub.Source
	reader  Sessions

	mu     sync.Mutex // not held while anything else is called
	polls  map[sessions.Ref]*poll
	closed bool
	loops  sync.WaitGroup
}

// Sessions is the part of sessions.Service that Waits calls.
type Sessions interface {
	hub.Reader
	// BackHere notes where a session belongs by now that is not the other region's.
	BackHere(ctx context.Context, id sessions.ID) bool
}

// Reader is who waits for a journey of another region.
type Reader struct {
	Region string
	Path   string // of the read there: call 3 with its session, or call 24
	Token  string // the value of Authorization
	Link   bool   // call 24, whose answers may hide an earlier journey
	Seen   int64  // the newest version that the reader says it has seen; 0: none
}

type readerKey struct{}

// WithReader has a wait that begins with ctx wait for a journey of another region.
func WithReader(ctx context.Context, r Reader) context.Context {
	return context.WithValue(ctx, readerKey{}, r)
}

// NewWaits makes Waits of the hub's source and reader of this region's journeys. It starts
// nothing. Close it in the end.
func NewWaits(r *Regions, source hub.Source, reader Sessions) *Waits {
	return &Waits{regions: r, source: source, reader: reader, polls: map[sessions.Ref]*poll{}}
}

// poll is what the waits of one journey of another region share. All is guarded by
// Waits.mu.
type poll struct {
	ref    sessions.Ref
	region string
	open   []*open // oldest first

	running context.CancelFunc // ends the loop; nil: there is none
	by      *open              // whose token the loop uses
	view    sessions.View      // of the last answer
	at      time.Time          // when that came
	fresh   bool               // view is the journey as it is, but for what is on its way
	first   chan struct{}      // closed at the loop's first answer or failure
	linger  *time.Timer        // ends the loop when nobody has waited for a while; nil: somebody waits
}

// open is one wait.
type open struct {
	Reader
	wake    func()
	refused bool // by the other region
}

const (
	// pollFor is how long one poll there waits.
	pollFor = 25 * time.Second
	// lingerFor is how long a poll stays open when nobody waits: a reader who was just
	// answered comes back at once.
	lingerFor = 5 * time.Second
	// The pauses after a failed poll, doubled from the first to the last.
	firstPause, lastPause = 500 * time.Millisecond, 8 * time.Second
	// aheadAtMost is by how many milliseconds what a reader has seen may be newer than the
	// poll's last answer. A number that is more is no version of ours.
	aheadAtMost = int64(time.Hour / time.Millisecond)
)

// Watch implements hub.Source.
func (w *Waits) Watch(ctx context.Context, ref sessions.Ref, wake func()) (stop func(), err error) {
	reader, elsewhere := ctx.Value(readerKey{}).(Reader)
	if !elsewhere {
		return w.source.Watch(ctx, ref, wake)
	}
	one := &open{Reader: reader, wake: wake}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.polls[ref]
	if p == nil {
		p = &poll{ref: ref, region: reader.Region}
		w.polls[ref] = p
	}
	if p.linger != nil {
		p.linger.Stop()
		p.linger = nil
	}
	p.open = append(p.open, one)
	switch {
	case p.running == nil:
		w.start(ctx, p)
	case p.by != nil && p.by.Link && !reader.Link, // what a link shows may not be all that this reader may see
		p.fresh && reader.Seen > p.view.Version && reader.Seen-p.view.Version <= aheadAtMost: // in the other region, and it is on its way to here
		p.running()
		w.start(ctx, p)
	}
	return func() { w.leave(p, one) }, nil
}

func (w *Waits) leave(p *poll, one *open) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(p.open, one); i >= 0 {
		p.open = slices.Delete(p.open, i, i+1)
	}
	if len(p.open) > 0 || p.linger != nil {
		return
	}
	p.linger = time.AfterFunc(lingerFor, func() { w.forget(p) })
}

// forget ends a poll for which nobody waits.
func (w *Waits) forget(p *poll) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(p.open) > 0 || w.polls[p.ref] != p {
		return
	}
	w.drop(p)
}

// drop ends a poll. Call it with mu held.
func (w *Waits) drop(p *poll) {
	if w.polls[p.ref] == p {
		delete(w.polls, p.ref)
	}
	p.fresh = false
	if p.running != nil {
		p.running()
	}
}

// Cached implements hub.Reader.
func (w *Waits) Cached(ref sessions.Ref) (sessions.View, bool) {
	w.mu.Lock()
	p := w.polls[ref]
	if p == nil {
		w.mu.Unlock()
		return w.reader.Cached(ref)
	}
	defer w.mu.Unlock()
	return p.now(), p.fresh
}

// now is the last answer as it would be now: its fix has aged.
func (p *poll) now() sessions.View {
	v := p.view
	v.Now = v.Now.Add(time.Since(p.at))
	return v
}

// Read implements hub.Reader. Of a journey of another region it waits for the first answer from
// there, and is degraded while there is none.
func (w *Waits) Read(ctx context.Context, ref sessions.Ref) (sessions.View, error) {
	w.mu.Lock()
	p := w.polls[ref]
	if p == nil {
		w.mu.Unlock()
		return w.reader.Read(ctx, ref)
	}
	first := p.first
	w.mu.Unlock()
	select {
	case <-first:
	case <-ctx.Done():
		return sessions.View{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !p.fresh {
		return sessions.View{Ref: ref, Degraded: true}, nil
	}
	return p.now(), nil
}

// Close ends all polls, and waits for that.
func (w *Waits) Close() {
	w.mu.Lock()
	w.closed = true
	for _, p := range w.polls {
		if p.linger != nil {
			p.linger.Stop()
		}
		if p.running != nil {
			p.running()
		}
	}
	w.mu.Unlock()
	w.loops.Wait()
}

// start starts the loop of a poll. Call it with mu held.
func (w *Waits) start(ctx context.Context, p *poll) {
	p.fresh, p.by, p.first = false, nil, make(chan struct{})
	if w.closed {
		close(p.first)
		return
	}
	ctx, p.running = context.WithCancel(context.WithoutCancel(ctx))
	cancel := p.running
	w.loops.Go(func() {
		defer cancel()
		w.loop(ctx, p, p.first)
	})
}

// loop polls until ctx ends, or until a poll ends and nobody waits.
func (w *Waits) loop(ctx context.Context, p *poll, first chan struct{}) {
	settle := sync.OnceFunc(func() { close(first) })
	defer settle()
	for rest := firstPause; ; {
		call, ok := w.next(ctx, p)
		if !ok {
			return
		}
		began := time.Now()
		answer, err := w.regions.Forward(ctx, p.region, call)
		if moved(answer) {
			w.reader.BackHere(ctx, p.ref.SessionID)
		}
		again, wakes := w.took(ctx, p, answer, err, time.Since(began))
		settle()
		for _, wake := range wakes {
			wake()
		}
		switch {
		case again:
			rest = firstPause
			continue
		case pause.For(ctx, max(rest, min(retryafter.Of(answer.Header), lastPause))) != nil:
			return
		}
		rest = min(2*rest, lastPause)
	}
}

// next is the next call of a poll's loop. It reports false where the loop is over.
func (w *Waits) next(ctx context.Context, p *poll) (Call, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil {
		return Call{}, false
	}
	p.by = p.reader()
	if p.by == nil { // who comes now starts another loop
		p.running, p.fresh = nil, false
		return Call{}, false
	}
	call := Call{Method: http.MethodGet, Path: p.by.Path, Header: http.Header{"Authorization": {p.by.Token}}}
	if p.fresh && p.view.Version != 0 {
		call.Wait = pollFor
		call.Path += separator(call.Path) + "wait=" + strconv.Itoa(int(pollFor/time.Second))
		call.Header.Set("If-None-Match", `W/"`+strconv.FormatInt(p.view.Version, 10)+`"`)
	}
	return call, true
}

func separator(path string) string {
	if strings.Contains(path, "?") {
		return "&"
	}
	return "?"
}

// reader is whose token the next call has: the oldest that was not refused, but a link only
// where there is nobody else. Nil: there is none.
func (p *poll) reader() (best *open) {
	for _, one := range p.open {
		switch {
		case one.refused:
		case !one.Link:
			return one
		case best == nil:
			best = one
		}
	}
	return best
}

// tooSoon is how soon a poll must not end without news again and again: a gateway there that
// drains, or a proxy that loses the ETag.
const tooSoon = time.Second

// took notes an answer, and how long it took. again means that the next call follows at once.
func (w *Waits) took(ctx context.Context, p *poll, answer Answer, err error, after time.Duration) (again bool, wakes []func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ctx.Err() != nil { // another loop has taken over, or none is needed
		return true, nil
	}
	switch {
	case moved(answer): // who waits looks in this region, or comes back and is sent to the right one
		w.drop(p)
		return true, p.wakes()
	case err == nil && answer.Status == http.StatusNotModified && p.fresh && versionOf(answer.Header) != 0: // else it cannot be read there, either
		return after >= tooSoon, nil
	case err == nil && answer.Status == http.StatusOK:
		view, sound := viewOf(p.ref, answer)
		wakes = p.wakes()
		if !sound || view.Degraded {
			p.fresh = false
			return false, wakes
		}
		news := !p.fresh || view.Version != p.view.Version
		p.view, p.at, p.fresh = view, time.Now(), true
		return view.Version != 0 && (news || after >= tooSoon), wakes // without a version there is nothing to wait on
	case err == nil && slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}, answer.Status):
		p.by.refused, p.fresh = true, false
		return true, nil
	}
	p.fresh = false
	return false, nil
}

// moved reports whether an answer says that the journey is not of that region: its booking has
// been moved.
func moved(a Answer) bool { return a.Status == http.StatusConflict }

func (p *poll) wakes() (list []func()) {
	for _, one := range p.open {
		list = append(list, one.wake)
	}
	return list
}
