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

// script is update.lua in a real store, with the laboratory's clock. It also plays
// every fix to the pure function, and a verdict or flag in which the two differ is
// an error. So the table holds for both.
type script struct {
	judge
	store   *scripts.Store
	clockMS int64
	journey sessions.Journey
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
	s := &script{judge: judge{expiryMS: locationTTLMS}}
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

func (s *script) now() time.Time { return time.UnixMilli(s.clockMS).UTC() }

func (s *script) begin(mode geo.Mode, nowMS int64) error {
	if err := s.judge.begin(mode, nowMS); err != nil {
		return err
	}
	return s.open(mode, nowMS, false)
}

// open begins a journey in the store, with new ids.
func (s *script) open(mode geo.Mode, nowMS int64, restored bool) error {
	s.clockMS = nowMS
	s.journey = sessions.Journey{
		Ref:  sessions.Ref{TrainerID: sessions.NewID(), SessionID: sessions.NewID()},
		Home: geo.MustPoint(0, 0), Mode: mode, StartedAt: s.now(), Restored: restored,
	}
	_, err := s.store.Open(context.Background(), s.journey)
	return err
}

// publish plays a fix to both. The server's expiry follows real time, so an expired
// journey is opened anew here, as Service restores it.
func (s *script) publish(fix geo.Fix, nowMS int64) (outcome, error) {
	if s.expired(nowMS) {
		if err := s.open(s.journey.Mode, nowMS, true); err != nil {
			return outcome{}, err
		}
	}
	sent, err := sessions.NewFix(fixOf(fix))
	if err != nil {
		return outcome{}, err
	}
	want, err := s.judge.publish(asSent(fix, sent), nowMS)
	if err != nil {
		return outcome{}, err
	}
	s.clockMS = nowMS
	receipt, err := s.store.Update(context.Background(), s.journey.Ref, sent)
	if err != nil {
		return outcome{}, err
	}
	got := outcome{verdicts[receipt.Verdict], receipt.Verdict >= sessions.VerdictJump && receipt.Verdict <= sessions.VerdictCeiling, receipt.Flags}
	if got != want {
		return got, fmt.Errorf("update.lua says %s %s where geo.Judge says %s %s, at %d", got.verdict, got.flags, want.verdict, want.flags, nowMS)
	}
	return got, nil
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

// asSent is the fix with its numbers rounded as by the API.
func asSent(f geo.Fix, sent sessions.Fix) geo.Fix {
	f.AccuracyM = sent.AccuracyM
	if sent.SpeedKMH != nil {
		f.SpeedKMH = geo.Measured(*sent.SpeedKMH)
	}
	return f
}
