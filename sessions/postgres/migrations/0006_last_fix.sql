-- What the comparison with the live store looks for, and the last accepted fix of a
-- running journey without its place, for a phone that comes back after a silence. It is
-- forgotten with the journey's end.

-- step: build the index of ended journeys
CREATE INDEX CONCURRENTLY IF NOT EXISTS tutoring_sessions_ended ON tutoring_sessions (journey_ended_at, id) WHERE journey_ended_at IS NOT NULL;

-- step: add the last fix to the analytics
ALTER TABLE journey_analytics
  ADD COLUMN IF NOT EXISTS last_fix_at    timestamptz(3), -- by the live store's clock; null: none
  ADD COLUMN IF NOT EXISTS last_fix_m     numeric(12, 1), -- from the home
  ADD COLUMN IF NOT EXISTS last_fix_marks smallint,       -- the sum of 1: arriving, 2: trusted, 4: it was outside the geofence
  ADD COLUMN IF NOT EXISTS last_fix_clock bigint[];       -- of the phone, ms: offset, the one last flagged, since when it was learnt
