-- What a worker last said of itself, for an API that is another process.
CREATE TABLE worker_status (
  worker  text PRIMARY KEY,
  figures jsonb NOT NULL,
  at      timestamptz NOT NULL
);
