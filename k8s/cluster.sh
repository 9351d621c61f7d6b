#!/usr/bin/env bash
# k8s/cluster.sh up | images | down | status | test: Quartet on the cluster of the current kubecontext; `up` makes a kind cluster where there is none.
#   PROFILE=light|default   sizes (light)
#   VALUES=file             more values (k8s/node-port-values.yaml)
#   QUARTET_IMAGE_BUILD="docker build"    how an image is built, given docker's arguments; empty: they are there already
#   QUARTET_IMAGE_LOAD="kind load docker-image --name quartet"    how it reaches the cluster, given its name; empty: not needed
set -euo pipefail
cd "$(dirname "$0")/.."
NAMESPACE=quartet
PROFILE=${PROFILE:-light}
VALUES=${VALUES:-k8s/node-port-values.yaml}
VERSION=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/quartet/Chart.yaml)

need() { command -v "$1" > /dev/null || { echo "this needs $1" >&2; exit 1; }; }

# What kind and minikube want is known; elsewhere the images come from a registry, or the two variables say how.
images() {
  local context build="docker build" load=""
  context=$(kubectl config current-context)
  case "$context" in
    kind-*) load="kind load docker-image --name ${context#kind-}" ;;
    minikube) load="minikube image load" ;;
  esac
  build=${QUARTET_IMAGE_BUILD-$build}
  load=${QUARTET_IMAGE_LOAD-$load}
  for service in user session analytics search gateway; do
    if [ -n "$build" ]; then $build -t "quartet/$service:$VERSION" -f services/Dockerfile --build-arg "SERVICE=$service" .; fi
    if [ -n "$load" ]; then $load "quartet/$service:$VERSION"; fi
  done
}

up() {
  need kubectl; need helm
  if ! kubectl cluster-info > /dev/null 2>&1; then
    need kind
    kind create cluster --config k8s/kind.yaml
  fi
  images
  kubectl apply -f k8s/namespace.yaml
  local profile=()
  if [ "$PROFILE" = light ]; then profile=(-f charts/quartet/values-light.yaml); fi
  helm upgrade --install quartet charts/quartet --namespace "$NAMESPACE" ${profile[@]+"${profile[@]}"} -f "$VALUES" --wait --timeout 15m
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

case "${1:-}" in
  up | down | status | images) "$1" ;;
  # In namespaces of their own, beside what `up` installed: 13 minutes, and the images have to be there.
  test) need kubectl; need helm; VALUES=$VALUES npx vitest run --config vitest.cluster.config.ts ;;
  *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
