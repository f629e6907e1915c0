package figures

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"

	"doorstep/bench/load/drive"
)

// Moments are what Measure calls during a run; nil: nothing.
type Moments struct {
	SetUp func(ctx context.Context) error // when every journey has begun and every student waits, before the play
	Begun func()                          // when the measuring begins
}

// Measure plays a plan and returns its result and what each part used meanwhile:
// the given processes, the generators, and the PostgreSQL that this process has
// started.
func Measure(ctx context.Context, what string, plan drive.Plan, servers Processes, progress io.Writer, at Moments) (drive.Result, []Cost, error) {
	d, err := drive.Start(ctx, what, plan, progress)
	if err != nil {
		return drive.Result{}, nil, err
	}
	defer func() { _ = d.Close() }()
	parts := Processes{"generator": d.PIDs()}
	if database := Descendants(os.Getpid(), "postgres"); len(database) > 0 {
		parts["postgresql"] = database
	}
	maps.Copy(parts, servers)
	if at.SetUp != nil {
		if err := at.SetUp(ctx); err != nil {
			return drive.Result{}, nil, err
		}
	}
	var before Sample
	var failed error
	result, err := d.Play(ctx, func() {
		before, failed = parts.Sample()
		if at.Begun != nil {
			at.Begun()
		}
	})
	if err = errors.Join(err, failed); err != nil {
		return result, nil, err
	}
	after, err := parts.Sample()
	return result, after.Since(before), err
}
