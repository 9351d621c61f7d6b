-- Which person an import key names. Keys are personal data (mail addresses of authors) and may hold any UTF-16, NUL included:
-- only their SHA-256 is kept, and it goes with the person.
CREATE TABLE import_keys (
  key_hash bytea PRIMARY KEY,
  user_id  uuid NOT NULL
);
CREATE INDEX import_keys_user ON import_keys (user_id);
