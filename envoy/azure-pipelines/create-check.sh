#!/usr/bin/env bash
# Creates the check on an environment: check.json with the headers of check-headers.json. Needs bash, curl and python3.
#
#   export AZURE_DEVOPS_EXT_PAT=...
#   ./create-check.sh https://dev.azure.com/fabrikam shop production testrelay
#
# The arguments: organisation or collection, project, environment, service connection. Exit code: 0 done, 2 not.
set -euo pipefail

fail() {
  echo "$1" >&2
  exit 2
}

if [ $# != 4 ]; then fail "four arguments: COLLECTION PROJECT ENVIRONMENT SERVICE_CONNECTION"; fi
if [ -z "${AZURE_DEVOPS_EXT_PAT:-}" ]; then fail "AZURE_DEVOPS_EXT_PAT is not set: README.md says which token it is"; fi
collection="${1%/}" project="$2" environment="$3" connection="$4"
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

encode() {
  python3 -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.argv[1], safe=""))' "$1"
}

# Through standard input, because every process of the machine can read a program's arguments.
call() {
  local credentials answer
  credentials="$(printf ':%s' "$AZURE_DEVOPS_EXT_PAT" | base64 | tr -d '\n')"
  answer="$(printf 'Authorization: Basic %s' "$credentials" | curl --header @- --fail --silent --show-error "$@")" || exit 2
  case "$answer" in
    '{'*) echo "$answer" ;;
    *) fail "Azure DevOps did not answer with JSON: the token is wrong or has expired" ;;
  esac
}

# The id of the list's entry with exactly this name.
id_of() {
  python3 -c '
import json, sys
answer, name = sys.argv[1:]
for one in json.loads(answer)["value"]:
    if one["name"].lower() == name.lower():
        print(one["id"])
        break
' "$1" "$2"
}

base="$collection/$(encode "$project")/_apis"
answer="$(call "$base/distributedtask/environments?name=$(encode "$environment")&api-version=6.0-preview.1")"
environment_id="$(id_of "$answer" "$environment")"
if [ -z "$environment_id" ]; then fail "there is no environment $environment, or the token may not see it"; fi
answer="$(call "$base/serviceendpoint/endpoints?endpointNames=$(encode "$connection")&api-version=6.0-preview.4")"
connection_id="$(id_of "$answer" "$connection")"
if [ -z "$connection_id" ]; then fail "there is no service connection $connection, or the token may not see it"; fi

check="$(python3 -c '
import json, sys
folder, environment, environment_id, connection_id = sys.argv[1:]
check = json.load(open(f"{folder}/check.json", encoding="utf-8"))
inputs = check["settings"]["inputs"]
inputs["connectedServiceName"] = connection_id
inputs["headers"] = open(f"{folder}/check-headers.json", encoding="utf-8").read()
check["resource"].update(id=environment_id, name=environment)
print(json.dumps(check))
' "$here" "$environment" "$environment_id" "$connection_id")"
answer="$(call --header 'Content-Type: application/json' --data-raw "$check" \
  "$base/pipelines/checks/configurations?api-version=6.1-preview.1")"
echo "$environment: the check was created. Now run verify-check."
