package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"doorstep/gateway/app"
	"doorstep/sessions/postgres"
)

type outboxListCommand struct {
	app.DatabaseOptions
	Limit int `default:"100" help:"Largest number of dead letters to list, oldest first."`
}

// Run prints one line a dead letter; nothing of the event's detail.
func (c *outboxListCommand) Run(ctx context.Context) error {
	repo, err := open(ctx, c.DatabaseOptions)
	if err != nil {
		return err
	}
	defer repo.Close()
	list, err := repo.DeadLetters(ctx, c.Limit)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEQ\tTO\tTYPE\tSESSION\tATTEMPTS\tHAPPENED\tGIVEN UP\tREASON")
	for _, d := range list {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", d.Seq, d.To, d.Type, d.SessionID, d.Attempts,
			d.Since.Format(time.RFC3339), d.DeadAt.Format(time.RFC3339), d.Reason)
	}
	return w.Flush()
}

type outboxRequeueCommand struct {
	app.DatabaseOptions
	All bool    `help:"Requeue all dead letters."`
	Seq []int64 `arg:"" help:"Requeue these, by the SEQ that \"outbox list\" shows; the numbers may be given without the flag."`
}

// Run prints how many there were, and while it takes long how many so far. Those of a run
// that failed stay requeued, so the next one has less to do.
func (c *outboxRequeueCommand) Run(ctx context.Context) error {
	if c.All == (len(c.Seq) > 0) {
		return errors.New("outbox requeue: give SEQs or --all, not both")
	}
	repo, err := open(ctx, c.DatabaseOptions)
	if err != nil {
		return err
	}
	defer repo.Close()
	n, err := repo.Requeue(ctx, c.All, c.Seq, soFar(os.Stdout))
	if err == nil || n > 0 {
		fmt.Printf("%d requeued\n", n)
	}
	return err
}

// open opens the database for one command, which makes one call after the other.
func open(ctx context.Context, o app.DatabaseOptions) (*postgres.Repository, error) {
	options, err := o.Postgres()
	if err != nil {
		return nil, err
	}
	options.MaxConns = 1
	return postgres.Open(ctx, options)
}

// sayEvery is the time between two lines of soFar, and before the first.
const sayEvery = 2 * time.Second

// soFar prints the numbers that it is given, at most one in sayEvery.
func soFar(w io.Writer) func(n int) {
	said := time.Now()
	return func(n int) {
		if time.Since(said) >= sayEvery {
			fmt.Fprintf(w, "%d requeued so far\n", n)
			said = time.Now()
		}
	}
}
