package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/sessions"
)

const (
	recordColumns = `session_id::text, started_at, trainer_id::text, student_id::text, ended_at, reason, distance_m::float8,
		fixes_accepted, fixes_refused, fixes_stale, fixes_vague, fixes_too_soon, fixes_flagged, heard_at, last_fix_at, last_fix_m::float8, last_fix_marks, last_fix_clock, fix_to_eye_ms`
	selectRecord = `SELECT ` + recordColumns + ` FROM journey_analytics WHERE session_id = $1 AND started_at = $2`

	// Both return no row for what was recorded before.
	noteStart = `INSERT INTO journey_analytics AS j (session_id, started_at, trainer_id, student_id) VALUES ($1, $2, $3, $4)
		ON CONFLICT (session_id, started_at) DO UPDATE SET trainer_id = excluded.trainer_id, student_id = excluded.student_id
			WHERE j.trainer_id IS NULL
		RETURNING ` + recordColumns
	noteEnd = `INSERT INTO journey_analytics AS j (session_id, started_at, trainer_id, student_id, ended_at, reason)
			VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (session_id, started_at) DO UPDATE SET trainer_id = excluded.trainer_id, student_id = excluded.student_id,
				ended_at = excluded.ended_at, reason = excluded.reason, last_fix_at = NULL, last_fix_m = NULL,
				last_fix_marks = NULL, last_fix_clock = NULL
			WHERE j.ended_at IS NULL
		RETURNING ` + recordColumns

	// Ids and instants come through Go, which knows the types that an operator's table
	// may have.
	selectLatestJourneys = `SELECT ` + columns + ` FROM tutoring_sessions WHERE id = ANY($1) AND journey_started_at IS NOT NULL`

	// All rows are one statement: a row costs half of what it does as a statement of its
	// own, by BenchmarkAddCounts. The counts by latency are text, because unnest would
	// flatten an array of arrays.
	addCounts = `INSERT INTO journey_analytics AS j (session_id, started_at, distance_m, fixes_accepted, fixes_refused,
			fixes_stale, fixes_vague, fixes_too_soon, fixes_flagged, heard_at, last_fix_at, last_fix_m, last_fix_marks, last_fix_clock, fix_to_eye_ms)
		SELECT t.session, t.started, t.distance, t.accepted, t.refused, t.stale, t.vague, t.too_soon, t.flagged, t.heard,
			t.last_at, t.last_m, t.last_marks, t.last_clock::bigint[], t.eye::bigint[]
		FROM unnest($1::uuid[], $2::timestamptz[], $3::float8[], $4::bigint[], $5::bigint[],
			$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::timestamptz[], $11::timestamptz[], $12::float8[], $13::smallint[], $14::text[], $15::text[])
			AS t (session, started, distance, accepted, refused, stale, vague, too_soon, flagged, heard, last_at, last_m, last_marks, last_clock, eye)
		ORDER BY t.session
		ON CONFLICT (session_id, started_at) DO UPDATE SET distance_m = j.distance_m + excluded.distance_m,
			fixes_accepted = j.fixes_accepted + excluded.fixes_accepted, fixes_refused = j.fixes_refused + excluded.fixes_refused,
			fixes_stale = j.fixes_stale + excluded.fixes_stale, fixes_vague = j.fixes_vague + excluded.fixes_vague,
			fixes_too_soon = j.fixes_too_soon + excluded.fixes_too_soon, fixes_flagged = j.fixes_flagged + excluded.fixes_flagged,
			heard_at = greatest(j.heard_at, excluded.heard_at),
			(last_fix_at, last_fix_m, last_fix_marks, last_fix_clock) = (SELECT at, m, marks, clock
				FROM (VALUES (j.last_fix_at, j.last_fix_m, j.last_fix_marks, j.last_fix_clock),
					(excluded.last_fix_at, excluded.last_fix_m, excluded.last_fix_marks, excluded.last_fix_clock)) AS f (at, m, marks, clock)
				WHERE j.ended_at IS NULL ORDER BY at DESC NULLS LAST LIMIT 1),
			fix_to_eye_ms = ARRAY[j.fix_to_eye_ms[1] + excluded.fix_to_eye_ms[1], j.fix_to_eye_ms[2] + excluded.fix_to_eye_ms[2], j.fix_to_eye_ms[3] + excluded.fix_to_eye_ms[3], j.fix_to_eye_ms[4] + excluded.fix_to_eye_ms[4],
				j.fix_to_eye_ms[5] + excluded.fix_to_eye_ms[5], j.fix_to_eye_ms[6] + excluded.fix_to_eye_ms[6], j.fix_to_eye_ms[7] + excluded.fix_to_eye_ms[7], j.fix_to_eye_ms[8] + excluded.fix_to_eye_ms[8],
				j.fix_to_eye_ms[9] + excluded.fix_to_eye_ms[9], j.fix_to_eye_ms[10] + excluded.fix_to_eye_ms[10], j.fix_to_eye_ms[11] + excluded.fix_to_eye_ms[11], j.fix_to_eye_ms[12] + excluded.fix_to_eye_ms[12],
				j.fix_to_eye_ms[13] + excluded.fix_to_eye_ms[13], j.fix_to_eye_ms[14] + excluded.fix_to_eye_ms[14], j.fix_to_eye_ms[15] + excluded.fix_to_eye_ms[15], j.fix_to_eye_ms[16] + excluded.fix_to_eye_ms[16]]`

	selectLastSeen = `SELECT session_id::text, started_at, heard_at FROM journey_analytics
		WHERE session_id = ANY($1) AND heard_at IS NOT NULL`
)

// RecordJourney implements sessions.Analytics. One round trip, two
// for what had been noted before.
func (r *Repository) RecordJourney(ctx context.Context, e sessions.Event) (record sessions.JourneyRecord, first bool, err error) {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return record, false, unavailable("record journey", err)
	}
	defer done()
	session, started := string(e.SessionID), millisecond(e.JourneyStartedAt)
	err = pgx.ErrNoRows
	switch e.Type {
	case sessions.JourneyStarted:
		record, err = scanRecord(conn.QueryRow(ctx, noteStart, session, started, id(e.TrainerID), id(e.StudentID)))
	case sessions.JourneyEnded:
		record, err = scanRecord(conn.QueryRow(ctx, noteEnd, session, started, id(e.TrainerID), id(e.StudentID),
			millisecond(e.At), string(e.Reason)))
	}
	if err == nil {
		return record, true, nil
	}
	if errors.Is(err, pgx.ErrNoRows) {
		record, err = scanRecord(conn.QueryRow(ctx, selectRecord, session, started))
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return sessions.JourneyRecord{}, false, unavailable("record journey", err)
	}
	return record, false, nil
}

// AddCounts implements sessions.Analytics. It takes two round trips. The
// second is a statement that locks its rows in the same order in every
// process, and, where there are moments, one for them in the same transaction.
func (r *Repository) AddCounts(ctx context.Context, list []sessions.JourneyCounts) error {
	conn, ctx, done, err := r.acquire(ctx)
	if err != nil {
		return unavailable("add counts", err)
	}
	defer done()
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i] = string(t.SessionID)
	}
	rows, err := conn.Query(ctx, selectLatestJourneys, ids)
	if err != nil {
		return unavailable("look journeys up", err)
	}
	latest := map[sessions.Ref]time.Time{}
	var s sessions.Session
	for rows.Next() {
		if s, err = scan(rows); err != nil {
			break
		}
		latest[s.Journey().Ref] = s.JourneyStartedAt
	}
	rows.Close()
	if err := cmp.Or(err, rows.Err()); err != nil {
		return unavailable("look journeys up", err)
	}
	columns := countColumns(list, latest)
	if columns == nil {
		return nil
	}
	batch := &pgx.Batch{} // one transaction
	batch.Queue(addCounts, columns...)
	if moments := momentsOf(list, latest); len(moments.ids) > 0 {
		batch.Queue(withoutJIT)
		batch.Queue(insertMoments, moments.args()...)
	}
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return unavailable("add counts", err)
	}
	return nil
}

func momentsOf(list []sessions.JourneyCounts, latest map[sessions.Ref]time.Time) (columns momentColumns) {
	for _, t := range list {
		if at, ok := latest[t.Ref]; ok {
			columns.add(sessions.JourneyKey{SessionID: t.SessionID, StartedAt: at}, t.Moments)
		}
	}
	return columns
}

// countColumns are the arguments of addCounts; nil where there is nothing to add.
func countColumns(list []sessions.JourneyCounts, latest map[sessions.Ref]time.Time) []any {
	var (
		session, eye                                      []string
		started                                           []time.Time
		heard, lastAt                                     []*time.Time
		lastM                                             []*float64
		lastMarks                                         []*int16
		lastClock                                         []*string
		distance                                          []float64
		accepted, refused, stale, vague, tooSoon, flagged []int64
	)
	for _, t := range list {
		at, ok := latest[t.Ref]
		if !ok {
			continue
		}
		session, started, heard = append(session, string(t.SessionID)), append(started, at), append(heard, instant(t.LastSeen))
		distance = append(distance, t.DistanceM)
		accepted, refused = append(accepted, t.Accepted), append(refused, t.Refused)
		stale, vague = append(stale, t.Stale), append(vague, t.Vague)
		tooSoon, flagged = append(tooSoon, t.TooSoon), append(flagged, t.Flagged)
		lastAt = append(lastAt, instant(t.Last.At))
		m, marks := lastFix(t.Last)
		lastM, lastMarks = append(lastM, m), append(lastMarks, marks)
		lastClock = append(lastClock, clockLiteral(t.Last.Clock))
		eye = append(eye, literal(t.FixToEye))
	}
	if len(session) == 0 {
		return nil
	}
	return []any{session, started, distance, accepted, refused, stale, vague, tooSoon, flagged, heard, lastAt, lastM, lastMarks, lastClock, eye}
}

// lastFix is what last_fix_m and last_fix_marks hold; nil without a fix.
func lastFix(l sessions.LastFix) (*float64, *int16) {
	if l.At.IsZero() {
		return nil, nil
	}
	marks := int16(0)
	for i, said := range []bool{l.Arriving, l.Trusted, l.Outside} {
		if said {
			marks |= 1 << i
		}
	}
	return &l.DistanceM, &marks
}

// clockLiteral is what last_fix_clock holds; nil for a clock that agrees.
func clockLiteral(c sessions.PhoneClock) *string {
	if c == (sessions.PhoneClock{}) {
		return nil
	}
	text := fmt.Sprintf("{%d,%d,%d}", c.OffsetMS, c.ToldMS, c.SinceMS)
	return &text
}

// literal is counts as PostgreSQL writes an array.
func literal(counts sessions.Latencies) string {
	text := append(make([]byte, 0, 64), '{')
	for _, n := range counts {
		text = append(strconv.AppendInt(text, n, 10), ',')
	}
	text[len(text)-1] = '}'
	return string(text)
}

// JourneyRecord implements sessions.Analytics. One round trip.
func (r *Repository) JourneyRecord(ctx context.Context, key sessions.JourneyKey) (sessions.JourneyRecord, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	record, err := scanRecord(r.pool.QueryRow(ctx, selectRecord, string(key.SessionID), millisecond(key.StartedAt)))
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return sessions.JourneyRecord{}, false, nil
	case err != nil:
		return sessions.JourneyRecord{}, false, unavailable("read journey record", err)
	}
	return record, true, nil
}

// LastSeen implements sessions.Analytics. One round trip.
func (r *Repository) LastSeen(ctx context.Context, keys []sessions.JourneyKey) (map[sessions.JourneyKey]time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, r.callTimeout)
	defer cancel()
	ids, wanted := make([]string, len(keys)), map[sessions.JourneyKey]bool{}
	for i, key := range keys {
		ids[i], wanted[key] = string(key.SessionID), true
	}
	rows, err := r.pool.Query(ctx, selectLastSeen, ids)
	if err != nil {
		return nil, unavailable("look up last seen", err)
	}
	lastSeen := map[sessions.JourneyKey]time.Time{}
	var (
		key sessions.JourneyKey
		at  time.Time
	)
	_, err = pgx.ForEachRow(rows, []any{&key.SessionID, &key.StartedAt, &at}, func() error {
		if key.StartedAt = millisecond(key.StartedAt); wanted[key] {
			lastSeen[key] = millisecond(at)
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("look up last seen", err)
	}
	return lastSeen, nil
}

func scanRecord(row pgx.Row) (r sessions.JourneyRecord, err error) {
	var (
		session, trainer, student, reason *string
		ended, heard, lastAt              *time.Time
		lastM                             *float64
		lastMarks                         *int16
		lastClock                         []int64
		counts                            []int64
	)
	err = row.Scan(&session, &r.StartedAt, &trainer, &student, &ended, &reason, &r.DistanceM, &r.Accepted,
		&r.Refused, &r.Stale, &r.Vague, &r.TooSoon, &r.Flagged, &heard, &lastAt, &lastM, &lastMarks, &lastClock, &counts)
	if err != nil {
		return sessions.JourneyRecord{}, err
	}
	r.SessionID, r.TrainerID, r.StudentID = parseID(session), parseID(trainer), parseID(student)
	r.StartedAt, r.EndedAt, r.LastSeen = millisecond(r.StartedAt), utc(ended), utc(heard)
	r.Reason = sessions.EndReason(text(reason))
	if len(lastClock) == 3 {
		r.Last.Clock = sessions.PhoneClock{OffsetMS: lastClock[0], ToldMS: lastClock[1], SinceMS: lastClock[2]}
	}
	if lastAt != nil && lastM != nil && lastMarks != nil {
		r.Last = sessions.LastFix{
			At: utc(lastAt), DistanceM: *lastM, Clock: r.Last.Clock,
			Arriving: *lastMarks&1 != 0, Trusted: *lastMarks&2 != 0, Outside: *lastMarks&4 != 0,
		}
	}
	copy(r.FixToEye[:], counts)
	return r, nil
}

// id is a uuid column, null for none: a row of an operator's table may lack a party.
func id(of sessions.ID) *string { return word(of) }
