-- The region whose live store has a session's journeys, and the leases of the regions.

-- step: add the region
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute
      WHERE attrelid = 'tutoring_sessions'::regclass AND attname = 'journey_region' AND NOT attisdropped) THEN
    ALTER TABLE tutoring_sessions
      ADD COLUMN journey_region text, -- null: not decided yet, or an installation of one region
      ADD CONSTRAINT doorstep_journey_region CHECK (journey_region ~ '^[a-z0-9-]{1,32}$') NOT VALID;
  END IF;
END $$;

-- step: read the rows for the checks
DO $$
DECLARE parts text;
BEGIN
  SELECT string_agg(format('VALIDATE CONSTRAINT %I', conname), ', ') INTO parts FROM pg_constraint
  WHERE conrelid = 'tutoring_sessions'::regclass AND conname LIKE 'doorstep\_%' AND NOT convalidated;
  IF parts IS NOT NULL THEN
    EXECUTE 'ALTER TABLE tutoring_sessions ' || parts;
  END IF;
END $$;

-- step: make the leases
-- One row a region, renewed by its gateways: docs/adr/0022. Nothing of a journey is here.
CREATE TABLE region_leases (
  region     text PRIMARY KEY CHECK (region ~ '^[a-z0-9-]{1,32}$'),
  renewed_at timestamptz(3) NOT NULL
);
