# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}

terraform {
  required_version = ">= 1.3"

  required_providers {
{%- if !managed %}
    azuread = {
      source  = "hashicorp/azuread"
      version = "~> 3.0"
    }
{%- endif %}
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.0"
    }
  }
}
{%- if !managed %}

provider "azuread" {
  environment = {{ azuread_environment }}
  tenant_id   = {{ tenant_id }}
}
{%- endif %}

provider "azurerm" {
  environment = {{ azurerm_environment }}
  tenant_id   = {{ tenant_id }}

  features {}
}

{% if managed -%}
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
  name                = {{ identity_name }}
  resource_group_name = var.resource_group_name
  location            = var.location
}

resource "azurerm_federated_identity_credential" "feed" {
  name                = {{ credential_name }}
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.feed.id
  issuer              = {{ issuer }}
  subject             = {{ subject }}
  audience            = {{ audiences }}
}

locals {
  client_id    = azurerm_user_assigned_identity.feed.client_id
  principal_id = azurerm_user_assigned_identity.feed.principal_id
}
{%- else -%}
variable "client_id" {
  description = "The client id of the application that the feed names; empty to make one."
  type        = string
  default     = {{ client_id }}
}

resource "azuread_application" "feed" {
  count = var.client_id == "" ? 1 : 0

  display_name = {{ identity_name }}
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
  display_name   = {{ credential_name }}
  description    = {{ description }}
  issuer         = {{ issuer }}
  subject        = {{ subject }}
  audiences      = {{ audiences }}
}

locals {
  client_id    = one(concat(azuread_application.feed[*].client_id, data.azuread_application.feed[*].client_id))
  principal_id = azuread_service_principal.feed.object_id
}
{%- endif %}

# Searched in the subscription that azurerm is configured for.
data "azurerm_resources" "registry" {
  type = "Microsoft.ContainerRegistry/registries"
  name = {{ registry }}
}

{% if let Some(condition) = condition -%}
# Needs a registry in the mode "RBAC Registry + ABAC Repository Permissions".
resource "azurerm_role_assignment" "feed" {
  scope                = one(data.azurerm_resources.registry.resources[*].id)
  role_definition_name = {{ repository_role }}
  principal_id         = local.principal_id
  principal_type       = "ServicePrincipal"
  condition_version    = "2.0"
  condition            = {{ condition }}
}
{%- else -%}
variable "repository_permissions" {
  description = "True for a registry in the mode \"RBAC Registry + ABAC Repository Permissions\"."
  type        = bool
  default     = false
}

resource "azurerm_role_assignment" "feed" {
  scope                = one(data.azurerm_resources.registry.resources[*].id)
  role_definition_name = var.repository_permissions ? {{ repository_role }} : {{ role }}
  principal_id         = local.principal_id
  principal_type       = "ServicePrincipal"
}
{%- endif %}

# The id that the feed must have: carnet feed update {{ trusted.feed }} --client-id
output "client_id" {
  value = local.client_id
}
