# The service connection and the check, by Terraform. The headers are those of check-headers.json beside this file.
#
# retry_interval, the time between evaluations, is left out: it must be 0, and the provider refuses it together with
# Callback.

terraform {
  required_providers {
    azuredevops = {
      source  = "microsoft/azuredevops"
      version = ">= 1.0"
    }
  }
}

variable "project" {
  description = "Name of the project in Azure DevOps"
  default     = "shop"
}

variable "environment" {
  description = "Name of the environment whose stages wait"
  default     = "production"
}

variable "testrelay_url" {
  description = "Where Testrelay answers, with its base_path and without a last slash"
  default     = "https://testrelay.example/testrelay"
}

variable "testrelay_password" {
  description = "The value of TESTRELAY_PASSWORD in Envoy's environment"
  type        = string
  sensitive   = true
}

data "azuredevops_project" "project" {
  name = var.project
}

data "azuredevops_environment" "environment" {
  project_id = data.azuredevops_project.project.id
  name       = var.environment
}

resource "azuredevops_serviceendpoint_generic" "testrelay" {
  project_id            = data.azuredevops_project.project.id
  service_endpoint_name = "testrelay"
  server_url            = var.testrelay_url
  username              = "testrelay"
  password              = var.testrelay_password
}

resource "azuredevops_check_rest_api" "testrelay" {
  project_id                      = data.azuredevops_project.project.id
  target_resource_type            = "environment"
  target_resource_id              = data.azuredevops_environment.environment.id
  display_name                    = "Testkube's tests have passed"
  connected_service_name_selector = "connectedServiceName"
  connected_service_name          = azuredevops_serviceendpoint_generic.testrelay.service_endpoint_name
  method                          = "POST"
  url_suffix                      = "/v1/checks"
  headers                         = file("${path.module}/check-headers.json")
  completion_event                = "Callback"
  timeout                         = 1440
}
