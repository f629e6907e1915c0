package drive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"doorstep/geo"
	"doorstep/scripts"
	"doorstep/sessions"
)

// openAll opens every journey in the plan's live store, with its parties, so that
// its students may read it.
func (p *play) openAll(ctx context.Context) error {
	store, err := scripts.New(scripts.Options{URL: p.plan.Store, Timeout: callWithin})
	if err != nil {
		return fmt.Errorf("drive: %w", err)
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = store.Run(running) }()
	defer func() { cancel(); <-ended }()
	for began := time.Now(); !store.Ready(); {
		if !sleep(ctx, time.Millisecond) || time.Since(began) > dialWithin {
			return errors.New("drive: the live store is not ready")
		}
	}
	return p.each(ctx, openers, func(ctx context.Context, j *journey) error { return p.open(ctx, store, j) })
}

func (p *play) open(ctx context.Context, store *scripts.Store, j *journey) error {
	now := time.Now()
	home, err := geo.NewPoint(j.homeLat, j.homeLng)
	if err != nil {
		return fmt.Errorf("drive: %w", err)
	}
	j.embark(now, time.Time{}, false, p.plan.SpeedMPS)
	opened, err := store.Open(ctx, sessions.Journey{
		Ref: sessions.Ref{TrainerID: j.trainer, SessionID: j.session}, Home: home, Mode: sessions.Car, StartedAt: now,
	})
	if err == nil && !opened {
		err = errors.New("not opened")
	}
	if err == nil {
		err = store.SetMeta(ctx, j.session, sessions.Meta{TrainerID: j.trainer, StudentID: j.student})
	}
	if err != nil {
		return fmt.Errorf("drive: %w", err)
	}
	return nil
}
