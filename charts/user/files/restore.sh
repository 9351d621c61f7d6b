#!/bin/sh
# Puts back /backup/$FILE, or the newest dump, in one transaction; the service is scaled down meanwhile. People who were erased since the backup stay
# erased. The restore epoch, the high bits of every version, is raised above what was there and what is in the dump, so that all that is emitted
# from then on wins over what the streams and the read models still know; and everybody is emitted again.
set -eu
file="/backup/${FILE:-$(ls -1 /backup | grep '^quartet-.*\.dump$' | sort | tail -n 1)}"
test -s "$file" || { echo "there is no $file" >&2; exit 1; }
sql() { psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 "$@" "$POSTGRES_URL"; }
others=$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()")
test "$others" = 0 || { echo "$others connections of the service are open: scale its deployments to 0 first" >&2; exit 1; }
# The slot is of a time that is gone; the relay makes a new one and fills the gap from the outbox table.
sql -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active" > /dev/null
{
  echo "BEGIN;"
  echo "CREATE TEMP TABLE erased_since (user_id uuid PRIMARY KEY, counter bigint, at timestamptz) ON COMMIT DROP;"
  echo "CREATE TEMP TABLE epoch_before (epoch integer) ON COMMIT DROP;"
  if [ "$(sql -c "SELECT to_regclass('public.restore_epoch') IS NOT NULL AND to_regclass('public.tombstones') IS NOT NULL")" = t ]; then
    echo "INSERT INTO erased_since SELECT user_id, counter, at FROM public.tombstones;"
    echo "INSERT INTO epoch_before SELECT epoch FROM public.restore_epoch;"
  fi
  # All of it: a table that is younger than the dump must not stay.
  sql -c "SELECT format('DROP PUBLICATION %I;', pubname) FROM pg_publication"
  echo "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
  # Without the line that empties search_path: the triggers fired below look their tables up by name.
  pg_restore --no-owner --no-privileges --file=- "$file" | grep -v "^SELECT pg_catalog.set_config('search_path'"
  echo "SET search_path = public;"
  echo "DELETE FROM users WHERE id IN (SELECT user_id FROM erased_since);"
  echo "INSERT INTO tombstones (user_id, counter, at) SELECT user_id, counter, at FROM erased_since ON CONFLICT (user_id) DO NOTHING;"
  echo "UPDATE restore_epoch SET epoch = greatest(epoch, (SELECT coalesce(max(epoch), 0) FROM epoch_before)) + 1;"
  echo "UPDATE reemissions SET phase = 'done' WHERE phase <> 'done';"
  echo "INSERT INTO reemissions (reason) VALUES ('restored from a backup');"
  echo "COMMIT;"
} > /tmp/restore.sql
sql -f /tmp/restore.sql > /dev/null
echo "restored $file: $(sql -c 'SELECT count(*) FROM users') users, restore epoch $(sql -c 'SELECT epoch FROM restore_epoch')"
