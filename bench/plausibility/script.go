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

// script is update.lua in a real store, with the laboratory's clock. It plays
// every fix through the store in memory too, and a single verdict or flag on which
// the two differ is an error: the table is of the script, and so is the
// specification.
type script struct {
	judge
	store   *scripts.Store
	journey sessions.Journey // in the store
}

func (s *script) name() string { return "doorstep" }

// startScript starts a private store. The engine is nil where no server is on the
// PATH.
func startScript(stderr io.Writer) (*script, func(), error) {
	path, kind, ok := valkeyserver.Find()
	if !ok {
		fmt.Fprintln(stderr, "no valkey-server or redis-server on the PATH: measuring the pure function only")
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	server, err := valkeyserver.Start(ctx, valkeyserver.Options{Path: path})
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("start %s: %w", kind, err)
	}
	s := &script{}
	s.store, err = scripts.New(scripts.Options{URL: server.URL(), Now: s.now, Timeout: 10 * time.Second})
	if err != nil {
		cancel()
		return nil, nil, errors.Join(err, server.Stop())
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.store.Run(ctx) }()
	stop := func() { cancel(); <-ended; _ = server.Stop() }
	for range 500 {
		if s.store.Ready() {
			fmt.Fprintf(stderr, "judging with update.lua in a private %s\n", kind)
			return s, stop, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	return nil, nil, errors.New("the store did not answer within 5 s")
}

func (s *script) begin(mode geo.Mode, home geo.Point, nowMS int64) error {
	if err := s.judge.begin(mode, home, nowMS); err != nil {
		return err
	}
	s.journey = s.judge.journey
	return opened(s.store, s.journey)
}

// publish plays a fix through both. The server's own expiry runs on real time, so an
// expired journey is one opened anew, under a name of its own.
func (s *script) publish(fix geo.Fix, nowMS int64) (outcome, error) {
	sent, err := sessions.NewFix(fixOf(fix))
	if err != nil {
		return outcome{}, err
	}
	restored := s.judge.journey.Restored
	s.judge.journey.Restored = false
	want, err := s.update(sent, nowMS)
	if err != nil {
		return outcome{}, err
	}
	if s.judge.journey.Restored {
		s.journey = s.judge.journey
		s.journey.SessionID = sessions.NewID()
		if err := opened(s.store, s.journey); err != nil {
			return outcome{}, err
		}
	}
	s.judge.journey.Restored = restored || s.judge.journey.Restored
	got, err := s.store.Update(context.Background(), s.journey.Ref, sent)
	if err == nil && got != want {
		err = fmt.Errorf("update.lua says %s %s where geo.Judge says %s %s, at %d", got.Verdict, got.Flags, want.Verdict, want.Flags, nowMS)
	}
	return outcomeOf(got), err
}

func (s *script) arrived(home geo.Point, nowMS int64) (bool, error) {
	return arrivedAt(s.store, s.journey, &s.clockMS, home, nowMS)
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
