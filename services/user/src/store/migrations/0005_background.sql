-- Work that one replica at a time does: the holder renews, and is replaced when it does not.
CREATE TABLE leases (
  name   text PRIMARY KEY,
  holder uuid NOT NULL,
  until  timestamptz NOT NULL
);

-- Everybody emitted again, after USERS lost messages. `after` is how far it got, so that a restart goes on from there.
CREATE TABLE reemissions (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  reason       text NOT NULL,
  phase        text NOT NULL DEFAULT 'users' CHECK (phase IN ('users', 'tombstones', 'done')),
  after        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  emitted      bigint NOT NULL DEFAULT 0,
  requested_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX reemissions_open ON reemissions ((true)) WHERE phase <> 'done';

-- The last finding of the audit, by read model.
CREATE TABLE audits (
  store      text PRIMARY KEY,
  drift      bigint NOT NULL,
  checked_at timestamptz(3) NOT NULL
);
