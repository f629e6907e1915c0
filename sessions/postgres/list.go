package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"doorstep/sessions"
)

// scheduled is scheduled_at, or the zero time of Go for a null, so that a page can
// continue after it. The index tutoring_sessions_by_time has the same expression; the
// zone is ignored where an operator's column has none.
const scheduled = `coalesce(scheduled_at, '0001-01-01 00:00:00+00')`

// List implements sessions.Repository. One round trip. A list of a student's or a
// trainer's sessions finds them by an index, and one of all, or of all with a status, has
// the order of another. The status is compared in the column's own type, which the index
// has: an enum without it has no such session.
func (r *Repository) List(ctx context.Context, q sessions.SessionQuery) ([]sessions.Session, error) {
	w := where{}
	if q.Status != "" {
		w.and("status = $%d", string(q.Status))
	}
	if q.TrainerID != "" {
		w.and("trainer_id = $%d", string(q.TrainerID))
	}
	if q.StudentID != "" {
		w.and("student_id = $%d", string(q.StudentID))
	}
	if !q.From.IsZero() {
		w.and(scheduled+" >= $%d", millisecond(q.From))
	}
	if !q.To.IsZero() {
		w.and(scheduled+" < $%d", millisecond(q.To))
		w.and("scheduled_at IS NOT NULL")
	}
	if q.After.ID != "" {
		w.and("("+scheduled+", id) < ($%d, $%d)", millisecond(q.After.At), string(q.After.ID))
	}
	list, err := r.list(ctx, "list sessions", `SELECT `+columns+` FROM tutoring_sessions`+w.String()+
		` ORDER BY `+scheduled+` DESC, id DESC LIMIT `+w.next(q.Limit), w.args...)
	var pg *pgconn.PgError
	if q.Status != "" && errors.As(err, &pg) && pg.Code == invalidText {
		return nil, nil
	}
	return list, err
}

// RunningPage implements sessions.Repository. One round trip, from an index that holds
// running journeys only.
func (r *Repository) RunningPage(
	ctx context.Context, trainerID sessions.ID, after sessions.Cursor, limit int,
) ([]sessions.Session, error) {
	w := where{}
	w.and("journey_started_at IS NOT NULL AND journey_ended_at IS NULL")
	if trainerID != "" {
		w.and("trainer_id = $%d", string(trainerID))
	}
	if after.ID != "" {
		w.and("(journey_started_at, id) > ($%d, $%d)", millisecond(after.At), string(after.ID))
	}
	return r.list(ctx, "list running journeys", `SELECT `+columns+` FROM tutoring_sessions`+w.String()+
		` ORDER BY journey_started_at, id LIMIT `+w.next(limit), w.args...)
}

// where is the conditions of a query, and the query's arguments. The conditions are
// constants of this file; what a caller says is only ever an argument.
type where struct {
	conditions []string
	args       []any
}

// and adds a condition that has a %d for the number of each argument.
func (w *where) and(condition string, args ...any) {
	numbers := make([]any, len(args))
	for i, arg := range args {
		w.args = append(w.args, arg)
		numbers[i] = len(w.args)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, numbers...))
}

// next adds an argument that belongs to no condition, and returns its placeholder.
func (w *where) next(arg any) string {
	w.args = append(w.args, arg)
	return fmt.Sprintf("$%d", len(w.args))
}

func (w *where) String() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conditions, " AND ")
}
