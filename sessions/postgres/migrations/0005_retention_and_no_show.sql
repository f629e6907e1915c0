-- What a sweep of old rows looks for, and the status no_show.

-- step: add the last use of push tokens
-- Null: not since it was registered. A binary that does not know the column leaves it so.
ALTER TABLE push_tokens ADD COLUMN IF NOT EXISTS last_used_at timestamptz(3);

-- step: let status be no_show
-- Only the CHECK that migration 0001 gave a table that it made. One of the operator's own, and a type, stay as they are.
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'tutoring_sessions'::regclass AND conname = 'tutoring_sessions_status_check'
      AND pg_get_constraintdef(oid) = 'CHECK ((status = ANY (ARRAY[''scheduled''::text, ''pending_verification''::text, '
        || '''in_progress''::text, ''completed''::text, ''cancelled''::text])))') THEN
    ALTER TABLE tutoring_sessions DROP CONSTRAINT tutoring_sessions_status_check,
      ADD CONSTRAINT doorstep_status
        CHECK (status IN ('scheduled', 'pending_verification', 'in_progress', 'completed', 'cancelled', 'no_show')) NOT VALID;
  END IF;
END $$;

-- step: build the index of push tokens by use
CREATE INDEX CONCURRENTLY IF NOT EXISTS push_tokens_by_use ON push_tokens (greatest(registered_at, last_used_at));

-- step: build the index of old dead letters
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbox_dead_since ON outbox (dead_at) WHERE dead_at IS NOT NULL;

-- step: build the index of old dead deliveries
CREATE INDEX CONCURRENTLY IF NOT EXISTS outbox_deliveries_dead_since ON outbox_deliveries (dead_at) WHERE dead_at IS NOT NULL;

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
