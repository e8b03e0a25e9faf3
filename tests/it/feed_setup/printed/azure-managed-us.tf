# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  api://AzureADTokenExchangeUSGov

terraform {
  required_version = ">= 1.3"

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}

provider "azurerm" {
  environment = "usgovernment"
  tenant_id   = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c"

  features {}
}

variable "resource_group_name" {
  description = "The resource group that the managed identity is in, or is to be in."
  type        = string
}

variable "location" {
  description = "The managed identity's location."
  type        = string
}

# If there is one already: terraform import azurerm_user_assigned_identity.feed ITS_RESOURCE_ID
resource "azurerm_user_assigned_identity" "feed" {
  name                = "carnet-default-prod"
  resource_group_name = var.resource_group_name
  location            = var.location
}

resource "azurerm_federated_identity_credential" "feed" {
  name                = "carnet-prod-0a0b77865c0a4ac0"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.feed.id
  issuer              = "https://issuer.example"
  subject             = "space:default:feed:prod"
  audience            = ["api://AzureADTokenExchangeUSGov"]
}

locals {
  client_id    = azurerm_user_assigned_identity.feed.client_id
  principal_id = azurerm_user_assigned_identity.feed.principal_id
}

# Looked for in the subscription that azurerm is set to.
data "azurerm_resources" "registry" {
  type = "Microsoft.ContainerRegistry/registries"
  name = "images"
}

# Needs a registry in the mode "RBAC Registry + ABAC Repository Permissions".
resource "azurerm_role_assignment" "feed" {
  scope                = one(data.azurerm_resources.registry.resources[*].id)
  role_definition_name = "Container Registry Repository Writer"
  principal_id         = local.principal_id
  principal_type       = "ServicePrincipal"
  condition_version    = "2.0"
  condition            = "((!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}) AND !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'}) AND !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/write'}) AND !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/write'})) OR (@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'app/one' OR @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'app/two'))"
}

# What the feed must name: carnet feed update default/prod --client-id
output "client_id" {
  value = local.client_id
}
