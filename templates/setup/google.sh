#!/bin/sh
# Makes Google trust tokens of one carnet feed, and of no other.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}
#
# Needs gcloud, signed in with rights to change IAM. Running it again changes only what differs from this.
(
set -eu
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# gcloud needs the project's id; the provider's name has its number.
project=$(gcloud projects describe {{ project_number }} --format='value(projectId)')

# The pool. The owner of any provider in it can act as every subject of it, so use it for this issuer only.
if state=$(gcloud iam workload-identity-pools describe {{ pool }} --project="$project" --location=global \
  --format='value[separator="|"](state,disabled)' 2> /dev/null); then
  case "$state" in
    DELETED*)
      echo "The pool" {{ pool }} "is deleted, and its name cannot be reused for 30 days. To restore it with its providers, run:" >&2
      echo "gcloud iam workload-identity-pools undelete" {{ pool }} "--project=$project --location=global" >&2
      exit 1 ;;
    *[Tt]rue)
      echo "The pool" {{ pool }} "is disabled. To enable it with all its providers, run:" >&2
      echo "gcloud iam workload-identity-pools update" {{ pool }} "--project=$project --location=global --no-disabled" >&2
      exit 1 ;;
  esac
else
  gcloud iam workload-identity-pools create {{ pool }} --project="$project" --location=global --display-name=carnet
fi

# The provider, which accepts only this subject. One that trusts something else is not changed.
do=create-oidc
if found=$(gcloud iam workload-identity-pools providers describe {{ provider }} --project="$project" \
  --location=global --workload-identity-pool={{ pool }} \
  --format='value[separator="|"](state,disabled,oidc.issuerUri,attributeCondition)' 2> /dev/null); then
  state=${found%%|*} found=${found#*|}
  disabled=${found%%|*} trusted=${found#*|}
  of="--project=$project --location=global --workload-identity-pool="{{ pool }}
  if [ "$state" = DELETED ]; then
    echo "The provider" {{ provider }} "is deleted, and its name cannot be reused for 30 days. To restore it, run:" >&2
    echo "gcloud iam workload-identity-pools providers undelete" {{ provider }} "$of" >&2
    echo "Then run this script again. Or give the feed a provider with another name." >&2
    exit 1
  fi
  if [ "$trusted" != {{ found }} ]; then
    echo "There is a provider" {{ provider }} "that trusts something else: $trusted" >&2
    echo "Give the feed a provider of its own. For this feed, it would have to trust:" {{ found }} >&2
    exit 1
  fi
  case "$disabled" in
    [Tt]rue)
      echo "The provider" {{ provider }} "is disabled. Enable it, then run this script again:" >&2
      echo "gcloud iam workload-identity-pools providers update-oidc" {{ provider }} "$of --no-disabled" >&2
      exit 1 ;;
  esac
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

# The service account as which the subject may act.
{%- if let Some((name, account_project)) = account.parts %}
if ! gcloud iam service-accounts describe {{ account.email }} > /dev/null 2>&1; then
  gcloud iam service-accounts create {{ name }} --project={{ account_project }} --display-name=carnet
fi
{%- endif %}
gcloud iam service-accounts add-iam-policy-binding {{ account.email }} --condition=None \
  --role={{ impersonation_role }} --member={{ principal }} > /dev/null
{%- endif %}

# Its permissions.
{%- for repository in repositories %}
gcloud artifacts repositories add-iam-policy-binding {{ repository.name }} --location={{ repository.location }} \
  --project={% if let Some(project) = repository.project %}{{ project }}{% else %}"$project"{% endif %} --role={{ role }} --member={{ member }} > /dev/null
{%- endfor %}
{%- if repositories.is_empty() %}
gcloud projects add-iam-policy-binding "$project" --condition=None \
  --role={{ role }} --member={{ member }} > /dev/null
{%- endif %}
)
