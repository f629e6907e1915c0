-- Trainers' phones with stock apps. The secret is not here: only its SHA-256.
CREATE TABLE devices (
  id           uuid PRIMARY KEY,
  trainer_id   uuid NOT NULL,
  name         text NOT NULL CHECK (char_length(name) <= 64),
  format       text NOT NULL CHECK (format IN ('owntracks', 'osmand', 'transistorsoft', 'overland')),
  secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
  created_at   timestamptz(3) NOT NULL,
  last_used_at timestamptz(3) NOT NULL -- to the hour
);

CREATE INDEX devices_of_trainer ON devices (trainer_id, created_at DESC, id);
CREATE INDEX devices_by_use ON devices (last_used_at);
