#!/usr/bin/env bash
# k8s/minikube.sh: a minikube that Quartet fits into, with a network plugin that enforces NetworkPolicies (the default one does not). Then `npm run cluster:up`.
set -euo pipefail
exec minikube start --cni calico --cpus "${CPUS:-4}" --memory "${MEMORY:-5g}" --disk-size "${DISK:-30g}" --kubernetes-version "${KUBERNETES:-stable}" "$@"
