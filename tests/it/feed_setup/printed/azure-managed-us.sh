#!/bin/sh
# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  api://AzureADTokenExchangeUSGov
#
# Needs the Azure CLI, signed in to the registry's subscription. Running it again changes nothing but what differs from
# this.
(
set -eu

cloud=$(az cloud show --query=name --output=tsv)
if [ "$cloud" != 'AzureUSGovernment' ]; then
  echo "The Azure CLI is set to $cloud. Run: az cloud set --name" 'AzureUSGovernment' >&2
  exit 1
fi
tenant=$(az account show --query=tenantId --output=tsv)
if [ "$tenant" != '8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c' ]; then
  echo "Signed in to tenant $tenant. Run: az login --tenant" '8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c' >&2
  exit 1
fi
registry=$(az acr show --name='images' --query=id --output=tsv)

# The managed identity that the feed names by its client id.
identity=$(az identity list --query='[?clientId=='\''0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e'\''].id' --output=tsv)
if [ -z "$identity" ]; then
  group=$(az acr show --name='images' --query=resourceGroup --output=tsv)
  client_id=$(az identity create --resource-group="$group" --name='carnet-default-prod' --query=clientId --output=tsv)
  echo "The feed's client id is no managed identity of this subscription, so that one was made. Run now:" >&2
  echo "  carnet feed update" 'default/prod' "--client-id $client_id" >&2
  echo "and then carnet feed setup again." >&2
  exit 1
fi
name=$(az identity show --ids="$identity" --query=name --output=tsv)
group=$(az identity show --ids="$identity" --query=resourceGroup --output=tsv)
principal=$(az identity show --ids="$identity" --query=principalId --output=tsv)

# What it trusts. Made anew under its name, it replaces the earlier one.
az identity federated-credential create --resource-group="$group" --identity-name="$name" \
  --name='carnet-prod-0a0b77865c0a4ac0' --issuer='https://issuer.example' \
  --subject='space:default:feed:prod' --audiences='api://AzureADTokenExchangeUSGov' > /dev/null

# What it may do. Which roles count is the registry's own setting.
mode=$(az acr show --name='images' --query=roleAssignmentMode --output=tsv)
if [ "$mode" != 'AbacRepositoryPermissions' ]; then
  echo "The registry's roles are not about repositories (its mode is $mode): leave off --repository, or change the mode." >&2
  exit 1
fi
az role assignment create --assignee-object-id="$principal" --assignee-principal-type=ServicePrincipal \
  --role='Container Registry Repository Writer' --scope="$registry" \
  --condition-version=2.0 --condition='((!(ActionMatches{'\''Microsoft.ContainerRegistry/registries/repositories/content/read'\''}) AND !(ActionMatches{'\''Microsoft.ContainerRegistry/registries/repositories/metadata/read'\''}) AND !(ActionMatches{'\''Microsoft.ContainerRegistry/registries/repositories/content/write'\''}) AND !(ActionMatches{'\''Microsoft.ContainerRegistry/registries/repositories/metadata/write'\''})) OR (@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase '\''app/one'\'' OR @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase '\''app/two'\''))' > /dev/null
)
