#!/usr/bin/env bash
# k8s/rotate-password.sh user|session|analytics|search|nats|operator|identity: gives the store, and the processes that use it, a new password; the operator a
# new token; or every service a new key to sign with.
#   NAMESPACE=quartet RELEASE=quartet [SERVICE=user, with identity: the key of this one alone]
# PostgreSQL, Redis and the keys go on working meanwhile; ClickHouse, Elasticsearch and NATS read their passwords when they start, and restart.
# For a chart that was installed alone, RELEASE is its release and RELEASE-<chart> becomes RELEASE where one name contains the other.
set -euo pipefail
NAMESPACE=${NAMESPACE:-quartet}
RELEASE=${RELEASE:-quartet}
part=${1:-}
case "$part" in user | session | analytics | search | nats | operator | identity) ;; *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
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
if [ "$part" = operator ]; then
  case "$RELEASE" in *gateway*) gateway=$RELEASE ;; *) gateway=$RELEASE-gateway ;; esac
  put "$gateway-operator" "operator-token=$(fresh)$(fresh)"
  restart deployment --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/name=gateway"
  echo "the operator has a new token, in the Secret $gateway-operator"
  exit
fi
if [ "$part" = identity ]; then
  services=${SERVICE:-user session analytics search gateway}
  # One that is not ending: a rollout is done while the pods that it replaced still run.
  pod() {
    k get pods --selector "quartet/service" --field-selector status.phase=Running --output \
      go-template='{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}' | head -n 1
  }
  # The new key is known to all before it signs, and the old one until nobody carries its word any more. From stdin {"service", "own", "all"}; two patches, a line each.
  step() {
    k exec -i "$(pod)" -- node --input-type=module -e '
      import { readFileSync } from "node:fs";
      import { makeIdentityKey, publicPart } from "/app/packages/contracts/src/index.ts";
      const { service, own, all } = JSON.parse(readFileSync(0, "utf8")), [first, second] = own.keys;
      const keys = { introduce: () => [first, makeIdentityKey()], promote: () => [second, first], retire: () => [first] }[process.argv[1]]();
      const file = (value) => ({ "keys.json": JSON.stringify(value) });
      console.log(JSON.stringify({ stringData: file({ keys }) }));
      console.log(JSON.stringify({ data: file({ ...all, [service]: { keys: keys.map(publicPart) } }) }));' "$1"
  }
  for name in introduce promote retire; do
    for service in $services; do
      own=$(k get secret "$RELEASE-identity-$service" -o 'jsonpath={.data.keys\.json}' | base64 -d)
      all=$(k get configmap "$RELEASE-identity" -o 'jsonpath={.data.keys\.json}')
      { read -r mine && read -r everybodys; } <<< "$(step "$name" <<< "{\"service\":\"$service\",\"own\":$own,\"all\":$all}")"
      k patch secret "$RELEASE-identity-$service" --type=merge --patch-file=/dev/stdin <<< "$mine"
      k patch configmap "$RELEASE-identity" --type=merge --patch-file=/dev/stdin <<< "$everybodys"
    done
    restart deployment --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/name in (user, session, analytics, search, gateway)"
  done
  echo "new keys sign: $services"
  exit
fi
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
