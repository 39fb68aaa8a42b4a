# Creates the check on an environment: check.json with the headers of check-headers.json. For Windows PowerShell 5.1 and
# PowerShell 7.
#
#   $env:AZURE_DEVOPS_EXT_PAT = '...'
#   .\create-check.ps1 https://dev.azure.com/fabrikam shop production testrelay
#
# The arguments: organisation or collection, project, environment, service connection. Exit code: 0 done, 2 not.
param([string] $Collection, [string] $Project, [string] $Environment, [string] $Connection)
$ErrorActionPreference = 'Stop'
[Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

function Stop-Here([string] $text) {
  [Console]::Error.WriteLine($text)
  exit 2
}

if (-not $Connection) { Stop-Here "four arguments: COLLECTION PROJECT ENVIRONMENT SERVICE_CONNECTION" }
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

# The id of the list's entry with exactly this name.
function Get-Id($answer, [string] $name) {
  foreach ($one in $answer.value) {
    if ($one.name -eq $name) { return "$($one.id)" }
  }
}

$base = "$($Collection.TrimEnd('/'))/$(ConvertTo-Encoded $Project)/_apis"
$answer = Invoke-Call @{ Uri = "$base/distributedtask/environments?name=$(ConvertTo-Encoded $Environment)&api-version=6.0-preview.1" }
$environmentId = Get-Id $answer $Environment
if (-not $environmentId) { Stop-Here "there is no environment $Environment, or the token may not see it" }
$answer = Invoke-Call @{ Uri = "$base/serviceendpoint/endpoints?endpointNames=$(ConvertTo-Encoded $Connection)&api-version=6.0-preview.4" }
$connectionId = Get-Id $answer $Connection
if (-not $connectionId) { Stop-Here "there is no service connection $Connection, or the token may not see it" }

# ReadAllText, not Get-Content, whose extra properties Windows PowerShell would write into the JSON.
$check = ConvertFrom-Json ([IO.File]::ReadAllText((Join-Path $PSScriptRoot 'check.json')))
$inputs = $check.settings.inputs
$inputs.connectedServiceName = $connectionId
$inputs.headers = [IO.File]::ReadAllText((Join-Path $PSScriptRoot 'check-headers.json'))
$check.resource.id = $environmentId
$check.resource.name = $Environment
$answer = Invoke-Call @{
  Method      = 'Post'
  Uri         = "$base/pipelines/checks/configurations?api-version=6.1-preview.1"
  ContentType = 'application/json'
  Body        = [Text.Encoding]::UTF8.GetBytes((ConvertTo-Json $check -Depth 10))
}
Write-Host "${Environment}: the check was created. Now run verify-check."
