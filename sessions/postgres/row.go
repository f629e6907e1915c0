package postgres

import (
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"doorstep/geo"
	"doorstep/sessions"
)

// The columns are named, never *, so that a migration that adds one changes no prepared
// statement's result. The casts accept an existing table as it is: status may be an enum,
// ids text, homes json.
const columns = `id::text, trainer_id::text, student_id::text, status::text,
	scheduled_at, student_home_location::text, travel_mode, created_at,
	journey_mode, journey_started_at, journey_ended_at, journey_end_reason, arrived_at,
	student_otp::text, otp_expires_at, otp_attempts, started_at, completed_at,
	coalesce(codes_issued, 0), coalesce(codes_wrong, 0), coalesce(codes_resent, 0), code_resent_at, code_proof,
	journey_ended_by, closed_at, closed_by, close_reason,
	starts_since, coalesce(starts, 0), home_moved_at, journey_region`

const (
	selectSession = `SELECT ` + columns + ` FROM tutoring_sessions WHERE id = $1`
	lockSession   = selectSession + ` FOR UPDATE`

	// With the first entry of its history.
	insertSession = `WITH booked AS (INSERT INTO tutoring_sessions (id, trainer_id, student_id, scheduled_at,
			student_home_location, travel_mode, created_at, status, journey_mode,
			journey_started_at, journey_ended_at, journey_end_reason, arrived_at, student_otp,
			otp_expires_at, otp_attempts, started_at, completed_at,
			codes_issued, codes_wrong, codes_resent, code_resent_at, code_proof, journey_ended_by,
			closed_at, closed_by, close_reason, starts_since, starts, journey_region)
		VALUES (@id, @trainer_id, @student_id, @scheduled_at,
			@student_home_location, @travel_mode, @created_at, @status, @journey_mode,
			@journey_started_at, @journey_ended_at, @journey_end_reason, @arrived_at, @student_otp,
			@otp_expires_at, @otp_attempts, @started_at, @completed_at,
			@codes_issued, @codes_wrong, @codes_resent, @code_resent_at, @code_proof, @journey_ended_by,
			@closed_at, @closed_by, @close_reason, @starts_since, @starts, @journey_region)
		ON CONFLICT (id) DO NOTHING RETURNING *),
		audit AS (INSERT INTO session_audit (` + auditColumns + `) SELECT ` + auditValues + ` FROM booked)
		SELECT ` + columns + ` FROM booked`

	updateSession = `UPDATE tutoring_sessions SET status = @status, journey_mode = @journey_mode,
			journey_started_at = @journey_started_at, journey_ended_at = @journey_ended_at,
			journey_end_reason = @journey_end_reason, arrived_at = @arrived_at, student_otp = @student_otp,
			otp_expires_at = @otp_expires_at, otp_attempts = @otp_attempts,
			started_at = @started_at, completed_at = @completed_at,
			codes_issued = @codes_issued, codes_wrong = @codes_wrong, codes_resent = @codes_resent,
			code_resent_at = @code_resent_at, code_proof = @code_proof, journey_ended_by = @journey_ended_by,
			closed_at = @closed_at, closed_by = @closed_by, close_reason = @close_reason,
			starts_since = @starts_since, starts = @starts, journey_region = @journey_region
		WHERE id = @id RETURNING ` + columns

	// A party that was read as nobody stays what it is.
	updateBooking = `UPDATE tutoring_sessions SET trainer_id = coalesce(@trainer_id, trainer_id),
			student_id = coalesce(@student_id, student_id), scheduled_at = @scheduled_at, travel_mode = @travel_mode
		WHERE id = @id`
	updateHomeMoved = `UPDATE tutoring_sessions SET home_moved_at = $2 WHERE id = $1`
	// What else is stored in the home stays. The casts are for a column of type json.
	updateHome = `UPDATE tutoring_sessions SET student_home_location = CASE
			WHEN jsonb_typeof(student_home_location::jsonb) = 'object' THEN student_home_location::jsonb || $2::jsonb ELSE $2::jsonb END
		WHERE id = $1`
)

// updateArgs are the columns that a transition may change.
func updateArgs(id sessions.ID, s sessions.Session) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": string(id), "status": string(s.Status), "journey_mode": word(s.JourneyMode),
		"journey_started_at": instant(s.JourneyStartedAt), "journey_ended_at": instant(s.JourneyEndedAt),
		"journey_end_reason": word(s.JourneyEndReason), "arrived_at": instant(s.ArrivedAt),
		"student_otp": word(s.OTP), "otp_expires_at": instant(s.OTPExpiresAt), "otp_attempts": s.OTPAttempts,
		"started_at": instant(s.StartedAt), "completed_at": instant(s.CompletedAt),
		"codes_issued": s.Codes.Issued, "codes_wrong": s.Codes.Wrong, "codes_resent": s.Codes.Resent,
		"code_resent_at": instant(s.Codes.ResentAt), "code_proof": word(s.Codes.Proof),
		"journey_ended_by": word(s.JourneyEndedBy),
		"closed_at":        instant(s.ClosedAt), "closed_by": word(s.ClosedBy), "close_reason": word(s.CloseReason),
		"starts_since": instant(s.StartsSince), "starts": s.Starts, "journey_region": word(s.Region),
	}
}

func bookingArgs(id sessions.ID, s sessions.Session) pgx.NamedArgs {
	return pgx.NamedArgs{
		"id": string(id), "trainer_id": word(s.TrainerID), "student_id": word(s.StudentID),
		"scheduled_at": instant(s.ScheduledAt), "travel_mode": string(s.Mode),
	}
}

func insertArgs(s sessions.Session) pgx.NamedArgs {
	args := updateArgs(s.ID, s)
	args["trainer_id"], args["student_id"] = string(s.TrainerID), string(s.StudentID)
	args["scheduled_at"], args["created_at"] = instant(s.ScheduledAt), instant(s.CreatedAt)
	args["student_home_location"], args["travel_mode"] = homeJSON(s.Home), string(s.Mode)
	return args
}

// scan reads one row of columns.
func scan(row pgx.Row) (sessions.Session, error) {
	var (
		s                                             sessions.Session
		id, trainer, student, home, mode, reason, otp *string
		status, booked                                string
		scheduled, created, started, ended, arrived   *time.Time
		expires, lesson, completed, resent            *time.Time
		proof, endedBy, closedBy, closeReason         *string
		closed, since, homeMoved                      *time.Time
		region                                        *string
	)
	err := row.Scan(&id, &trainer, &student, &status, &scheduled, &home, &booked, &created,
		&mode, &started, &ended, &reason, &arrived, &otp, &expires, &s.OTPAttempts, &lesson, &completed,
		&s.Codes.Issued, &s.Codes.Wrong, &s.Codes.Resent, &resent, &proof, &endedBy,
		&closed, &closedBy, &closeReason, &since, &s.Starts, &homeMoved, &region)
	if err != nil {
		return sessions.Session{}, err
	}
	s.ID, s.TrainerID, s.StudentID, s.Home = parseID(id), parseID(trainer), parseID(student), parseHome(home)
	s.Status, s.Mode, s.JourneyMode = sessions.Status(status), sessions.Mode(booked), sessions.Mode(text(mode))
	s.JourneyEndReason, s.OTP = sessions.EndReason(text(reason)), text(otp)
	s.ScheduledAt, s.CreatedAt = utc(scheduled), utc(created)
	s.JourneyStartedAt, s.JourneyEndedAt, s.ArrivedAt = utc(started), utc(ended), utc(arrived)
	s.OTPExpiresAt, s.StartedAt, s.CompletedAt = utc(expires), utc(lesson), utc(completed)
	s.Codes.ResentAt, s.Codes.Proof = utc(resent), text(proof)
	s.JourneyEndedBy = parseID(endedBy)
	s.ClosedAt, s.ClosedBy, s.CloseReason = utc(closed), parseID(closedBy), text(closeReason)
	s.StartsSince, s.HomeMovedAt, s.Region = utc(since), utc(homeMoved), text(region)
	return s, nil
}

// parseID is "" for a null, and for a text in an operator's table that is no UUID. No
// token's subject is "".
func parseID(s *string) sessions.ID {
	id, _ := sessions.ParseID(text(s))
	return id
}

// homeJSON is a home in the table's form, with the seven decimals that a Point keeps; nil
// for none.
func homeJSON(p geo.Point) *string {
	if !p.Valid() {
		return nil
	}
	b := append(p.AppendLng(append(p.AppendLat([]byte(`{"latitude":`)), `,"longitude":`...)), '}')
	s := string(b)
	return &s
}

// parseHome is the zero Point, which is invalid, for a home that is missing or cannot be
// read: one odd row in an operator's table must not fail a student's whole list. A
// json.Number accepts numbers in quotes, too.
func parseHome(s *string) geo.Point {
	var home struct {
		Latitude  json.Number `json:"latitude"`
		Longitude json.Number `json:"longitude"`
	}
	if s == nil || json.Unmarshal([]byte(*s), &home) != nil {
		return geo.Point{}
	}
	latitude, err1 := home.Latitude.Float64()
	longitude, err2 := home.Longitude.Float64()
	if err1 != nil || err2 != nil {
		return geo.Point{}
	}
	p, _ := geo.NewPoint(latitude, longitude)
	return p
}

// word is a string column, null for "not yet".
func word[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	w := string(s)
	return &w
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// instant is a timestamptz column, null for "not yet". It is cut to the millisecond here
// because timestamptz(3) rounds, which could move an instant into the future.
func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = millisecond(t)
	return &t
}

func utc(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return millisecond(*t)
}

func millisecond(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
