-- What comes after a journey: its record, the review, the trainer's rating; the
-- devices that are told of it; and the short list of what is running.

-- step: build the index of running journeys by age
-- The running journeys by age: to time out, and to look for silent phones.
CREATE INDEX CONCURRENTLY IF NOT EXISTS tutoring_sessions_running_since ON tutoring_sessions (journey_started_at)
  WHERE journey_started_at IS NOT NULL AND journey_ended_at IS NULL;

-- step: make the tables
-- A session has one review. No foreign keys here: an operator may delete its
-- rows, and what was said of them stays.
CREATE TABLE session_reviews (
  session_id  uuid PRIMARY KEY,
  trainer_id  uuid NOT NULL,
  student_id  uuid NOT NULL,
  stars       smallint NOT NULL CHECK (stars BETWEEN 1 AND 5),
  comment     text NOT NULL CHECK (char_length(comment) <= 2000),
  reviewed_at timestamptz(3) NOT NULL
);

-- What a trainer's reviews add up to; moved in the review's own transaction.
CREATE TABLE trainer_ratings (
  trainer_id uuid PRIMARY KEY,
  stars_sum  bigint NOT NULL,
  reviews    bigint NOT NULL,
  CHECK (stars_sum BETWEEN reviews AND 5 * reviews)
);

-- A device belongs to the user that registered it last.
CREATE TABLE push_tokens (
  token         text PRIMARY KEY CHECK (octet_length(token) BETWEEN 1 AND 1024),
  user_id       uuid NOT NULL,
  platform      text NOT NULL CHECK (platform IN ('android', 'ios', 'web')),
  language      text NOT NULL,
  registered_at timestamptz(3) NOT NULL
);

CREATE INDEX push_tokens_of_user ON push_tokens (user_id, registered_at DESC, token);

-- The upper bound, in ms, of the bucket that the median lies in. The bounds are
-- those of sessions.LatencyBoundsMS; a test holds the two together.
CREATE FUNCTION doorstep_median_ms(counts bigint[]) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT c.bound FROM (
    SELECT u.i, u.bound, sum(u.n) OVER (ORDER BY u.i) AS seen, sum(u.n) OVER () AS total
    FROM unnest(counts, ARRAY[25, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10000, 60000]::bigint[])
      WITH ORDINALITY AS u (n, bound, i)) c
  WHERE c.total > 0 AND 2 * c.seen >= c.total ORDER BY c.i LIMIT 1
$$;

-- A row a journey. The facts come from the events, the counts from the gateways
-- that took its fixes; either may be there first.
CREATE TABLE journey_analytics (
  session_id           uuid NOT NULL,
  started_at           timestamptz(3) NOT NULL,
  trainer_id           uuid,            -- null: no event of it has come yet
  student_id           uuid,
  ended_at             timestamptz(3),  -- null: not yet
  reason               text CHECK (reason IN ('arrived', 'cancelled', 'timeout')),
  duration_s           numeric(12, 3) GENERATED ALWAYS AS (extract(epoch FROM ended_at - started_at)) STORED,
  distance_m           numeric(12, 1) NOT NULL DEFAULT 0, -- from accepted fix to accepted fix
  fixes_accepted       bigint NOT NULL DEFAULT 0,
  fixes_refused        bigint NOT NULL DEFAULT 0, -- implausible
  fixes_stale          bigint NOT NULL DEFAULT 0,
  fixes_vague          bigint NOT NULL DEFAULT 0,
  fixes_too_soon       bigint NOT NULL DEFAULT 0,
  fixes_flagged        bigint NOT NULL DEFAULT 0,
  heard_at             timestamptz(3),  -- of the trainer's phone, last
  fix_to_eye_ms        bigint[] NOT NULL DEFAULT array_fill(0::bigint, ARRAY[16]) CHECK (cardinality(fix_to_eye_ms) = 16),
  fix_to_eye_median_ms bigint GENERATED ALWAYS AS (doorstep_median_ms(fix_to_eye_ms)) STORED,
  PRIMARY KEY (session_id, started_at),
  CHECK ((ended_at IS NULL) = (reason IS NULL))
);

-- What a report of a day or of a trainer asks for.
CREATE INDEX journey_analytics_by_start ON journey_analytics (started_at);
CREATE INDEX journey_analytics_of_trainer ON journey_analytics (trainer_id, started_at);

-- Both tables of running totals change often in columns without an index: the
-- free space keeps that heap-only.
ALTER TABLE journey_analytics SET (fillfactor = 80);
ALTER TABLE trainer_ratings SET (fillfactor = 80);
