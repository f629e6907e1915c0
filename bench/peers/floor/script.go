package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"doorstep/geo"
	"doorstep/scripts"
	"doorstep/sessions"
)

// script opens a journey when it is booked and gives its fixes to update.lua,
// with all that this does. The trainer goes by the session's id: there is no
// token to tell another.
func script(url string) (book func(context.Context, *booking) (int, error), put func(context.Context, *fix) (int, error), err error) {
	rate, err := strconv.Atoi(os.Getenv("RATE_MS"))
	if err != nil {
		return nil, nil, err
	}
	store, err := scripts.New(scripts.Options{
		URL: url, Live: sessions.LiveOptions{RateInterval: time.Duration(max(rate, 1)) * time.Millisecond},
	})
	if err != nil {
		return nil, nil, err
	}
	go func() { _ = store.Run(context.Background()) }() // until the process is ended
	book = func(ctx context.Context, b *booking) (int, error) {
		id, ok := sessions.ParseID(b.SessionID)
		home, err := geo.NewPoint(b.StudentHome.Latitude, b.StudentHome.Longitude)
		if !ok {
			err = errors.New("no session's id")
		}
		if err != nil {
			return 0, err
		}
		opened, err := store.Open(ctx, sessions.Journey{
			Ref: sessions.Ref{TrainerID: id, SessionID: id}, Home: home, Mode: sessions.Car, StartedAt: time.Now(),
		})
		if err == nil && !opened {
			err = errors.New("not opened")
		}
		return http.StatusCreated, err
	}
	put = func(ctx context.Context, f *fix) (int, error) {
		at, err := geo.NewPoint(f.Latitude, f.Longitude)
		if err != nil {
			return 0, err
		}
		id := sessions.ID(f.SessionID)
		receipt, err := store.Update(ctx, sessions.Ref{TrainerID: id, SessionID: id},
			sessions.Fix{Point: at, AccuracyM: f.Accuracy, SpeedKMH: &f.Speed, HeadingDeg: &f.Heading})
		switch {
		case err != nil:
			return 0, err
		case receipt.Verdict == sessions.VerdictStored:
			return http.StatusCreated, nil
		case receipt.Verdict == sessions.VerdictTooSoon:
			return http.StatusTooManyRequests, nil
		}
		return http.StatusUnprocessableEntity, nil
	}
	return book, put, nil
}
