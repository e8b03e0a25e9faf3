#!/bin/sh
# Makes Entra trust tokens of one carnet feed, and lets the identity behind it use the registry.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  api://AzureADTokenExchange
#
# Needs the Azure CLI, signed in to the registry's subscription. Running it again changes nothing but what differs from
# this.
(
set -eu

cloud=$(az cloud show --query=name --output=tsv)
if [ "$cloud" != 'AzureCloud' ]; then
  echo "The Azure CLI is set to $cloud. Run: az cloud set --name" 'AzureCloud' >&2
  exit 1
fi
tenant=$(az account show --query=tenantId --output=tsv)
if [ "$tenant" != '8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c' ]; then
  echo "Signed in to tenant $tenant. Run: az login --tenant" '8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c' >&2
  exit 1
fi
registry=$(az acr show --name='images' --query=id --output=tsv)

# The application that the feed names by its client id.
if ! az ad app show --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' > /dev/null 2>&1; then
  client_id=$(az ad app create --display-name='carnet-default-prod' --query=appId --output=tsv)
  echo "The feed's client id is no application of this tenant, so that one was made. Run now:" >&2
  echo "  carnet feed update" 'default/prod' "--client-id $client_id" >&2
  echo "and then carnet feed setup again." >&2
  exit 1
fi
if ! principal=$(az ad sp show --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --query=id --output=tsv 2> /dev/null); then
  principal=$(az ad sp create --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --query=id --output=tsv)
fi

# What it trusts. One of another subject is removed first: after a change in place, Entra may go on with the earlier one.
do=create
if subject=$(az ad app federated-credential show --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --federated-credential-id='carnet-prod-0a0b77865c0a4ac0' \
  --query=subject --output=tsv 2> /dev/null); then
  if [ "$subject" = 'space:default:feed:prod' ]; then
    do=update
  else
    az ad app federated-credential delete --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --federated-credential-id='carnet-prod-0a0b77865c0a4ac0' > /dev/null
  fi
fi
if [ "$do" = update ]; then
  az ad app federated-credential update --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --federated-credential-id='carnet-prod-0a0b77865c0a4ac0' \
    --parameters='{
  "name": "carnet-prod-0a0b77865c0a4ac0",
  "issuer": "https://issuer.example",
  "subject": "space:default:feed:prod",
  "audiences": [
    "api://AzureADTokenExchange"
  ],
  "description": "carnet feed default/prod: Production"
}' > /dev/null
else
  az ad app federated-credential create --id='0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e' --parameters='{
  "name": "carnet-prod-0a0b77865c0a4ac0",
  "issuer": "https://issuer.example",
  "subject": "space:default:feed:prod",
  "audiences": [
    "api://AzureADTokenExchange"
  ],
  "description": "carnet feed default/prod: Production"
}' > /dev/null
fi

# What it may do. Which roles count is the registry's own setting.
mode=$(az acr show --name='images' --query=roleAssignmentMode --output=tsv)
role='AcrPull'
if [ "$mode" = 'AbacRepositoryPermissions' ]; then
  role='Container Registry Repository Reader'
fi
az role assignment create --assignee-object-id="$principal" --assignee-principal-type=ServicePrincipal \
  --role="$role" --scope="$registry" > /dev/null
)
