package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"doorstep/sessions/postgres"
)

type outboxListCommand struct {
	DatabaseURL string `required:"" secret:"" env:"DOORSTEP_DATABASE_URL" help:"URL of PostgreSQL: postgres://…"`
	DatabaseCA  []byte `env:"DOORSTEP_DATABASE_CA" help:"PEM file, or its content, of the certificate authority that signed PostgreSQL's certificate; database-url must then say sslmode=verify-full. Of RDS: its global bundle. Empty: the system's root certificates."`
	Limit       int    `default:"100" help:"Largest number of dead letters to list, oldest first."`
}

// Run prints one line a dead letter; nothing of the event's detail.
func (c *outboxListCommand) Run(ctx context.Context) error {
	repo, err := postgres.Open(ctx, postgres.Options{URL: c.DatabaseURL, CA: c.DatabaseCA, MaxConns: 1})
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
	DatabaseURL string  `required:"" secret:"" env:"DOORSTEP_DATABASE_URL" help:"URL of PostgreSQL: postgres://…"`
	DatabaseCA  []byte  `env:"DOORSTEP_DATABASE_CA" help:"PEM file, or its content, of the certificate authority that signed PostgreSQL's certificate; database-url must then say sslmode=verify-full. Of RDS: its global bundle. Empty: the system's root certificates."`
	All         bool    `help:"Requeue all dead letters."`
	Seq         []int64 `arg:"" help:"Requeue these, by the SEQ that \"outbox list\" shows; the numbers may be given without the flag."`
}

// Run prints how many there were.
func (c *outboxRequeueCommand) Run(ctx context.Context) error {
	if c.All == (len(c.Seq) > 0) {
		return errors.New("outbox requeue: give SEQs or --all, not both")
	}
	repo, err := postgres.Open(ctx, postgres.Options{URL: c.DatabaseURL, CA: c.DatabaseCA, MaxConns: 1})
	if err != nil {
		return err
	}
	defer repo.Close()
	n, err := repo.Requeue(ctx, c.All, c.Seq)
	if err == nil {
		fmt.Printf("%d requeued\n", n)
	}
	return err
}
