# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  api://AzureADTokenExchange

terraform {
  required_version = ">= 1.3"

  required_providers {
    azuread = {
      source  = "hashicorp/azuread"
      version = "~> 3.0"
    }
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

provider "azuread" {
  environment = "global"
  tenant_id   = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
}

provider "azurerm" {
  environment = "public"
  tenant_id   = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

  features {}
}

variable "client_id" {
  description = "The client id of the application that the feed names; empty to make one."
  type        = string
  default     = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"
}

resource "azuread_application" "feed" {
  count = var.client_id == "" ? 1 : 0

  display_name = "carnet-default-prod"
}

data "azuread_application" "feed" {
  count = var.client_id == "" ? 0 : 1

  client_id = var.client_id
}

resource "azuread_service_principal" "feed" {
  client_id    = local.client_id
  use_existing = true
}

resource "azuread_application_federated_identity_credential" "feed" {
  application_id = "/applications/${one(concat(azuread_application.feed[*].object_id, data.azuread_application.feed[*].object_id))}"
  display_name   = "carnet-prod-0a0b77865c0a4ac0"
  description    = "carnet feed default/prod: Production"
  issuer         = "https://issuer.example"
  subject        = "space:default:feed:prod"
  audiences      = ["api://AzureADTokenExchange"]
}

locals {
  client_id    = one(concat(azuread_application.feed[*].client_id, data.azuread_application.feed[*].client_id))
  principal_id = azuread_service_principal.feed.object_id
}

# Looked for in the subscription that azurerm is set to.
data "azurerm_resources" "registry" {
  type = "Microsoft.ContainerRegistry/registries"
  name = "images"
}

variable "repository_permissions" {
  description = "True for a registry in the mode \"RBAC Registry + ABAC Repository Permissions\"."
  type        = bool
  default     = false
}

resource "azurerm_role_assignment" "feed" {
  scope                = one(data.azurerm_resources.registry.resources[*].id)
  role_definition_name = var.repository_permissions ? "Container Registry Repository Reader" : "AcrPull"
  principal_id         = local.principal_id
  principal_type       = "ServicePrincipal"
}

# What the feed must name: carnet feed update default/prod --client-id
output "client_id" {
  value = local.client_id
}
