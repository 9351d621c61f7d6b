#!/usr/bin/env bash
# The namespace, and the Secrets of the umbrella as it would be installed now, made once: what is in the namespace stays as it is. For the Tiltfile, whose other objects are
# rendered without asking the cluster.
set -euo pipefail
cd "$(dirname "$0")/.."
kubectl apply -f k8s/namespace.yaml
arguments=()
for file in "$@"; do arguments+=(--values "$file"); done
helm template quartet charts/quartet --namespace quartet --dry-run=server "${arguments[@]}" | npx --no-install node k8s/pick.ts Secret | kubectl apply --namespace quartet -f -
