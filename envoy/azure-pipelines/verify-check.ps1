# Fails unless the check on an environment keeps the gate closed: Callback, evaluated once, a timeout longer than
# Testrelay's own, the headers of check-headers.json. For Windows PowerShell 5.1 and PowerShell 7. It changes nothing, and
# prints no header's value, because one may contain a token.
#
#   $env:AZURE_DEVOPS_EXT_PAT = '...'
#   .\verify-check.ps1 https://dev.azure.com/fabrikam shop production
#
# The arguments: organisation or collection, project, environment, and Testrelay's own timeout in minutes, 720 by default,
# like "checks.timeout" of the plugin's configuration. A Testrelay-Timeout in check-headers.json takes precedence. Exit
# code: 0 all is well, 1 something is wrong, 2 it could not find out.
param([string] $Collection, [string] $Project, [string] $Environment, [double] $Minutes = 720)
$ErrorActionPreference = 'Stop'
[Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

function Stop-Here([string] $text) {
  [Console]::Error.WriteLine($text)
  exit 2
}

if (-not $Environment) { Stop-Here "three or four arguments: COLLECTION PROJECT ENVIRONMENT [MINUTES]" }
if (-not $env:AZURE_DEVOPS_EXT_PAT) { Stop-Here "AZURE_DEVOPS_EXT_PAT is not set: README.md says which token it is" }

function ConvertTo-Encoded([string] $text) {
  [Uri]::EscapeDataString($text)
}

$credentials = [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes(":$env:AZURE_DEVOPS_EXT_PAT"))
function Invoke-Call([hashtable] $request) {
  try {
    $answer = Invoke-RestMethod -Headers @{ Authorization = "Basic $credentials" } @request
  } catch {
    Stop-Here $_.Exception.Message
  }
  if ($answer -isnot [Management.Automation.PSCustomObject]) { Stop-Here "Azure DevOps did not answer with JSON: the token is wrong or has expired" }
  $answer
}

$base = "$($Collection.TrimEnd('/'))/$(ConvertTo-Encoded $Project)/_apis"
$answer = Invoke-Call @{ Uri = "$base/distributedtask/environments?name=$(ConvertTo-Encoded $Environment)&api-version=6.0-preview.1" }
$environmentId = $null
foreach ($one in $answer.value) {
  if ($one.name -eq $Environment) { $environmentId = $one.id }
}
if (-not $environmentId) { Stop-Here "there is no environment $Environment, or the token may not see it" }

$answer = Invoke-Call @{ Uri = "$base/pipelines/checks/configurations?resourceType=environment&resourceId=$environmentId&`$expand=settings&api-version=6.1-preview.1" }
$shipped = (ConvertFrom-Json ([IO.File]::ReadAllText((Join-Path $PSScriptRoot 'check-headers.json')))).PSObject.Properties
$script:found = 0
$script:mistakes = 0
function Add-Mistake([string] $text) {
  $script:mistakes++
  Write-Host $text
}

function ConvertTo-Minutes([string] $text) {
  if ($text -cnotmatch '^(\d+)(ms|s|m|h)$') { Stop-Here "Testrelay-Timeout: $text is not a whole number and a unit" }
  [double] $Matches[1] * @{ ms = 1 / 60000; s = 1 / 60; m = 1; h = 60 }[$Matches[2]]
}

foreach ($property in $shipped) {
  if ($property.Name -eq 'Testrelay-Timeout') { $Minutes = ConvertTo-Minutes $property.Value }
}
foreach ($check in $answer.value) {
  $settings = $check.settings
  $inputs = $settings.inputs
  $text = "$($inputs.headers)"
  $suffix = "$($inputs.urlSuffix)"
  if ($settings.definitionRef.id -ne '9c3e8943-130d-4c78-ac63-8af81df62dfb') { continue }
  if ($text -notmatch 'testrelay' -and -not $suffix.EndsWith('/v1/checks')) { continue }
  $script:found++
  $name = if ($settings.displayName) { $settings.displayName } else { 'Invoke REST API' }
  if ($check.isDisabled) {
    Add-Mistake "${name}: it is disabled, so no stage waits for it. Enable it."
  }
  if ("$($inputs.waitForCompletion)" -ne 'true') {
    Add-Mistake "${name}: the completion event is ApiResponse, so the stage passes before any test has run. Choose Callback."
  }
  $interval = [int] $settings.retryInterval
  if ($interval -ne 0) {
    Add-Mistake "${name}: the time between evaluations is $interval minutes, so Azure DevOps asks again after a negative decision. Set it to 0."
  }
  $timeout = [int] $check.timeout
  if ($timeout -le $Minutes) {
    Add-Mistake "${name}: the timeout is $timeout minutes, but Testrelay decides after up to $Minutes. Set it to more than that."
  }
  if ($inputs.method -cne 'POST') {
    Add-Mistake "${name}: the method is not POST. Choose POST."
  }
  if ($suffix -cne '/v1/checks') {
    Add-Mistake "${name}: the URL suffix is not /v1/checks. Set it to that."
  }
  $parsed = $null
  try { $parsed = ConvertFrom-Json $text } catch { $parsed = $null }
  if ($parsed -isnot [Management.Automation.PSCustomObject]) {
    Add-Mistake "${name}: the headers are not a JSON object. Paste check-headers.json."
    continue
  }
  $headers = @{} # compares its keys without case
  foreach ($property in $parsed.PSObject.Properties) { $headers[$property.Name] = $property.Value }
  $known = @{}
  foreach ($property in $shipped) {
    $header = $property.Name
    $known[$header] = $true
    if (-not $headers.ContainsKey($header)) {
      Add-Mistake "${name}: the header $header is missing. Add it as check-headers.json has it."
    } elseif ($headers[$header] -cne $property.Value) {
      Add-Mistake "${name}: the header $header has another value than in check-headers.json. Set it to that one."
    }
  }
  foreach ($header in $headers.Keys) {
    if (-not $known.ContainsKey($header)) {
      Add-Mistake "${name}: the header $header is not in check-headers.json. Take it away, or add it there."
    }
  }
}
if ($script:found -eq 0) {
  Add-Mistake "${Environment}: no check calls Testrelay. Create it with create-check."
}
if ($script:mistakes -eq 0) {
  Write-Host "${Environment}: the check is as it must be."
}
exit [int] ($script:mistakes -ne 0)
