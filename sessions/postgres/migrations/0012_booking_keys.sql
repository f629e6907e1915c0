-- Which requests to book were made with which Idempotency-Key: a repeat is recognised for
-- a week.
CREATE TABLE booking_keys (
  caller_id  uuid NOT NULL,
  key        text NOT NULL CHECK (char_length(key) <= 255),
  body_hash  text NOT NULL,
  session_id text NOT NULL, -- as the operator's table has it: uuid, or a text
  used_at    timestamptz(3) NOT NULL,
  PRIMARY KEY (caller_id, key)
);

CREATE INDEX booking_keys_used ON booking_keys (used_at);
