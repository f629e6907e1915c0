-- What lists of sessions are read by.

-- step: build the index of a trainer's sessions
CREATE INDEX CONCURRENTLY IF NOT EXISTS tutoring_sessions_of_trainer ON tutoring_sessions (trainer_id);

-- step: build the index of sessions by time
CREATE INDEX CONCURRENTLY IF NOT EXISTS tutoring_sessions_by_time ON tutoring_sessions
  ((coalesce(scheduled_at, '0001-01-01 00:00:00+00')) DESC, id DESC);

-- step: say what it is for
COMMENT ON INDEX tutoring_sessions_by_time IS 'lists of all sessions, latest booking first';
