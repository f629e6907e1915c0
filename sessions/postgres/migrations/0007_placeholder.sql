-- The status no_show in a table of our own.
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
