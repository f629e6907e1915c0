-- Who closed a session before its lesson, and why.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS closed_at    timestamptz(3), -- null: not, or another service says so
  ADD COLUMN IF NOT EXISTS closed_by    text,
  ADD COLUMN IF NOT EXISTS close_reason text;
