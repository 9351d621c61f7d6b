-- The users, and what must be remembered of those who are gone.

CREATE TABLE restore_epoch (
  -- High bits of every version. Raised when a backup is restored, so that what is emitted from then on wins over what the log still knows.
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  epoch  integer NOT NULL DEFAULT 0 CHECK (epoch >= 0)
);
INSERT INTO restore_epoch DEFAULT VALUES;

CREATE TABLE users (
  id               uuid PRIMARY KEY,
  email            text,            -- case-folded; absent for an imported person without a valid one
  handle           text NOT NULL,
  display_name     text NOT NULL,
  bio              text NOT NULL,
  country          text,
  tags             text[] NOT NULL,
  password_hash    text,            -- argon2id, PHC string; absent for an imported person, who cannot log in
  revision         bigint NOT NULL DEFAULT 1,
  counter          bigint NOT NULL DEFAULT 1,  -- low bits of the version: every emission counts it up
  credential_epoch integer NOT NULL DEFAULT 0,
  kept_session_id  text,
  created_at       timestamptz(3) NOT NULL,
  updated_at       timestamptz(3) NOT NULL,
  CONSTRAINT users_email_key UNIQUE (email),
  CONSTRAINT users_handle_key UNIQUE (handle)
);
-- The audit reads one bucket of ids at a time.
CREATE INDEX users_audit_bucket ON users ((get_byte(uuid_send(id), 15)), id);

CREATE TABLE tombstones (
  user_id uuid PRIMARY KEY,
  counter bigint NOT NULL,
  at      timestamptz(3) NOT NULL
);

-- The number of users, exact and cheap: one of 64 rows is counted per statement, chosen by connection, so that writers do not meet.
CREATE TABLE user_counts (
  shard smallint PRIMARY KEY,
  n     bigint NOT NULL DEFAULT 0
);
INSERT INTO user_counts (shard) SELECT generate_series(0, 63);

CREATE FUNCTION count_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  changed bigint;
BEGIN
  SELECT count(*) INTO changed FROM changed_users;
  IF changed > 0 THEN
    UPDATE user_counts SET n = n + CASE TG_OP WHEN 'INSERT' THEN changed ELSE -changed END WHERE shard = pg_backend_pid() % 64;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER users_inserted AFTER INSERT ON users
  REFERENCING NEW TABLE AS changed_users FOR EACH STATEMENT EXECUTE FUNCTION count_users();
CREATE TRIGGER users_deleted AFTER DELETE ON users
  REFERENCING OLD TABLE AS changed_users FOR EACH STATEMENT EXECUTE FUNCTION count_users();
