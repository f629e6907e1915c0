package main

import (
	"context"
	"log/slog"

	"doorstep/gateway/app"
)

type workerCommand struct {
	app.WorkerOptions
	LogLevel  slog.Level `default:"info" env:"DOORSTEP_LOG_LEVEL" help:"Lowest level that is logged: debug, info, warn or error."`
	LogFormat string     `default:"json" enum:"json,text" env:"DOORSTEP_LOG_FORMAT" help:"Format of the log: json or text."`
}

// Run consumes until a signal, then drains. A second signal ends it at once.
func (w *workerCommand) Run(ctx context.Context) error {
	w.Log, w.Version = logger(w.LogFormat, w.LogLevel), version
	worker, err := app.NewWorker(w.WorkerOptions)
	if err != nil {
		return err
	}
	if err := worker.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	w.Log.Info("draining", slog.Duration("at_most", w.DrainTimeout))
	return drain(worker, w.DrainTimeout)
}
