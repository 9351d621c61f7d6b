#!/usr/bin/env bash
# k8s/cluster.sh up | images | down | status | test: Quartet on the cluster of the current kubecontext; `up` makes a kind cluster where there is no context at all.
#   CONTEXT=name            has to name the current context where it is not one of kind, minikube, k3d, Docker Desktop, Rancher Desktop, OrbStack or Colima
#   NAMESPACE=name          another one than quartet
#   PROFILE=light|default   sizes (light)
#   VALUES=file             more values (k8s/node-port-values.yaml)
#   QUARTET_IMAGE_BUILD="docker build"    how an image is built, given docker's arguments; empty: they are there already
#   QUARTET_IMAGE_LOAD="kind load docker-image --name quartet"    how it reaches the cluster, given its name; empty: not needed
#   QUARTET_IMAGE_TAG=tag   tag of all images. Default: the version and what is in the image, so that changed code is another image; the version where none is built
set -euo pipefail
cd "$(dirname "$0")/.."
NAMESPACE=${NAMESPACE:-quartet}
PROFILE=${PROFILE:-light}
VALUES=${VALUES:-k8s/node-port-values.yaml}
VERSION=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/quartet/Chart.yaml)
SERVICES="user session analytics search gateway"
BUILD=${QUARTET_IMAGE_BUILD-docker build}

fail() { echo "$1" >&2; exit 1; }
need() { command -v "$1" > /dev/null || fail "this needs $1"; }

# Sets CURRENT, to which every command below is bound: a context that is switched meanwhile changes nothing.
context() {
  need kubectl
  CURRENT=$(kubectl config current-context 2> /dev/null || true)
  if [ -z "$CURRENT" ]; then
    [ "$1" = up ] || fail "kubectl has no current context"
    need kind
    kind create cluster --config k8s/kind.yaml
    CURRENT=$(kubectl config current-context)
  fi
  case "$CURRENT" in
    kind-* | minikube | k3d-* | docker-desktop | rancher-desktop | orbstack | colima*) ;;
    *)
      [ "${CONTEXT:-}" = "$CURRENT" ] ||
        fail "the current context is $CURRENT, which may be anybody's cluster: nothing was done. CONTEXT=$CURRENT says that it is meant; kind create cluster --config k8s/kind.yaml makes a local one."
      ;;
  esac
  k cluster-info > /dev/null 2>&1 || fail "the cluster of the context $CURRENT does not answer"
}
k() { kubectl --context "$CURRENT" "$@"; }
h() { helm --kube-context "$CURRENT" "$@"; }

SUMS="sha256sum"
command -v sha256sum > /dev/null || SUMS="shasum -a 256"
# linked FOLDER...: the folders, and the packages that their manifests depend on, directly or not.
linked() {
  local folder all="$*" more
  more=$(for folder in "$@"; do
    echo "$folder"
    sed -n '/"dependencies"/,/}/s|.*"@quartet/\([a-z-]*\)".*|packages/\1|p' "$folder/package.json"
  done | LC_ALL=C sort -u)
  more=${more//$'\n'/ }
  # shellcheck disable=SC2086
  if [ "$more" = "$all" ]; then echo "$more"; else linked $more; fi
}
# tag SERVICE: changes with every file that services/Dockerfile puts into its image, and with no other.
tag() {
  if [ -n "${QUARTET_IMAGE_TAG:-}" ]; then echo "$QUARTET_IMAGE_TAG"; return; fi
  if [ -z "$BUILD" ]; then echo "$VERSION"; return; fi
  local digest parts
  parts=$(linked "services/$1")
  digest=$(find services/Dockerfile package.json package-lock.json .npmrc LICENSE NOTICE packages/*/package.json services/*/package.json $parts \
    -type f ! -path '*/node_modules/*' ! -path '*/test/*' -print0 | LC_ALL=C sort -zu | xargs -0 $SUMS | $SUMS | cut -c1-12)
  echo "$VERSION-$digest"
}

# What kind and minikube want is known; elsewhere the images come from a registry, or the two variables say how.
images() {
  local load="" image
  case "$CURRENT" in
    kind-*) load="kind load docker-image --name ${CURRENT#kind-}" ;;
    minikube) load="minikube image load" ;;
    k3d-*) load="k3d image import --cluster ${CURRENT#k3d-}" ;;
  esac
  load=${QUARTET_IMAGE_LOAD-$load}
  for service in $SERVICES; do
    image=quartet/$service:$(tag "$service")
    if [ -n "$BUILD" ]; then $BUILD -t "$image" -f services/Dockerfile --build-arg "SERVICE=$service" .; fi
    if [ -n "$load" ]; then $load "$image"; fi
  done
}

up() {
  need helm
  images
  sed -E "s/^( +name(space)?): quartet$/\1: $NAMESPACE/" k8s/namespace.yaml | k apply -f -
  local values=(-f k8s/local-values.yaml)
  if [ "$PROFILE" = light ]; then values+=(-f charts/quartet/values-light.yaml); fi
  values+=(-f "$VALUES")
  for service in $SERVICES; do values+=(--set-string "$service.image.tag=$(tag "$service")"); done
  h upgrade --install quartet charts/quartet --namespace "$NAMESPACE" "${values[@]}" --wait --timeout 15m
}

down() {
  need helm
  h uninstall quartet --namespace "$NAMESPACE"
  echo "volumes and Secrets stay; to remove them too: kubectl --context $CURRENT delete namespace $NAMESPACE"
}

status() { k --namespace "$NAMESPACE" get pods,services,persistentvolumeclaims; }

tags() { for service in $SERVICES; do echo "$service=$(tag "$service")"; done; }

case "${1:-}" in
  up | down | images | status) context "$1"; "$1" ;;
  # What each image would be called.
  tags) tags ;;
  # In namespaces of their own, beside what `up` installed: 13 minutes, and the images have to be there.
  test) context test; need helm; VALUES=$VALUES QUARTET_IMAGE_TAGS=$(tags) npx vitest run --config vitest.cluster.config.ts ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
