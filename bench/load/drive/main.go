package drive

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// Main is the main of a program that plays loads: one that Start has started
// generates; else run gets the arguments and a context that an interrupt ends,
// and its error ends the process with 1.
func Main(name string, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error) {
	Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
