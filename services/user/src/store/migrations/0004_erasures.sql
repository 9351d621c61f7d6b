-- The erasure saga: who confirmed what, and when. Its id is 256 random bits.
CREATE TABLE erasures (
  id              text PRIMARY KEY,
  user_id         uuid NOT NULL UNIQUE,
  requested_at    timestamptz(3) NOT NULL,
  session_at      timestamptz(3),
  search_at       timestamptz(3),
  analytics_at    timestamptz(3),
  completed_at    timestamptz(3),
  swept_at        timestamptz(3),           -- when the last sweep after completion is done
  attempts        integer NOT NULL DEFAULT 0,
  -- When a worker may take it (again). A worker that takes it moves this into the future, so one that dies is replaced in time.
  next_attempt_at timestamptz NOT NULL
);
CREATE INDEX erasures_due ON erasures (next_attempt_at) WHERE swept_at IS NULL;
