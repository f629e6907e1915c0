-- The last accepted fix of a running journey without its place, for a phone that
-- comes back after a silence. Forgotten with the journey's end.
ALTER TABLE journey_analytics
  ADD COLUMN last_fix_at    timestamptz(3), -- by the live store's clock; null: none
  ADD COLUMN last_fix_m     numeric(12, 1), -- from the home
  ADD COLUMN last_fix_marks smallint;       -- the sum of 1: arriving, 2: trusted, 4: it was outside the geofence
