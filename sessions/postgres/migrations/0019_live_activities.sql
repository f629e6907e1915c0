-- The Live Activity that a device shows: the session that it is about, and its token of APNs.

-- step: add the live activity of push tokens
-- Null: none. A binary that does not know the columns leaves them so.
ALTER TABLE push_tokens ADD COLUMN IF NOT EXISTS live_activity_session uuid, ADD COLUMN IF NOT EXISTS live_activity_token text;
