-- The ended journeys by their end: compared with the live store for an hour.
CREATE INDEX tutoring_sessions_ended ON tutoring_sessions (journey_ended_at, id) WHERE journey_ended_at IS NOT NULL;
