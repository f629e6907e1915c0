package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"doorstep/internal/pause"

	"github.com/jackc/pgx/v5"

	"doorstep/internal/servers/awstest"
	"doorstep/sessions"
)

// inconsistent counts sessions whose state does not agree with their events.
const inconsistent = `SELECT count(*) FROM tutoring_sessions s WHERE
	(SELECT count(*) FROM outbox o WHERE o.session_id = s.id AND o.type = 'TrainerJourneyStarted') <> (s.journey_started_at IS NOT NULL)::int
	OR (SELECT count(*) FROM outbox o WHERE o.session_id = s.id AND o.type = 'TrainerJourneyEnded') <> (s.journey_ended_at IS NOT NULL)::int`

// conditions are true of a session after a step that was answered as done.
func conditions() map[kind]string {
	return map[kind]string{
		book: "true", start: "journey_started_at IS NOT NULL", stop: "journey_end_reason = 'cancelled'",
		arrive: "journey_end_reason = 'arrived'", verify: "status IN ('in_progress', 'completed')",
	}
}

// checkDatabase checks what PostgreSQL holds once all is well: no transition is
// half done, none that was answered as done is lost, and the outbox drains.
func checkDatabase(ctx context.Context, dsn string, done map[kind][]sessions.ID, short bool, r *row) error {
	return connected(ctx, dsn, func(conn *pgx.Conn) error {
		var n int
		if err := conn.QueryRow(ctx, inconsistent).Scan(&n); err != nil {
			return err
		}
		r.check(n == 0, "%d sessions are half done", n)
		for k, condition := range conditions() {
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM tutoring_sessions WHERE "+condition+" AND id = ANY($1::uuid[])", done[k]).Scan(&n); err != nil {
				return err
			}
			r.check(n == len(done[k]), "%d of %d that were answered as done (%s) are not", len(done[k])-n, len(done[k]), k)
		}
		return awaitOutbox(ctx, conn, short, r)
	})
}

// drainIn bounds how long the outbox may take to drain. An event that was claimed
// when the database went away is claimed again when its lease is over: by the
// bus's relay after 30 s, then by a consumer's after 50 s. The short form ends the
// leases itself.
const drainIn = 2 * time.Minute

// undelivered counts the events that have yet to reach the bus, or a consumer in
// the gateway, and the dead letters.
const undelivered = `SELECT count(*) FILTER (WHERE published_at IS NULL), count(dead_at)
	FROM (SELECT published_at, dead_at FROM outbox UNION ALL SELECT published_at, dead_at FROM outbox_deliveries) events`

func awaitOutbox(ctx context.Context, conn *pgx.Conn, short bool, r *row) error {
	var waiting, dead int
	began, ended := time.Now(), !short
	for deadline := time.Now().Add(drainIn); time.Now().Before(deadline); {
		if err := conn.QueryRow(ctx, undelivered).Scan(&waiting, &dead); err != nil {
			return err
		}
		if waiting == 0 {
			break
		}
		if !ended && time.Since(began) > 2*time.Second {
			ended = true
			if err := endLeases(ctx, conn); err != nil {
				return err
			}
		}
		if err := pause.For(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	if took := time.Since(began); took > time.Second {
		r.Well += fmt.Sprintf("; outbox drained %s later", round(took))
	}
	r.check(waiting == 0, "%d events still wait in the outbox or for a consumer", waiting)
	r.check(dead == 0, "%d events are dead letters", dead)
	return nil
}

// endLeases frees all that is claimed and not yet delivered. A relay that still
// has its claim may publish twice then, as it may at any time.
func endLeases(ctx context.Context, conn *pgx.Conn) error {
	for _, statement := range []string{
		"UPDATE outbox SET locked_until = NULL WHERE published_at IS NULL",
		"UPDATE outbox_deliveries SET locked_until = NULL WHERE published_at IS NULL",
		"UPDATE consumed_events SET locked_until = now() WHERE done_at IS NULL",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// published checks that the bus has every event of the outbox, repeats apart,
// and no other. With inconsistent it proves one event for each transition.
func published(ctx context.Context, dsn string, aws *awstest.Server, r *row) error {
	onBus, arrivals := map[string]bool{}, aws.Events()
	for _, e := range arrivals {
		var d struct {
			EventID string `json:"eventId"`
		}
		if err := json.Unmarshal([]byte(e.Detail), &d); err != nil {
			return err
		}
		onBus[d.EventID+" "+e.DetailType] = true
	}
	return connected(ctx, dsn, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, "SELECT event_id::text || ' ' || type FROM outbox")
		if err != nil {
			return err
		}
		written, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		found := 0
		for _, id := range written {
			if onBus[id] {
				found++
			}
		}
		r.check(found == len(written), "%d of %d events are on the bus", found, len(written))
		r.check(len(onBus) == found, "%d events on the bus are not in the outbox", len(onBus)-found)
		r.Saw += fmt.Sprintf("; %d of %d events on the bus, %d came again", found, len(written), len(arrivals)-len(onBus))
		return nil
	})
}
