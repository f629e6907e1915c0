package figures

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"

	"doorstep/bench/load/drive"
)

// Measure plays a plan and returns what came of it and what each part took
// meanwhile: the given processes, the generators, and the PostgreSQL that this
// process has started. Begun is called as the measuring begins.
func Measure(ctx context.Context, what string, plan drive.Plan, servers Processes, progress io.Writer, begun func()) (drive.Result, []Cost, error) {
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
	var before Sample
	var failed error
	result, err := d.Play(ctx, func() {
		before, failed = parts.Sample()
		begun()
	})
	if err = errors.Join(err, failed); err != nil {
		return result, nil, err
	}
	after, err := parts.Sample()
	return result, after.Since(before), err
}
