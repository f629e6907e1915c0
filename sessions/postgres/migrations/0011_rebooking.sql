-- When the home last changed: what was seen of the way to another one counts no more.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS home_moved_at timestamptz(3); -- null: never, or another service changed it
