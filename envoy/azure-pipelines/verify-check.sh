#!/usr/bin/env bash
# Fails unless the check on an environment keeps the gate closed: Callback, evaluated once, a timeout longer than
# Testrelay's own, the headers of check-headers.json. Needs bash, curl and python3. It changes nothing, and prints no
# header's value, because one may contain a token.
#
#   export AZURE_DEVOPS_EXT_PAT=...
#   ./verify-check.sh https://dev.azure.com/fabrikam shop production
#
# The arguments: organisation or collection, project, environment, and Testrelay's own timeout in minutes, 720 by default,
# like "checks.timeout" of the plugin's configuration. A Testrelay-Timeout in check-headers.json takes precedence. Exit
# code: 0 all is well, 1 something is wrong, 2 it could not find out.
set -euo pipefail

fail() {
  echo "$1" >&2
  exit 2
}

if [ $# -lt 3 ] || [ $# -gt 4 ]; then fail "three or four arguments: COLLECTION PROJECT ENVIRONMENT [MINUTES]"; fi
if [ -z "${AZURE_DEVOPS_EXT_PAT:-}" ]; then fail "AZURE_DEVOPS_EXT_PAT is not set: README.md says which token it is"; fi
collection="${1%/}" project="$2" environment="$3" minutes="${4:-720}"
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

base="$collection/$(encode "$project")/_apis"
answer="$(call "$base/distributedtask/environments?name=$(encode "$environment")&api-version=6.0-preview.1")"
environment_id="$(python3 -c '
import json, sys
answer, name = sys.argv[1:]
for one in json.loads(answer)["value"]:
    if one["name"].lower() == name.lower():
        print(one["id"])
' "$answer" "$environment")"
if [ -z "$environment_id" ]; then fail "there is no environment $environment, or the token may not see it"; fi

answer="$(call "$base/pipelines/checks/configurations?resourceType=environment&resourceId=$environment_id&\$expand=settings&api-version=6.1-preview.1")"
python3 -c '
import json, re, sys

environment, shipped, minutes = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8")), float(sys.argv[3])
found, mistakes = 0, 0


def wrong(text):
    global mistakes
    mistakes += 1
    print(text)


def in_minutes(text):
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", text)
    if not match:
        print(f"Testrelay-Timeout: {text} is not a whole number and a unit", file=sys.stderr)
        sys.exit(2)
    return int(match[1]) * {"ms": 1 / 60000, "s": 1 / 60, "m": 1, "h": 60}[match[2]]


if "Testrelay-Timeout" in shipped:
    minutes = in_minutes(shipped["Testrelay-Timeout"])
for check in json.load(sys.stdin)["value"]:
    settings = check.get("settings") or {}
    inputs = settings.get("inputs") or {}
    text = inputs.get("headers") or ""
    suffix = inputs.get("urlSuffix") or ""
    if (settings.get("definitionRef") or {}).get("id", "").lower() != "9c3e8943-130d-4c78-ac63-8af81df62dfb":
        continue
    if "testrelay" not in text.lower() and not suffix.endswith("/v1/checks"):
        continue
    found += 1
    name = settings.get("displayName") or "Invoke REST API"
    if check.get("isDisabled"):
        wrong(f"{name}: it is disabled, so no stage waits for it. Enable it.")
    if (inputs.get("waitForCompletion") or "false").lower() != "true":
        wrong(f"{name}: the completion event is ApiResponse, so the stage passes before any test has run. Choose Callback.")
    interval = settings.get("retryInterval") or 0
    if interval != 0:
        wrong(f"{name}: the time between evaluations is {interval} minutes, so Azure DevOps asks again after a negative decision. Set it to 0.")
    timeout = check.get("timeout") or 0
    if timeout <= minutes:
        wrong(f"{name}: the timeout is {timeout} minutes, but Testrelay decides after up to {minutes:g}. Set it to more than that.")
    if inputs.get("method") != "POST":
        wrong(f"{name}: the method is not POST. Choose POST.")
    if suffix != "/v1/checks":
        wrong(f"{name}: the URL suffix is not /v1/checks. Set it to that.")
    try:
        headers = {header.lower(): (header, value) for header, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        wrong(f"{name}: the headers are not a JSON object. Paste check-headers.json.")
        continue
    for header, value in shipped.items():
        if header.lower() not in headers:
            wrong(f"{name}: the header {header} is missing. Add it as check-headers.json has it.")
        elif headers[header.lower()][1] != value:
            wrong(f"{name}: the header {header} has another value than in check-headers.json. Set it to that one.")
    known = [header.lower() for header in shipped]
    for header, _ in headers.values():
        if header.lower() not in known:
            wrong(f"{name}: the header {header} is not in check-headers.json. Take it away, or add it there.")
if found == 0:
    wrong(f"{environment}: no check calls Testrelay. Create it with create-check.")
if mistakes == 0:
    print(f"{environment}: the check is as it must be.")
sys.exit(mistakes != 0)
' "$environment" "$here/check-headers.json" "$minutes" <<< "$answer"
