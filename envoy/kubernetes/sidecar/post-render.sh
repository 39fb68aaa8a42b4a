#!/bin/sh
# Adds Testrelay to what Helm has rendered for Testkube:
#   helm upgrade --install testkube kubeshop/testkube -n testkube --post-renderer envoy/kubernetes/sidecar/post-render.sh
# Helm 4 accepts only plugins as post-renderers: let one call this file.
set -eu
cd "$(dirname "$0")"
cat > testkube.yaml
trap 'rm -f testkube.yaml' EXIT
kubectl kustomize .
