-- Table tutoring_sessions, made or extended, and the outbox.
--
-- Runs in one transaction, on an empty database or beside the operator's own
-- table. What was there already keeps its type, its rows and its rules: every
-- CHECK below stands inline with a column or table that this file itself adds,
-- so none can refuse a row that another service wrote. That is why status has no CHECK on
-- an existing table, not even a NOT VALID one: that would spare the old rows
-- only until another service next updates one whose status we do not know.

-- Two types would lose data silently, two would fail at the first journey; so
-- they are refused now, by name: an id or a code that is a number ("0042" would
-- come back as 42), a home that is not JSON, a status without room for our words.
DO $$
DECLARE wrong text;
BEGIN
  SELECT string_agg(format('%s is %s', c.column_name, c.data_type), ', ') INTO wrong
  FROM information_schema.columns c
  WHERE c.table_schema = current_schema() AND c.table_name = 'tutoring_sessions' AND (
       c.column_name IN ('id', 'trainer_id', 'student_id')
         AND c.data_type NOT IN ('uuid', 'text', 'character varying', 'character')
    OR c.column_name IN ('student_home_location', 'trainer_start_location') AND c.data_type NOT IN ('jsonb', 'json')
    OR c.column_name = 'student_otp'
         AND (c.data_type NOT IN ('text', 'character varying', 'character') OR c.character_maximum_length < 4)
    OR c.column_name = 'status'
         AND (c.data_type NOT IN ('text', 'character varying', 'USER-DEFINED') OR c.character_maximum_length < 20
           OR c.data_type = 'USER-DEFINED' AND 4 > (
             SELECT count(*) FROM pg_enum e
             WHERE e.enumtypid = format('%I.%I', c.udt_schema, c.udt_name)::regtype
               AND e.enumlabel IN ('scheduled', 'pending_verification', 'in_progress', 'completed')))
    OR c.column_name IN ('scheduled_at', 'created_at', 'journey_started_at', 'journey_ended_at', 'arrived_at',
                         'otp_expires_at', 'started_at', 'completed_at')
         AND c.data_type NOT LIKE 'timestamp%');
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'tutoring_sessions has columns of types that cannot be used: %', wrong;
  END IF;
END $$;

CREATE TABLE IF NOT EXISTS tutoring_sessions (
  id                     uuid PRIMARY KEY,
  trainer_id             uuid NOT NULL,
  student_id             uuid NOT NULL,
  status                 text NOT NULL
    CHECK (status IN ('scheduled', 'pending_verification', 'in_progress', 'completed', 'cancelled')),
  student_home_location  jsonb,  -- {"latitude": …, "longitude": …}, WGS 84 degrees
  trainer_start_location jsonb,  -- another service's; never written from here
  student_otp            text    -- four digits, only while pending_verification
);

-- One statement, so that an existing table is locked once and read once (for
-- the CHECKs), and rewritten never: no default here is volatile.
ALTER TABLE tutoring_sessions
  ADD COLUMN IF NOT EXISTS student_home_location  jsonb,
  ADD COLUMN IF NOT EXISTS trainer_start_location jsonb,
  ADD COLUMN IF NOT EXISTS student_otp            text,
  ADD COLUMN IF NOT EXISTS scheduled_at           timestamptz(3),
  ADD COLUMN IF NOT EXISTS created_at             timestamptz(3), -- null: older than this column
  ADD COLUMN IF NOT EXISTS travel_mode            text NOT NULL DEFAULT 'car'
    CHECK (travel_mode IN ('car', 'bike', 'walk')),
  ADD COLUMN IF NOT EXISTS journey_mode           text
    CHECK (journey_mode IN ('car', 'bike', 'walk')),
  ADD COLUMN IF NOT EXISTS journey_started_at     timestamptz(3),
  ADD COLUMN IF NOT EXISTS journey_ended_at       timestamptz(3)
    CHECK (journey_ended_at IS NULL OR (journey_started_at IS NOT NULL AND journey_ended_at > journey_started_at)),
  ADD COLUMN IF NOT EXISTS journey_end_reason     text
    CHECK (journey_end_reason IN ('arrived', 'cancelled', 'timeout')),
  ADD COLUMN IF NOT EXISTS arrived_at             timestamptz(3),
  ADD COLUMN IF NOT EXISTS otp_expires_at         timestamptz(3),
  ADD COLUMN IF NOT EXISTS otp_attempts           integer NOT NULL DEFAULT 0
    CHECK (otp_attempts >= 0),
  ADD COLUMN IF NOT EXISTS started_at             timestamptz(3), -- the lesson, not the journey
  ADD COLUMN IF NOT EXISTS completed_at           timestamptz(3);

-- Said in words before the index says it in its own.
DO $$
DECLARE busy text;
BEGIN
  SELECT string_agg(t.trainer, ', ') INTO busy FROM (
    SELECT trainer_id::text AS trainer FROM tutoring_sessions
    WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL AND trainer_id IS NOT NULL
    GROUP BY trainer_id HAVING count(*) > 1 LIMIT 10) t;
  IF busy IS NOT NULL THEN
    RAISE EXCEPTION 'these trainers have more than one journey without a journey_ended_at: %', busy
      USING HINT = 'End all but the latest of each, then migrate again.';
  END IF;
END $$;

-- A trainer has at most one running journey: the second of two racing starts
-- waits here for the first to commit, and is refused as TRAINER_BUSY. It holds
-- running journeys only, so it is also the short list to time out from.
CREATE UNIQUE INDEX tutoring_sessions_one_running_journey ON tutoring_sessions (trainer_id)
  WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL;

-- A student's list, in its order, without a sort.
CREATE INDEX tutoring_sessions_of_student ON tutoring_sessions
  (student_id, scheduled_at DESC NULLS LAST, created_at DESC NULLS LAST, id);

-- Every event of a transition, written in the transition's own transaction and
-- relayed to the bus at least once.
--
-- Order: a transition holds its session's row lock from before it draws seq
-- until it has committed, so within one session seq rises in the order in which
-- things happened, and a lower seq is never committed after a higher one.
-- Between sessions neither is true: seq may have gaps, and a lower one may
-- become visible late. A relay must ask for what is unpublished, and never for
-- what is beyond the highest seq it has seen.
CREATE TABLE outbox (
  seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id        uuid NOT NULL UNIQUE, -- what consumers drop repeats by
  session_id      uuid NOT NULL,        -- no foreign key: an operator may delete its rows, the event still has to leave
  type            text NOT NULL,        -- detail-type on the bus
  detail          jsonb NOT NULL,       -- what goes on the bus, complete
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  next_attempt_at timestamptz(3) NOT NULL DEFAULT now(),
  attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  locked_until    timestamptz(3), -- claimed by a relay until then
  published_at    timestamptz(3), -- the bus has it
  dead_at         timestamptz(3), -- given up; listed and requeued by hand
  last_error      text,
  CONSTRAINT outbox_published_or_dead CHECK (published_at IS NULL OR dead_at IS NULL),
  -- The last guard of a promise that the code keeps: neither a place nor a
  -- code ever leaves with an event.
  CONSTRAINT outbox_no_place_no_code CHECK (
    NOT detail ?| ARRAY['latitude', 'longitude', 'location', 'home', 'otp', 'studentOtp'])
);

-- What is still to be relayed, oldest first, and whether an older one of the
-- same session still is. Neither names a column that an attempt changes, so an
-- attempt stays a heap-only update.
CREATE INDEX outbox_pending ON outbox (seq) WHERE published_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_pending_of_session ON outbox (session_id, seq) WHERE published_at IS NULL AND dead_at IS NULL;

-- The dead letters, for an operator's list and an alert's count.
CREATE INDEX outbox_dead ON outbox (seq) WHERE dead_at IS NOT NULL;
