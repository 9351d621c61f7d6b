-- Erasure outlives the log: who was erased is also remembered by hash, beside the dumps and in Analytics (docs/decisions/0007).

-- How a person is named there. SHA-256 of a random UUID: whoever holds the hash cannot find the id, whoever holds the id can ask.
CREATE OR REPLACE FUNCTION person_hash(id uuid) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN sha256(id::text::bytea);

-- `gone_by`: by when the last backup that holds the person is deleted. `told`: what Analytics knows of it, 0 nothing, 1 that it is open, 2 the whole receipt.
ALTER TABLE erasures ADD COLUMN gone_by timestamptz(3), ADD COLUMN told smallint NOT NULL DEFAULT 0;
CREATE INDEX erasures_untold ON erasures (user_id) WHERE told < CASE WHEN completed_at IS NULL THEN 1 ELSE 2 END;
CREATE INDEX erasures_person ON erasures (person_hash(user_id));

-- Of a database that was restored or promoted: who was erased since, as the log and the registry say. Whoever is among the users is erased again under the
-- same receipt; of the others the receipt is all there is. A restore writes it before this service sees the database.
CREATE TABLE IF NOT EXISTS erased_people (
  user_hash    bytea PRIMARY KEY,
  erasure_id   text,
  requested_at timestamptz(3),
  session_at   timestamptz(3),
  search_at    timestamptz(3),
  analytics_at timestamptz(3),
  completed_at timestamptz(3),
  gone_by      timestamptz(3),
  learned_at   timestamptz NOT NULL DEFAULT now(),
  told         smallint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS erased_people_erasure ON erased_people (erasure_id);
CREATE INDEX IF NOT EXISTS erased_people_untold ON erased_people (user_hash) WHERE told = 0;

-- Which registry was told, and up to when: another one, or an older one, has to be told again.
CREATE TABLE erasure_registry (
  one    boolean PRIMARY KEY DEFAULT true CHECK (one),
  id     text NOT NULL,
  latest bigint NOT NULL
);

-- Every few seconds, while it is where `cluster` says: what was committed before is in every later state of this database.
ALTER TABLE restore_epoch ADD COLUMN seen_at timestamptz NOT NULL DEFAULT '-infinity';
-- Whoever was erased since `since` has to be known before anything is relayed; and was, at `learned_at`.
ALTER TABLE reemissions ADD COLUMN since timestamptz NOT NULL DEFAULT '-infinity', ADD COLUMN learned_at timestamptz,
  -- The log alone said who they were: their receipts are asked of Analytics when it answers again.
  ADD COLUMN receipts_owed boolean NOT NULL DEFAULT false;
