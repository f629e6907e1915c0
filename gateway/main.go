// Command gateway is Doorstep: a live-journey location gateway over plain HTTP.
// README.md shows what it does; `gateway --help` lists every setting.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "dev"

// cli is the subcommands.
type cli struct {
	Serve   serveCommand   `cmd:"" default:"withargs" help:"Run the service (the default)."`
	Demo    demoCommand    `cmd:"" help:"Play journeys through an embedded service, and watch them in the terminal."`
	Migrate migrateCommand `cmd:"" help:"Bring the database's schema up to this binary's."`
	Token   tokenCommand   `cmd:"" help:"Print a token for the configured secret."`
	Health  healthCommand  `cmd:"" help:"Exit 0 when a gateway answers on its address."`
	Worker  workerCommand  `cmd:"" help:"Consume the events from their queues: pushes, clean-up, analytics."`
	Outbox  outboxCommand  `cmd:"" help:"List and requeue the events that were given up."`

	Version kong.VersionFlag `help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("gateway"), kong.Vars{"version": version},
		kong.Description("Doorstep: a live-journey location gateway. Every flag of serve is also an environment variable, and the other way round."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if err == nil {
		err = unknownSettings(parser.Model.Node, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		return 1
	}
	return 0
}
