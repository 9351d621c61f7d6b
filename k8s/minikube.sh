#!/usr/bin/env bash
# k8s/minikube.sh [minikube's arguments]: a minikube that Quartet fits into, with a network plugin that enforces NetworkPolicies (the default one does not). Then `npm run cluster:up`.
#   NODES=2    more nodes, each of MEMORY and CPUS; volumes then come from the CSI driver, because minikube's own make them on the first node alone
set -euo pipefail
NODES=${NODES:-1}
[[ "$NODES" =~ ^[1-9]$ ]] || { echo "NODES is a number from 1 to 9" >&2; exit 2; }
more=()
if [ "$NODES" -gt 1 ]; then more=(--nodes "$NODES" --addons volumesnapshots,csi-hostpath-driver); fi
minikube start --cni calico --cpus "${CPUS:-4}" --memory "${MEMORY:-5g}" --disk-size "${DISK:-30g}" --kubernetes-version "${KUBERNETES:-stable}" ${more[@]+"${more[@]}"} "$@"
if [ "$NODES" -gt 1 ]; then
  # One default class, or a claim without a class is refused.
  minikube addons disable default-storageclass
  minikube kubectl -- patch storageclass csi-hostpath-sc -p '{"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}'
fi
