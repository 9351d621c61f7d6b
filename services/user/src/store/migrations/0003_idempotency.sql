-- Answers to requests that carried an Idempotency-Key, for 24 hours. The key's row commits with the change it stands for.
CREATE TABLE idempotency_keys (
  scope        text NOT NULL,
  key          text NOT NULL,
  request_hmac bytea NOT NULL,   -- keyed: the request holds a password, which a bare hash would give away to a guesser
  user_id      uuid,             -- whose data the answer holds
  answer       jsonb,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_id);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
