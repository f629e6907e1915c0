-- Links by which somebody without an account watches a journey. The token is not here: only
-- its SHA-256. A row goes when its journey ends, with the session's parties, and with the
-- session.
CREATE TABLE share_links (
  id                 uuid PRIMARY KEY,
  token_hash         bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
  session_id         uuid NOT NULL,  -- no foreign key: an operator may delete its rows
  trainer_id         uuid,           -- these two: the parties when it was made
  student_id         uuid,
  journey_started_at timestamptz(3), -- null: the session's next journey
  created_at         timestamptz(3) NOT NULL
);

CREATE INDEX share_links_of_session ON share_links (session_id, created_at DESC, id);
CREATE INDEX share_links_by_time ON share_links (created_at);
