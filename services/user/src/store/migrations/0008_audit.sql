-- What the last audit of a read model found, and when somebody last asked for one.
ALTER TABLE audits
  ADD COLUMN compared   bigint NOT NULL DEFAULT 0,
  ADD COLUMN mended     bigint NOT NULL DEFAULT 0,
  ADD COLUMN users      jsonb NOT NULL DEFAULT '[]',
  ADD COLUMN started_at timestamptz(3) NOT NULL DEFAULT now();
CREATE TABLE audit_requests (
  one          boolean PRIMARY KEY DEFAULT true CHECK (one),
  requested_at timestamptz(3) NOT NULL
);
