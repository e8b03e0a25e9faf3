#!/bin/sh
# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}
#
# Needs the Azure CLI, signed in to the registry's subscription. Running it again changes only what differs from
# this.
(
set -eu

cloud=$(az cloud show --query=name --output=tsv)
if [ "$cloud" != {{ cloud }} ]; then
  echo "The Azure CLI is set to $cloud. Run: az cloud set --name" {{ cloud }} >&2
  exit 1
fi
tenant=$(az account show --query=tenantId --output=tsv)
if [ "$tenant" != {{ tenant_id }} ]; then
  echo "Signed in to tenant $tenant. Run: az login --tenant" {{ tenant_id }} >&2
  exit 1
fi
registry=$(az acr show --name={{ registry }} --query=id --output=tsv)

{% if managed -%}
# The managed identity that the feed names by its client id.
identity=$(az identity list --query={{ by_client_id }} --output=tsv)
if [ -z "$identity" ]; then
  group=$(az acr show --name={{ registry }} --query=resourceGroup --output=tsv)
  client_id=$(az identity create --resource-group="$group" --name={{ identity_name }} --query=clientId --output=tsv)
  echo "The feed's client id is not that of a managed identity in this subscription, so one was created. Now run:" >&2
  echo "  carnet feed update" {{ feed }} "--client-id $client_id" >&2
  echo "and then carnet feed setup again." >&2
  exit 1
fi
name=$(az identity show --ids="$identity" --query=name --output=tsv)
group=$(az identity show --ids="$identity" --query=resourceGroup --output=tsv)
principal=$(az identity show --ids="$identity" --query=principalId --output=tsv)

# Its federated credential. A new one of the same name replaces the earlier one.
az identity federated-credential create --resource-group="$group" --identity-name="$name" \
  --name={{ credential_name }} --issuer={{ issuer }} \
  --subject={{ subject }} --audiences={{ audience }} > /dev/null
{%- else -%}
# The application that the feed names by its client id.
if ! az ad app show --id={{ client_id }} > /dev/null 2>&1; then
  client_id=$(az ad app create --display-name={{ identity_name }} --query=appId --output=tsv)
  echo "The feed's client id is not that of an application in this tenant, so one was created. Now run:" >&2
  echo "  carnet feed update" {{ feed }} "--client-id $client_id" >&2
  echo "and then carnet feed setup again." >&2
  exit 1
fi
if ! principal=$(az ad sp show --id={{ client_id }} --query=id --output=tsv 2> /dev/null); then
  principal=$(az ad sp create --id={{ client_id }} --query=id --output=tsv)
fi

# Its federated credential. One for another subject is deleted first: after an update, Entra may still use the earlier one.
do=create
if subject=$(az ad app federated-credential show --id={{ client_id }} --federated-credential-id={{ credential_name }} \
  --query=subject --output=tsv 2> /dev/null); then
  if [ "$subject" = {{ subject }} ]; then
    do=update
  else
    az ad app federated-credential delete --id={{ client_id }} --federated-credential-id={{ credential_name }} > /dev/null
  fi
fi
if [ "$do" = update ]; then
  az ad app federated-credential update --id={{ client_id }} --federated-credential-id={{ credential_name }} \
    --parameters={{ credential }} > /dev/null
else
  az ad app federated-credential create --id={{ client_id }} --parameters={{ credential }} > /dev/null
fi
{%- endif %}

# Its permissions. The registry's settings decide which roles have an effect.
mode=$(az acr show --name={{ registry }} --query=roleAssignmentMode --output=tsv)
{% if let Some(condition) = condition -%}
if [ "$mode" != 'AbacRepositoryPermissions' ]; then
  echo "The registry's role assignments cannot name repositories (its mode is $mode): leave off --repository, or change the mode." >&2
  exit 1
fi
az role assignment create --assignee-object-id="$principal" --assignee-principal-type=ServicePrincipal \
  --role={{ repository_role }} --scope="$registry" \
  --condition-version=2.0 --condition={{ condition }} > /dev/null
{%- else -%}
role={{ role }}
if [ "$mode" = 'AbacRepositoryPermissions' ]; then
  role={{ repository_role }}
fi
az role assignment create --assignee-object-id="$principal" --assignee-principal-type=ServicePrincipal \
  --role="$role" --scope="$registry" > /dev/null
{%- endif %}
)
