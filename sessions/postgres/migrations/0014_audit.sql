-- The history of each session. Rows are added and, when they are old, deleted; only the ids
-- of a user who is erased are replaced.
CREATE TABLE session_audit (
  seq                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id                 uuid UNIQUE,      -- of a moment, to drop its repeats by; null: a transition
  session_id         uuid NOT NULL,    -- no foreign key: an operator may delete its rows
  journey_started_at timestamptz(3),   -- null: before the first journey
  at                 timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  kind               text NOT NULL,
  by_role            text NOT NULL,    -- trainer, student, admin; or system: the gateways themselves
  by_id              uuid,
  request_id         text CHECK (char_length(request_id) <= 64),
  trainer_id         uuid,             -- these two: who the parties became
  student_id         uuid,
  event_ids          uuid[],           -- rows of table outbox, while they live
  detail             jsonb NOT NULL,
  -- The last guard of a promise that the code keeps, as of table outbox.
  CONSTRAINT session_audit_no_place_no_code CHECK (octet_length(detail::text) <= 1000
    AND NOT detail ?| ARRAY['latitude', 'longitude', 'location', 'home', 'otp', 'studentOtp'])
);

-- A history, in its order; and what a sweep deletes, oldest first.
CREATE INDEX session_audit_of_session ON session_audit (session_id, at, seq);
CREATE INDEX session_audit_by_time ON session_audit (at);

-- What a user has done, and was a party of: for a person's request.
CREATE INDEX session_audit_of_actor ON session_audit (by_id) WHERE by_id IS NOT NULL;
CREATE INDEX session_audit_of_trainer ON session_audit (trainer_id) WHERE trainer_id IS NOT NULL;
CREATE INDEX session_audit_of_student ON session_audit (student_id) WHERE student_id IS NOT NULL;
