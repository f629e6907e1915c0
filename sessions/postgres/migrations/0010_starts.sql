-- How often a session's journey was started in the hour since then.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS starts_since timestamptz(3),
  ADD COLUMN IF NOT EXISTS starts       integer;
