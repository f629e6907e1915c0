package main

import (
	"context"
	"time"

	"doorstep/geo"
	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// visit is one journey through the product's own service, on the judge's clock.
type visit struct {
	*sessions.Service
	trainer sessions.Caller
	id      sessions.ID
}

// visit books a session and starts its journey at nowMS. live is the store it uses.
func (j *judge) visit(live sessions.Live, mode geo.Mode, home geo.Point, nowMS int64) (visit, error) {
	ctx := context.Background()
	j.clockMS = nowMS
	repo := memory.NewRepository(nil)
	v := visit{
		Service: sessions.NewService(repo, live, sessions.ServiceOptions{
			Now: j.now, Counter: sessions.NewFixCounter(repo, sessions.FixCounterOptions{}),
		}),
		trainer: sessions.Caller{ID: sessions.NewID(), Role: sessions.Trainer}, id: sessions.NewID(),
	}
	_, _, err := v.Create(ctx, sessions.Caller{ID: sessions.NewID(), Role: sessions.Admin}, sessions.Booking{
		ID: v.id, TrainerID: v.trainer.ID, StudentID: sessions.NewID(), Home: home, Mode: mode,
	})
	if err == nil {
		_, err = v.Start(ctx, v.trainer, v.id, mode)
	}
	return v, err
}

// nearDoorM is how far from the home an honest journey starts at most that starts near
// the door, in m, and nearDoorMS is when it asks to arrive.
const (
	nearDoorM  = 100
	nearDoorMS = 15_000
	tapMS      = 1000 // from the last fix of the journey to the one of the arrival
)

// startsNearDoor plays each honest stretch as a journey that starts near the home, and
// counts how many ask to arrive, after their first fix after nearDoorMS that is inside
// the fence, and how many of those are refused. The request carries a fix of its own.
func startsNearDoor(j *judge, all []host) (asked, refused int, err error) {
	for i, h := range all {
		rng := luck(h.file, "near the door", i)
		home := geo.Offset(h.fixes[h.from].Point, 360*rng.Float64(), nearDoorM*rng.Float64())
		v, err := j.visit(j.newLive(), h.mode, home, h.at[h.from])
		if err != nil {
			return 0, 0, err
		}
		for k := h.from; k < len(h.fixes); k++ {
			j.clockMS = h.at[k]
			if err := v.update(h.fixes[k].Fix); err != nil {
				return 0, 0, err
			}
			fix := h.arriveWith(k)
			if h.at[k]-h.at[h.from] < nearDoorMS || geo.DistanceM(fix.Point, home) > radiusM {
				continue
			}
			asked++
			j.clockMS += tapMS
			if v.arrive(fix) != nil {
				refused++
			}
			break
		}
	}
	return asked, refused, nil
}

// arriveWith is the fix of an arrival, tapMS after fix k of a host.
func (h host) arriveWith(k int) geo.Fix {
	f, next := h.fixes[k].Fix, h.fixes[min(k+1, len(h.fixes)-1)].Fix
	if gap := next.RecordedMS - f.RecordedMS; gap > tapMS {
		far := geo.DistanceM(f.Point, next.Point) * tapMS / float64(gap)
		f.Point = geo.Offset(f.Point, geo.BearingDeg(f.Point, next.Point), far)
	}
	f.RecordedMS += tapMS
	return f
}

func (v visit) update(f geo.Fix) error {
	fix, err := sessions.NewFix(fixOf(f))
	if err == nil {
		_, err = v.Update(context.Background(), v.trainer, v.id, fix)
	}
	return err
}

func (v visit) arrive(f geo.Fix) error {
	fix, err := sessions.NewFix(fixOf(f))
	if err == nil {
		_, err = v.Arrive(context.Background(), v.trainer, v.id, &fix)
	}
	return err
}

func (j *judge) now() time.Time { return time.UnixMilli(j.clockMS).UTC() }
