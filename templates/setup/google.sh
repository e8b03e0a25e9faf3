#!/bin/sh
# Makes Google trust tokens of one carnet feed, and of nobody else.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}
#
# Needs gcloud, signed in with rights to change IAM. Running it again changes nothing but what differs from this.
(
set -eu
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# gcloud wants the project's id where the provider's name has its number.
project=$(gcloud projects describe {{ project_number }} --format='value(projectId)')

# The pool. Whoever owns a provider in it can speak for every subject of it: it is for this issuer alone.
if ! gcloud iam workload-identity-pools describe {{ pool }} --project="$project" --location=global > /dev/null 2>&1; then
  gcloud iam workload-identity-pools create {{ pool }} --project="$project" --location=global --display-name=carnet
fi

# The provider, which lets this subject in and no other. One that trusts something else is left alone.
do=create-oidc
if trusted=$(gcloud iam workload-identity-pools providers describe {{ provider }} --project="$project" \
  --location=global --workload-identity-pool={{ pool }} \
  --format='value[separator=" "](oidc.issuerUri,attributeCondition)' 2> /dev/null); then
  if [ "$trusted" != {{ found }} ]; then
    echo "There is a provider" {{ provider }} "that trusts something else: $trusted" >&2
    echo "Give the feed a provider of its own. This one would have to trust:" {{ found }} >&2
    exit 1
  fi
  do=update-oidc
fi
{%- if let Some(jwks) = jwks %}
jwks=$(mktemp)
trap 'rm -f "$jwks"' EXIT
printf '%s\n' {{ jwks }} > "$jwks"
{%- endif %}
gcloud iam workload-identity-pools providers "$do" {{ provider }} --project="$project" --location=global \
  --workload-identity-pool={{ pool }} --description={{ description }} \
  --issuer-uri={{ issuer }} --attribute-mapping={{ mapping }} \
{%- if let Some(audiences) = audiences %}
  --allowed-audiences={{ audiences }} \
{%- endif %}
{%- if jwks.is_some() %}
  --jwk-json-path="$jwks" \
{%- endif %}
  --attribute-condition={{ condition }}
{%- if let Some(account) = account %}

# The service account that the subject may act as.
{%- if let Some((name, account_project)) = account.parts %}
if ! gcloud iam service-accounts describe {{ account.email }} > /dev/null 2>&1; then
  gcloud iam service-accounts create {{ name }} --project={{ account_project }} --display-name=carnet
fi
{%- endif %}
gcloud iam service-accounts add-iam-policy-binding {{ account.email }} --condition=None \
  --role={{ impersonation_role }} --member={{ principal }} > /dev/null
{%- endif %}

# What it may do.
{%- for repository in repositories %}
gcloud artifacts repositories add-iam-policy-binding {{ repository.name }} --location={{ repository.location }} \
  --project={% if let Some(project) = repository.project %}{{ project }}{% else %}"$project"{% endif %} --role={{ role }} --member={{ member }} > /dev/null
{%- endfor %}
{%- if repositories.is_empty() %}
gcloud projects add-iam-policy-binding "$project" --condition=None \
  --role={{ role }} --member={{ member }} > /dev/null
{%- endif %}
)
