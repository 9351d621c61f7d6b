#!/usr/bin/env bash
# k8s/rotate-password.sh user|session|analytics|search|nats|operator|identity: gives the store, and the processes that use it, a new password; the operator a
# new token; or every service a new key to sign with.
#   NAMESPACE=quartet RELEASE=quartet [SERVICE=user, with identity: the key of this one alone]
# PostgreSQL, Redis and the keys go on working meanwhile; ClickHouse, Elasticsearch and NATS read their passwords when they start, and restart.
# What belongs to the release is found by its labels, and a Secret by who refers to it: for a chart that was installed alone, RELEASE is its own release.
# A Secret that another tool writes (External Secrets) gets its new value there, and what is here restarts: kubectl rollout restart.
set -euo pipefail
NAMESPACE=${NAMESPACE:-quartet}
RELEASE=${RELEASE:-quartet}
part=${1:-}
case "$part" in user | session | analytics | search | nats | operator | identity) ;; *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
k() { kubectl --namespace "$NAMESPACE" "$@"; }
none() { echo "release $RELEASE has no $1 in the namespace $NAMESPACE" >&2; exit 1; }
# Letters and digits, a letter first: nats-server would read one that begins with a digit as a number.
fresh() { printf 'p%s' "$(head -c 200 /dev/urandom | base64 | tr -dc 'A-Za-z0-9' | cut -c1-31)"; }
put() { # put SECRET KEY=VALUE...: from stdin, so that no password is seen among the processes
  local secret=$1 pair data=""
  shift
  for pair in "$@"; do data="$data${data:+,}\"${pair%%=*}\":\"${pair#*=}\""; done
  k patch secret "$secret" --type=merge --patch-file=/dev/stdin <<< "{\"stringData\":{$data}}"
}
restart() { # restart KIND/NAME...
  local each
  k rollout restart "$@"
  for each in "$@"; do k rollout status "$each" --timeout=10m; done
}
# The Deployments that refer to a Secret or a ConfigMap.
users() {
  k get deployments -o "jsonpath={range .items[*]}{.metadata.name}{' '}{.spec.template.spec.containers[*].env[*].valueFrom.secretKeyRef.name}{' '}\
{.spec.template.spec.containers[*].env[*].valueFrom.configMapKeyRef.name}{'\n'}{end}" |
    awk -v of="$1" '{ for (i = 2; i <= NF; i++) if ($i == of) { print "deployment/" $1; next } }'
}
# reference OBJECT VARIABLE: the Secret or ConfigMap of which an object takes it.
reference() { k get "$1" -o "jsonpath={.spec.template.spec['containers','initContainers'][*].env[?(@.name=='$2')].valueFrom['secretKeyRef','configMapKeyRef'].name}" | cut -d ' ' -f 1; }
if [ "$part" = operator ]; then
  gateway=$(k get deployment --selector "app.kubernetes.io/name=gateway,app.kubernetes.io/instance=$RELEASE" -o name | head -n 1)
  [ -n "$gateway" ] || none gateway
  secret=$(reference "$gateway" QUARTET_OPERATOR_TOKEN)
  put "$secret" "operator-token=$(fresh)$(fresh)"
  restart $(users "$secret")
  echo "the operator has a new token, in the Secret $secret"
  exit
fi
if [ "$part" = identity ]; then
  some=$(k get deployment --selector "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/name in (user, session, analytics, search, gateway)" -o name | head -n 1)
  [ -n "$some" ] || none service
  public=$(reference "$some" IDENTITY_PUBLIC_KEYS)
  all=$(users "$public")
  # Each service and its Secret, a line each.
  holders=$(for each in $all; do
    echo "$(k get "$each" -o 'jsonpath={.metadata.labels.app\.kubernetes\.io/name}') $(reference "$each" IDENTITY_KEYS)"
  done | sort -u)
  if [ -n "${SERVICE:-}" ]; then holders=$(grep "^$SERVICE " <<< "$holders") || none "$SERVICE"; fi
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
    while read -r service secret <&3; do
      own=$(k get secret "$secret" -o 'jsonpath={.data.keys\.json}' | base64 -d)
      known=$(k get configmap "$public" -o 'jsonpath={.data.keys\.json}')
      { read -r mine && read -r everybodys; } <<< "$(step "$name" <<< "{\"service\":\"$service\",\"own\":$own,\"all\":$known}")"
      k patch secret "$secret" --type=merge --patch-file=/dev/stdin <<< "$mine"
      k patch configmap "$public" --type=merge --patch-file=/dev/stdin <<< "$everybodys"
    done 3<<< "$holders"
    restart $all
  done
  echo "new keys sign:" $(cut -d ' ' -f 1 <<< "$holders")
  exit
fi
store=$(k get statefulset --selector "app.kubernetes.io/name=$part,app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=store" -o name)
[ -n "$store" ] || none "store of $part"
case "$part" in
  user) secret=$(reference "$store" USER_SERVICE_PASSWORD) ;;
  session | search) secret=$(reference "$store" SERVICE_PASSWORD) ;;
  analytics) secret=$(reference "$store" CLICKHOUSE_PASSWORD) ;;
  nats) secret=$(reference "$store" NATS_PASSWORD_USER) ;;
esac
new=$(fresh)
pod=${store#*/}-0
case "$part" in
  user)
    put "$secret" "password=$new"
    k exec -i "$pod" -- psql --quiet --username postgres --dbname postgres <<< "ALTER ROLE user_service PASSWORD '$new';"
    ;;
  session)
    # Both hold until the last process with the old one has ended.
    redis() { k exec -i "$pod" -- sh -c 'REDISCLI_AUTH="$ADMIN_PASSWORD" exec redis-cli $REDIS_CLI_OPTIONS --user admin' <<< "$1" | { grep -qx OK || { echo "Redis refused" >&2; return 1; }; }; }
    redis "ACL SETUSER session_service >$new"
    put "$secret" "password=$new"
    ;;
  analytics | search)
    put "$secret" "password=$new"
    restart "$store"
    ;;
  nats)
    put "$secret" "user=$(fresh)" "session=$(fresh)" "analytics=$(fresh)" "search=$(fresh)"
    restart "$store"
    ;;
esac
all=$(users "$secret")
if [ -n "$all" ]; then restart $all; fi
if [ "$part" = session ]; then redis "ACL SETUSER session_service resetpass >$new"; fi
echo "${store#*/} has a new password, in the Secret $secret"
