-- What is known of a session's codes beside the present one. Null: nothing yet.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS codes_issued   integer,
  ADD COLUMN IF NOT EXISTS codes_wrong    integer, -- tries, against all codes
  ADD COLUMN IF NOT EXISTS codes_resent   integer,
  ADD COLUMN IF NOT EXISTS code_resent_at timestamptz(3),
  ADD COLUMN IF NOT EXISTS code_proof     text;    -- an HMAC of the code that began the lesson, until the lesson is over
