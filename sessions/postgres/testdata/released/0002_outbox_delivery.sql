-- What the relay needs besides the outbox: the deliveries to consumers in the
-- gateways, the memory of handled events, and indexes to sweep both.

-- An event on its way to one consumer in the gateways, where there is no bus. A
-- row has the outbox row's seq, so that seq rises within a session here, too.
CREATE TABLE outbox_deliveries (
  consumer        text NOT NULL,
  seq             bigint NOT NULL,
  event_id        uuid NOT NULL,
  session_id      uuid NOT NULL,
  type            text NOT NULL,
  detail          jsonb NOT NULL,
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  next_attempt_at timestamptz(3) NOT NULL DEFAULT now(),
  attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  locked_until    timestamptz(3),
  published_at    timestamptz(3), -- the consumer is done with it
  dead_at         timestamptz(3),
  last_error      text,
  PRIMARY KEY (consumer, seq),
  CONSTRAINT outbox_deliveries_published_or_dead CHECK (published_at IS NULL OR dead_at IS NULL)
);

CREATE INDEX outbox_deliveries_pending ON outbox_deliveries (consumer, seq)
  WHERE published_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_deliveries_pending_of_session ON outbox_deliveries (consumer, session_id, seq)
  WHERE published_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_deliveries_dead ON outbox_deliveries (consumer, seq) WHERE dead_at IS NOT NULL;

-- What a sweep deletes, oldest first.
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
CREATE INDEX outbox_deliveries_published ON outbox_deliveries (consumer, published_at) WHERE published_at IS NOT NULL;

-- Which consumer has had which event: a repeat finds it here.
CREATE TABLE consumed_events (
  consumer     text NOT NULL,
  event_id     uuid NOT NULL,
  locked_until timestamptz(3) NOT NULL, -- being handled until then
  done_at      timestamptz(3),
  PRIMARY KEY (consumer, event_id)
);

CREATE INDEX consumed_events_done ON consumed_events (done_at) WHERE done_at IS NOT NULL;

-- A queue in a table leaves a dead row for each live one. By the default a
-- fifth of the table may be dead before a vacuum, and a claim walks over their
-- index entries; here it is 2,000 rows. The free tenth of a page keeps attempts
-- heap-only.
ALTER TABLE outbox SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
ALTER TABLE outbox_deliveries SET (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
