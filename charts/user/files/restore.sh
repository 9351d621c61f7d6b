#!/bin/bash
# Puts back $FILE, or the newest dump; the service is stopped meanwhile. What is there is replaced in one transaction, after the dump has been checked against its
# manifest: whatever ends this (a bad dump, a full disk, a crash of either side) leaves the old data as it was. Nothing of the dump's size is written anywhere but into the database.
# Who was erased since the backup is handed over to the service, which erases them again before it shows or relays anybody. The restore epoch, the high
# bits of every version, is raised above what was there and what is in the dump, so that all that is emitted from then on wins over what the streams and
# the read models still know; and everybody is emitted again.
set -euo pipefail
. "$(dirname "$0")/common.sh"
refuse() { echo "refused: $*. Nothing was changed" >&2; exit 1; }

dump=${FILE:-$(dumps | tail -n 1)}
[ -n "$dump" ] || refuse "there is no dump in $folder"
path=$folder/$dump
manifest=$folder/$(manifest_of "$dump")
[ -s "$path" ] || refuse "there is no $path"
expected=""
if [ -e "$manifest" ]; then
  [[ $(< "$manifest") == '{"dump":'*'}}' ]] || refuse "$manifest is cut off or altered"
  [ "$(field "$manifest" dump)" = "$dump" ] || refuse "$manifest is not the manifest of $dump"
  bytes=$(field "$manifest" bytes)
  [ "$(stat -c %s "$path")" = "$bytes" ] || refuse "$dump has $(stat -c %s "$path") bytes of $bytes: it is cut off or altered"
  [ "$(sha256sum "$path" | cut -d ' ' -f 1)" = "$(field "$manifest" sha256)" ] || refuse "$dump is not what was written: its checksum is another"
  expected=$(field "$manifest" rows)
  [ -n "$expected" ] || refuse "$manifest says nothing of the rows"
elif [ "${UNVERIFIED:-}" != yes ]; then
  refuse "$dump has no manifest beside it, so that nobody can say whether it is whole; UNVERIFIED=yes restores it all the same"
fi
rows=$(rows_in "$path") || refuse "$dump cannot be read to its end"
[ "${expected:=$rows}" = "$rows" ] || refuse "$dump has $rows and was to have $expected"
erased_list_is_whole || refuse "$folder/erased.csv was altered or cut off: who was erased is not known from it. Put it right, or move it away if the registry in Analytics is there"

others=$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()")
[ "$others" = 0 ] || refuse "$others connections of the service are open: stop it first (stopped: true)"
write_erased_list
drop=$(sql -c "SELECT format('DROP PUBLICATION %I;', pubname) FROM pg_publication")
before=0
if has restore_epoch; then before=$(sql -c "SELECT epoch FROM public.restore_epoch"); fi
# The slot is of a time that is gone; the relay makes a new one and fills the gap from the outbox table.
sql -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active" > /dev/null

count_rows() {
  echo "DO \$\$ DECLARE found bigint; BEGIN"
  echo "$rows" | tr -d '{}"' | tr ',:' '\n ' | while read -r table n; do
    [ -n "$table" ] || continue
    echo "SELECT count(*) INTO found FROM ONLY public.\"$table\";"
    echo "IF found <> $n THEN RAISE EXCEPTION '$table has % rows of $n', found; END IF;"
  done
  echo "END \$\$;"
}
# What it writes ends with COMMIT only if all of the dump was read: else the session ends in the middle of its transaction, which is then none.
transaction() {
  read_erased_list || return 1
  echo "SET client_min_messages = warning; BEGIN;"
  # All of it: a table that is younger than the dump must not stay.
  echo "$drop"
  echo "DROP SCHEMA public CASCADE; CREATE SCHEMA public;"
  # Without the line that empties search_path: triggers look their tables up by name.
  pg_restore --no-owner --no-privileges --file=- "$path" |
    awk '/^COPY /{ data = 1 } !data && /^SELECT pg_catalog.set_config\(.search_path/ { next } { print }' || return 1
  echo "SET search_path = public;"
  count_rows || return 1
  cat << SQL
CREATE TABLE IF NOT EXISTS erased_people (user_hash bytea PRIMARY KEY, erasure_id text, requested_at timestamptz(3), session_at timestamptz(3),
  search_at timestamptz(3), analytics_at timestamptz(3), completed_at timestamptz(3), gone_by timestamptz(3), learned_at timestamptz NOT NULL DEFAULT now(),
  told smallint NOT NULL DEFAULT 0);
INSERT INTO erased_people ($columns) SELECT $columns FROM listed l
 WHERE NOT EXISTS (SELECT FROM erasures e WHERE sha256(e.user_id::text::bytea) = l.user_hash) ON CONFLICT (user_hash) DO NOTHING;
UPDATE restore_epoch SET epoch = greatest(epoch, $before) + 1;
UPDATE reemissions SET phase = 'done' WHERE phase <> 'done';
INSERT INTO reemissions (reason, phase) VALUES ('restored from a backup', 'erasures');
DO \$\$ BEGIN UPDATE reemissions SET since = (SELECT seen_at FROM restore_epoch) WHERE phase = 'erasures';
EXCEPTION WHEN undefined_column THEN NULL; END \$\$;
COMMIT;
SQL
}
if ! transaction | sql -f - > /dev/null; then
  echo "the restore of $dump failed and was rolled back: the old data is as it was" >&2
  exit 1
fi
echo "restored $dump: $(sql -c 'SELECT count(*) FROM users') users, restore epoch $(sql -c 'SELECT epoch FROM restore_epoch'), $(sql -c 'SELECT count(*) FROM erased_people') erased people known"
