-- Which cluster, on which timeline, this database was last seen in: another one means that it was restored or promoted.
ALTER TABLE restore_epoch ADD COLUMN cluster text;
ALTER TABLE reemissions DROP CONSTRAINT reemissions_phase_check;
ALTER TABLE reemissions ADD CONSTRAINT reemissions_phase_check CHECK (phase IN ('erasures', 'users', 'tombstones', 'done'));
