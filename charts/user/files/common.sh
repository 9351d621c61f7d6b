# Shared by backup.sh and restore.sh.
folder=${BACKUP_FOLDER:-/backup}

sql() { psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 "$@" "$POSTGRES_URL"; }
# Whether there is such a table. A database that cannot be asked is the end.
has() {
  local there
  there=$(sql -c "SELECT to_regclass('public.$1') IS NOT NULL") || exit 1
  [ "$there" = t ]
}

# The time in a dump's name, in seconds since 1970. Fails for a file that is not one of ours.
taken_at() {
  [[ $1 =~ ^quartet-([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z\.dump$ ]] || return 1
  local t=("${BASH_REMATCH[@]}")
  date -u -d "${t[1]}-${t[2]}-${t[3]} ${t[4]}:${t[5]}:${t[6]}" +%s
}
dumps() { (cd "$folder" && printf '%s\n' quartet-*.dump) | grep -E '^quartet-[0-9]{8}T[0-9]{6}Z\.dump$' | sort || true; }
manifest_of() { echo "${1%.dump}.manifest.json"; }
# A field of a manifest, which is one line.
field() { sed -n "s/.*\"$2\":\(\"\([^\"]*\)\"\|\({[^}]*}\|[0-9]*\)\).*/\2\3/p" "$1"; }
utc() { date -u -d "@$1" +%Y-%m-%dT%H:%M:%SZ; }

# Reads a dump to its end and says how many rows each table has in it, as JSON. Fails if it cannot be read.
rows_in() {
  pg_restore --data-only --file=- "$1" | awk '
    !copying && /^COPY .* FROM stdin;$/ { table = $2; sub(/^public\./, "", table); rows = 0; copying = 1; next }
    copying && $0 == "\\." { print table, rows; copying = 0; next }
    copying { rows++ }' | LC_ALL=C sort | as_json
}
as_json() { awk '{ printf "%s\"%s\":%s", (NR > 1 ? "," : "{"), $1, $2 } END { print (NR ? "" : "{") "}" }'; }

# $folder/erased.csv: who was erased, by the SHA-256 of the id, and the receipts; its first line has the checksum of the rest. A dump may be older than it, so it is
# beside the dumps and in none. `listed` is the temporary table that it fills, in the session that reads this.
columns="user_hash, erasure_id, requested_at, session_at, search_at, analytics_at, completed_at, gone_by"
erased_list_is_whole() {
  [ ! -e "$folder/erased.csv" ] ||
    [ "$(head -n 1 "$folder/erased.csv")" = "sha256 $(tail -n +2 "$folder/erased.csv" | sha256sum | cut -d ' ' -f 1)" ]
}
read_erased_list() {
  echo "CREATE TEMP TABLE listed (user_hash bytea, erasure_id text, requested_at timestamptz, session_at timestamptz, search_at timestamptz,"
  echo "  analytics_at timestamptz, completed_at timestamptz, gone_by timestamptz);"
  [ ! -e "$folder/erased.csv" ] || echo "\\copy listed FROM PROGRAM 'tail -n +2 $folder/erased.csv' WITH (FORMAT csv)"
}
# Adds to the list whoever the database knows. One stays on it for as long as a dump may hold the person.
write_erased_list() {
  local oldest
  oldest=$(dumps | head -n 1)
  oldest=$(taken_at "${oldest:-}" || date +%s)
  {
    read_erased_list
    if has erasures; then
      echo "INSERT INTO listed SELECT sha256(user_id::text::bytea), id, requested_at, session_at, search_at, analytics_at, completed_at,"
      echo "  (to_jsonb(e) ->> 'gone_by')::timestamptz FROM public.erasures e;"
    fi
    if has erased_people; then echo "INSERT INTO listed SELECT $columns FROM public.erased_people;"; fi
    echo "\\copy (SELECT DISTINCT ON (user_hash) $columns FROM listed WHERE completed_at IS NULL OR gone_by > now() OR gone_by IS NULL AND requested_at > to_timestamp($oldest) - interval '1 day' ORDER BY user_hash, erasure_id IS NULL, completed_at IS NULL) TO '$folder/erased.csv.rows' WITH (FORMAT csv)"
  } | sql -f - > /dev/null
  { echo "sha256 $(sha256sum < "$folder/erased.csv.rows" | cut -d ' ' -f 1)"; cat "$folder/erased.csv.rows"; } > "$folder/erased.csv.part"
  rm -f "$folder/erased.csv.rows"
  sync "$folder/erased.csv.part"
  mv "$folder/erased.csv.part" "$folder/erased.csv"
}
