package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"doorstep/geo"
	"doorstep/internal/servers/valkeyserver"
	"doorstep/scripts"
	"doorstep/sessions"
)

// twins are both live stores: update.lua in a real store, with the laboratory's clock,
// and the store in memory. Every fix goes through both, and a single receipt that
// differs is an error: the table is of the script, and so is the specification.
//
// The server's own expiry runs on real time. So the store in memory says when a journey
// has expired, and one that is opened anew has a name of its own in the real store.
type twins struct {
	sessions.Live // in memory
	store         sessions.Live
	names         map[sessions.Ref]sessions.Ref
}

func (t *twins) Open(ctx context.Context, j sessions.Journey) (bool, error) {
	before, err := t.Live.Latest(ctx, j.Ref)
	if err != nil {
		return false, err
	}
	opened, err := t.Live.Open(ctx, j)
	if err != nil || !opened || before.Known {
		return opened, err
	}
	t.names[j.Ref] = sessions.Ref{TrainerID: j.TrainerID, SessionID: sessions.NewID()}
	j.Ref = t.names[j.Ref]
	return opened, openedIn(t.store, j)
}

func (t *twins) Update(ctx context.Context, ref sessions.Ref, fix sessions.Fix) (sessions.Receipt, error) {
	want, err := t.Live.Update(ctx, ref, fix)
	if err != nil || want.Verdict <= sessions.VerdictEnded {
		return want, err
	}
	got, err := t.store.Update(ctx, t.names[ref], fix)
	if err == nil {
		err = compared(got, want)
	}
	return got, err
}

func (t *twins) UpdateAll(ctx context.Context, ref sessions.Ref, fixes []sessions.Fix) ([]sessions.Receipt, error) {
	want, err := t.Live.UpdateAll(ctx, ref, fixes)
	if err != nil || want[0].Verdict <= sessions.VerdictEnded {
		return want, err
	}
	got, err := t.store.UpdateAll(ctx, t.names[ref], fixes)
	for i := range got {
		err = errors.Join(err, compared(got[i], want[i]))
	}
	return got, err
}

func compared(got, want sessions.Receipt) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("update.lua says %s %s where geo.Judge says %s %s, at %s", got.Verdict, got.Flags, want.Verdict, want.Flags, want.At)
}

func (t *twins) Latest(ctx context.Context, ref sessions.Ref) (sessions.Snapshot, error) {
	snap, err := t.Live.Latest(ctx, ref)
	if err != nil || !snap.Known {
		return snap, err
	}
	return t.store.Latest(ctx, t.names[ref])
}

// startScript starts a private store for a laboratory. It leaves it as it is where no
// server is on the PATH.
func startScript(j *judge, stderr io.Writer) (stop func(), err error) {
	path, kind, ok := valkeyserver.Find()
	if !ok {
		fmt.Fprintln(stderr, "no valkey-server or redis-server on the PATH: measuring the pure function only")
		return func() {}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	server, err := valkeyserver.Start(ctx, valkeyserver.Options{Path: path})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", kind, err)
	}
	store, err := scripts.New(scripts.Options{URL: server.URL(), Now: j.now, Timeout: 10 * time.Second})
	if err != nil {
		cancel()
		return nil, errors.Join(err, server.Stop())
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = store.Run(ctx) }()
	stop = func() { cancel(); <-ended; _ = server.Stop() }
	for range 500 {
		if store.Ready() {
			fmt.Fprintf(stderr, "judging with update.lua in a private %s\n", kind)
			j.store = store
			return stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, errors.New("the store did not answer within 5 s")
}

// verdicts are the store's, in the words of geo.
var verdicts = map[sessions.Verdict]string{
	sessions.VerdictTooSoon: "refused_rate",
	sessions.VerdictStale:   verdictStale,
	sessions.VerdictVague:   string(geo.IgnoredLowAccuracy),
	sessions.VerdictJump:    string(geo.RefusedJump),
	sessions.VerdictSpeed:   string(geo.RefusedSpeed),
	sessions.VerdictCeiling: string(geo.RefusedCeiling),
	sessions.VerdictStored:  string(geo.Accepted),

	sessions.VerdictBeforeStart:    "ignored_before_start",
	sessions.VerdictIgnoredTooSoon: "ignored_too_soon",
	sessions.VerdictNoPosition:     string(geo.IgnoredNoPosition),
}

func fixOf(f geo.Fix) sessions.Fix {
	out := sessions.Fix{Point: f.Point, AccuracyM: f.AccuracyM, Mock: f.Mock}
	if v, ok := f.SpeedKMH.Get(); ok {
		out.SpeedKMH = &v
	}
	if f.RecordedMS > 0 {
		out.RecordedAt = time.UnixMilli(f.RecordedMS).UTC()
	}
	return out
}
