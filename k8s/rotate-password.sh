#!/usr/bin/env bash
# k8s/rotate-password.sh user|session|analytics|search|nats: gives the store a new password, and the processes that use it.
#   NAMESPACE=quartet RELEASE=quartet
# PostgreSQL and Redis go on working meanwhile; ClickHouse, Elasticsearch and NATS read their passwords when they start, and restart.
# For a chart that was installed alone, RELEASE is its release and RELEASE-<chart> becomes RELEASE where one name contains the other.
set -euo pipefail
NAMESPACE=${NAMESPACE:-quartet}
RELEASE=${RELEASE:-quartet}
part=${1:-}
case "$part" in user | session | analytics | search | nats) ;; *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
case "$RELEASE" in *"$part"*) full=$RELEASE ;; *) full=$RELEASE-$part ;; esac
k() { kubectl --namespace "$NAMESPACE" "$@"; }
# Letters and digits, a letter first: nats-server would read one that begins with a digit as a number.
fresh() { printf 'p%s' "$(head -c 200 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | cut -c1-31)"; }
put() { # put SECRET KEY=VALUE...: from stdin, so that no password is seen among the processes
  local secret=$1 pair data=""
  shift
  for pair in "$@"; do data="$data${data:+,}\"${pair%%=*}\":\"${pair#*=}\""; done
  k patch secret "$secret" --type=merge --patch-file=/dev/stdin <<< "{\"stringData\":{$data}}"
}
restart() {
  k rollout restart "$@"
  local each
  for each in $(k get "$@" -o name); do k rollout status "$each" --timeout=10m; done
}
secret=$full-store
if [ "$part" = nats ]; then
  secret=$RELEASE-nats-auth
  k get secret "$secret" > /dev/null 2>&1 || secret=$full-auth
fi
new=$(fresh)
case "$part" in
  user)
    put "$secret" "password=$new"
    k exec -i "$full-store-0" -- psql --quiet --username postgres --dbname postgres <<< "ALTER ROLE user_service PASSWORD '$new';"
    ;;
  session)
    # Both hold until the last process with the old one has ended.
    redis() { k exec -i "$full-store-0" -- sh -c 'REDISCLI_AUTH="$ADMIN_PASSWORD" exec redis-cli --user admin' <<< "$1" | { grep -qx OK || { echo "Redis refused" >&2; return 1; }; }; }
    redis "ACL SETUSER session_service >$new"
    put "$secret" "password=$new"
    ;;
  analytics | search)
    put "$secret" "password=$new"
    restart "statefulset/$full-store"
    ;;
  nats)
    put "$secret" "user=$(fresh)" "session=$(fresh)" "analytics=$(fresh)" "search=$(fresh)"
    restart "statefulset/$full-store"
    ;;
esac
if [ "$part" = nats ]; then restart deployment --selector "app.kubernetes.io/name in (user, session, analytics, search)"; else restart deployment --selector "app.kubernetes.io/name=$part"; fi
if [ "$part" = session ]; then redis "ACL SETUSER session_service resetpass >$new"; fi
echo "$full has a new password"
