#!/bin/bash
# Writes the database to quartet-<time>.dump, with a manifest beside it: checksum and the rows of each table, both of the same moment. Keeps the newest $KEEP and nothing
# that is older than $BACKUP_RETENTION_DAYS: what has to go goes first, so that it goes also when no new backup can be made. The outbox goes with the
# database as it is: after a restore the relay sees that the transaction numbers are of another time, and sends what the stream lacks.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$folder"
kept=$((BACKUP_RETENTION_DAYS * 86400))
overdue=0

remove() { rm -f "$1" "$(manifest_of "$1")" || { overdue=1; echo "cannot delete $1, which is due: whoever was told by when it is gone was told wrong" >&2; }; }
for dump in $(dumps); do
  due=$(($(taken_at "$dump") + kept))
  # The term that it was made with holds, should the retention be longer now.
  promised=$(field "$(manifest_of "$dump")" deleteBy 2> /dev/null || true)
  if [ -n "$promised" ] && promised=$(date -u -d "$promised" +%s) && ((promised < due)); then due=$promised; fi
  if ((due <= $(date +%s))); then remove "$dump" && [ -e "$dump" ] || echo "deleted $dump, whose term was over at $(utc "$due")"; fi
done
# What an earlier run left unfinished. None takes longer than six hours.
find . -maxdepth 1 -name '*.part' -mmin +420 -delete || overdue=1

if has reemissions && [ "$(sql -c "SELECT count(*) FROM public.reemissions WHERE phase = 'erasures'")" != 0 ]; then
  echo "no backup: this database was restored, and may hold people who were erased since; the service erases them first" >&2
  exit 1
fi
erased_list_is_whole || { echo "$folder/erased.csv was altered or cut off: who was erased is not known from it. Put it right, or move it away to begin it again" >&2; exit 1; }
write_erased_list

now=$(date +%s)
dump=quartet-$(date -u -d "@$now" +%Y%m%dT%H%M%SZ).dump
manifest=$(manifest_of "$dump")
# One session keeps the snapshot that is dumped, and counts in it.
coproc SESSION { psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 "$POSTGRES_URL"; }
exec {answers}<&"${SESSION[0]}" {questions}>&"${SESSION[1]}"
echo "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_export_snapshot();" >&"$questions"
read -r -t 60 snapshot <&"$answers"
pg_dump --format=custom --no-owner --no-privileges --snapshot="$snapshot" --file="$dump.part" "$POSTGRES_URL"
cat >&"$questions" <<'SQL'
SELECT format('SELECT %L, count(*) FROM ONLY %I', relname, relname) FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname COLLATE "C" \gexec
ROLLBACK;
\q
SQL
exec {questions}>&-
rows=$(tr '|' ' ' <&"$answers" | as_json)
# A dump that cannot be read to its end, or has not what the database had, is no backup.
found=$(rows_in "$dump.part")
[ "$found" = "$rows" ] || { echo "the dump has $found, and the database had $rows" >&2; rm -f "$dump.part"; exit 1; }
bytes=$(stat -c %s "$dump.part")
sum=$(sha256sum "$dump.part" | cut -d ' ' -f 1)
echo "{\"dump\":\"$dump\",\"bytes\":$bytes,\"sha256\":\"$sum\",\"takenAt\":\"$(utc "$now")\",\"deleteBy\":\"$(utc $((now + kept)))\",\"rows\":$rows}" > "$manifest.part"
sync "$dump.part" "$manifest.part"
mv "$manifest.part" "$manifest"
mv "$dump.part" "$dump"
for old in $(dumps | sort -r | tail -n +"$((KEEP + 1))"); do remove "$old"; done
echo "wrote $dump, $bytes bytes, $rows"
exit "$overdue"
