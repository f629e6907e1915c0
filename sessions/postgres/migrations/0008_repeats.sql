-- Who stopped the last journey: the same caller may repeat the stop.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS journey_ended_by text; -- null: nobody, or not known
