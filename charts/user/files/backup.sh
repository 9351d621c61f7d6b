#!/bin/sh
# Writes the database to /backup/quartet-<time>.dump and keeps the newest $KEEP. The outbox goes with it as it is: after a restore the relay
# sees that the transaction numbers are of another time, and sends what the stream lacks.
set -eu
file="/backup/quartet-$(date -u +%Y%m%dT%H%M%SZ).dump"
pg_dump --format=custom --no-owner --no-privileges --file="$file.part" "$POSTGRES_URL"
# A dump that cannot be listed is no backup.
pg_restore --list "$file.part" > /dev/null
mv "$file.part" "$file"
rm -f /backup/*.part
ls -1 /backup/quartet-*.dump | sort -r | tail -n +"$((KEEP + 1))" | while read -r old; do rm -f "$old"; done
echo "wrote $file, $(wc -c < "$file") bytes"
