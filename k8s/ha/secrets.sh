#!/usr/bin/env bash
# k8s/ha/secrets.sh: the Secrets that the manifests and values files here name, made once in the namespace of NAMESPACE (quartet); those that are there
# stay as they are. PostgreSQL and Elasticsearch have a certificate authority of their operator; Redis and ClickHouse get one from here (openssl).
set -euo pipefail
NAMESPACE=${NAMESPACE:-quartet}
DAYS=${DAYS:-825}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

k() { kubectl --namespace "$NAMESPACE" "$@"; }
there() { k get secret "$1" > /dev/null 2>&1; }
password() { openssl rand -hex 20; }
value() { k get secret "$1" -o "jsonpath={.data.$2}" | base64 -d; }

# certificate NAME SAN...: a Secret with ca.crt, tls.crt and tls.key.
certificate() {
  local name=$1 san
  shift
  there "$name" && return
  if [ ! -f "$work/ca.key" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$DAYS" -subj /CN=quartet-stores \
      -addext "keyUsage=critical,keyCertSign,cRLSign" -keyout "$work/ca.key" -out "$work/ca.crt" 2> /dev/null
  fi
  san=$(printf ',DNS:%s' "$@")
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$work/tls.key" -out "$work/tls.csr" 2> /dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "${san#,}" > "$work/extensions"
  openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -days "$DAYS" -extfile "$work/extensions" -out "$work/tls.crt" 2> /dev/null
  k create secret generic "$name" --from-file=ca.crt="$work/ca.crt" --from-file=tls.crt="$work/tls.crt" --from-file=tls.key="$work/tls.key"
}

there quartet-postgres-user-service || k create secret generic quartet-postgres-user-service --type=kubernetes.io/basic-auth \
  --from-literal=username=user_service --from-literal=password="$(password)"
there quartet-user-postgres || k create secret generic quartet-user-postgres \
  --from-literal=url="postgres://user_service:$(value quartet-postgres-user-service password)@quartet-postgres-rw:5432/quartet?sslmode=verify-full"

there quartet-elasticsearch-account || k create secret generic quartet-elasticsearch-account --type=kubernetes.io/basic-auth \
  --from-literal=username=search_service --from-literal=password="$(password)" --from-literal=roles=search
there quartet-elasticsearch-roles || k create secret generic quartet-elasticsearch-roles \
  --from-literal=roles.yml='search: { cluster: [monitor, manage_index_templates], indices: [{ names: ["*"], privileges: [all] }] }'
there quartet-search-elasticsearch || k create secret generic quartet-search-elasticsearch \
  --from-literal=url="https://search_service:$(value quartet-elasticsearch-account password)@quartet-es-http:9200"

domain=quartet-redis.$NAMESPACE.svc.cluster.local
certificate quartet-redis-tls "*.$domain" "$domain" "*.quartet-redis" localhost
there quartet-redis || k create secret generic quartet-redis --from-literal=admin-password="$(password)" \
  --from-literal=sentinel-password="$(password)" --from-literal=password="$(password)"
there quartet-session-redis || k create secret generic quartet-session-redis --from-literal=url="rediss+sentinel://session_service:$(value quartet-redis password)@\
quartet-redis-0.$domain:26379,quartet-redis-1.$domain:26379,quartet-redis-2.$domain:26379/quartet?sentinelPassword=$(value quartet-redis sentinel-password)"

certificate quartet-clickhouse-tls clickhouse-quartet "clickhouse-quartet.$NAMESPACE.svc" chi-quartet-main-0-{0,1,2} localhost
there quartet-clickhouse || k create secret generic quartet-clickhouse --from-literal=password="$(password)"
there quartet-analytics-clickhouse || k create secret generic quartet-analytics-clickhouse \
  --from-literal=url="https://analytics_service:$(value quartet-clickhouse password)@clickhouse-quartet:8443/analytics"
echo "the Secrets are there"
