#!/usr/bin/env bash
# k8s/grow-volume.sh user|session|analytics|search|nats SIZE: larger volumes for a store, without a restart. Then `helm upgrade` with the same persistence.size.
#   NAMESPACE=quartet RELEASE=quartet
#   VOLUMES=keep   where the storage class cannot grow volumes: those that are there stay as they are, only new ones get the size
# Kubernetes takes no other claim template for a StatefulSet that is there: it goes without its pods, and one of the new size takes them over.
set -euo pipefail
NAMESPACE=${NAMESPACE:-quartet}
RELEASE=${RELEASE:-quartet}
part=${1:-}
size=${2:-}
case "$part" in user | session | analytics | search | nats) ;; *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
case "$size" in [0-9]*) ;; *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
k() { kubectl --namespace "$NAMESPACE" "$@"; }
store=$(k get statefulset --selector "app.kubernetes.io/name=$part,app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=store" -o name)
[ -n "$store" ] || { echo "release $RELEASE has no store of $part in the namespace $NAMESPACE" >&2; exit 1; }
name=${store#*/}
replicas=$(k get "$store" -o 'jsonpath={.spec.replicas}')
if [ "${VOLUMES:-grow}" = grow ]; then
  for i in $(seq 0 $((replicas - 1))); do
    class=$(k get pvc "data-$name-$i" -o 'jsonpath={.spec.storageClassName}')
    [ "$(kubectl get storageclass "$class" -o 'jsonpath={.allowVolumeExpansion}')" = true ] ||
      { echo "the storage class $class cannot grow volumes: VOLUMES=keep, or a backup restored into a new one" >&2; exit 1; }
  done
  for i in $(seq 0 $((replicas - 1))); do
    k patch pvc "data-$name-$i" --type=merge --patch "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"$size\"}}}}"
  done
fi
file=$(mktemp)
trap 'rm -f "$file"' EXIT
# What the server adds goes: what is applied is owned by Helm, under the name that it uses itself.
k get "$store" -o json | kubectl patch --local -f - --type=json -o json --patch "[
  {\"op\":\"replace\",\"path\":\"/spec/volumeClaimTemplates/0/spec/resources/requests/storage\",\"value\":\"$size\"},
  {\"op\":\"remove\",\"path\":\"/metadata/uid\"}, {\"op\":\"remove\",\"path\":\"/metadata/resourceVersion\"},
  {\"op\":\"remove\",\"path\":\"/metadata/creationTimestamp\"}, {\"op\":\"remove\",\"path\":\"/metadata/generation\"},
  {\"op\":\"remove\",\"path\":\"/status\"}]" > "$file"
k delete "$store" --cascade=orphan
k apply --server-side --field-manager=helm -f "$file" || { echo "it is in $file: kubectl apply --server-side --field-manager=helm -f $file" >&2; trap - EXIT; exit 1; }
k rollout status "$store" --timeout=10m
echo "$name asks for $size; now helm upgrade with $part.store.standalone.persistence.size=$size"
