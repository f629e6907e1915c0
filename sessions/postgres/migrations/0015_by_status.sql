-- What lists of sessions with one status are read by, and what a person's request about
-- rows of sessions that the operator has deleted.

-- step: build the index of sessions by status
CREATE INDEX CONCURRENTLY IF NOT EXISTS tutoring_sessions_by_status ON tutoring_sessions
  (status, (coalesce(scheduled_at, '0001-01-01 00:00:00+00')) DESC, id DESC);

-- step: build the index of a student's reviews
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_reviews_of_student ON session_reviews (student_id);

-- step: build the index of a trainer's reviews
CREATE INDEX CONCURRENTLY IF NOT EXISTS session_reviews_of_trainer ON session_reviews (trainer_id);

-- step: build the index of a student's journeys
CREATE INDEX CONCURRENTLY IF NOT EXISTS journey_analytics_of_student ON journey_analytics (student_id);

-- step: say what it is for
COMMENT ON INDEX tutoring_sessions_by_status IS 'lists of sessions with one status, latest booking first';
