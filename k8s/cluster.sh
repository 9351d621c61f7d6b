#!/usr/bin/env bash
# k8s/cluster.sh up | down | status | test: Quartet on the cluster of the current kubecontext; `up` makes a kind cluster where there is none.
#   PROFILE=light|default   sizes (light)
#   VALUES=file             more values, for example k8s/lab-values.yaml
#   BUILD="docker build"    how images are built; empty: they are there already
#   LOAD="kind load docker-image --name quartet"   how they reach the cluster; empty: not needed
set -euo pipefail
cd "$(dirname "$0")/.."
NAMESPACE=quartet
PROFILE=${PROFILE:-light}
BUILD=${BUILD-docker build}
VERSION=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/quartet/Chart.yaml)

need() { command -v "$1" > /dev/null || { echo "this needs $1" >&2; exit 1; }; }
values() {
  if [ "$PROFILE" = light ]; then printf '%s\n' -f charts/quartet/values-light.yaml; fi
  printf '%s\n' -f "${VALUES:-k8s/node-port-values.yaml}"
}

up() {
  need kubectl; need helm
  if ! kubectl cluster-info > /dev/null 2>&1; then
    need kind
    kind create cluster --config k8s/kind.yaml
  fi
  local load=${LOAD-}
  if [ -z "${LOAD+set}" ] && [ "$(kubectl config current-context)" = kind-quartet ]; then load="kind load docker-image --name quartet"; fi
  for service in user session analytics search gateway; do
    if [ -n "$BUILD" ]; then $BUILD -t "quartet/$service:$VERSION" -f services/Dockerfile --build-arg "SERVICE=$service" .; fi
    if [ -n "$load" ]; then $load "quartet/$service:$VERSION"; fi
  done
  kubectl apply -f k8s/namespace.yaml
  mapfile -t arguments < <(values)
  helm upgrade --install quartet charts/quartet --namespace "$NAMESPACE" "${arguments[@]}" --wait --timeout 15m
}

down() {
  need helm
  helm uninstall quartet --namespace "$NAMESPACE"
  echo "volumes and Secrets stay; to remove them too: kubectl delete namespace $NAMESPACE"
}

status() {
  need kubectl
  kubectl --namespace "$NAMESPACE" get pods,services,persistentvolumeclaims
}

# The same black-box suite that runs against the local system, through the gateway's Service.
try() {
  need kubectl; need helm
  helm test quartet --namespace "$NAMESPACE"
  local port=${QUARTET_PORT:-18080} token
  token=$(kubectl --namespace "$NAMESPACE" get secret quartet-gateway-operator -o jsonpath='{.data.operator-token}' | base64 -d)
  kubectl --namespace "$NAMESPACE" port-forward service/quartet-gateway "$port:80" > /dev/null &
  forward=$!
  trap 'kill "$forward" 2> /dev/null || true' EXIT
  for _ in $(seq 50); do curl -fsS -o /dev/null "http://127.0.0.1:$port/openapi.json" 2> /dev/null && break; sleep 0.2; done
  QUARTET_URL="http://127.0.0.1:$port" QUARTET_OPERATOR_TOKEN="$token" npx vitest run --config vitest.system.config.ts test/blackbox
}

case "${1:-}" in
  up | down | status) "$1" ;;
  test) try ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
