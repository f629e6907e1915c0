package main

import (
	"context"

	"doorstep/gateway/demo"
)

type demoCommand struct {
	demo.Options
}

// Run plays the demo until it ends or a signal comes.
func (d *demoCommand) Run(ctx context.Context) error { return demo.Run(ctx, d.Options) }
