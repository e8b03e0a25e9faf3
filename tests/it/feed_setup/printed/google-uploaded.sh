#!/bin/sh
# Makes Google trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  one,audience
#
# Needs gcloud, signed in with rights to change IAM. Running it again changes nothing but what differs from this.
(
set -eu
export CLOUDSDK_CORE_DISABLE_PROMPTS=1

# gcloud wants the project's id where the provider's name has its number.
project=$(gcloud projects describe '123456789012' --format='value(projectId)')

# The pool. Whoever owns a provider in it can speak for every subject of it: it is for this issuer alone.
if state=$(gcloud iam workload-identity-pools describe 'carnet' --project="$project" --location=global \
  --format='value[separator="|"](state,disabled)' 2> /dev/null); then
  case "$state" in
    DELETED*)
      echo "The pool" 'carnet' "is deleted, and its name stays taken for 30 days. To have it back with its providers:" >&2
      echo "gcloud iam workload-identity-pools undelete" 'carnet' "--project=$project --location=global" >&2
      exit 1 ;;
    *[Tt]rue)
      echo "The pool" 'carnet' "is disabled. To enable it with all its providers:" >&2
      echo "gcloud iam workload-identity-pools update" 'carnet' "--project=$project --location=global --no-disabled" >&2
      exit 1 ;;
  esac
else
  gcloud iam workload-identity-pools create 'carnet' --project="$project" --location=global --display-name=carnet
fi

# The provider, which lets this subject in and no other. One that trusts something else is left alone.
do=create-oidc
if found=$(gcloud iam workload-identity-pools providers describe 'prod' --project="$project" \
  --location=global --workload-identity-pool='carnet' \
  --format='value[separator="|"](state,disabled,oidc.issuerUri,attributeCondition)' 2> /dev/null); then
  state=${found%%|*} found=${found#*|}
  disabled=${found%%|*} trusted=${found#*|}
  of="--project=$project --location=global --workload-identity-pool="'carnet'
  if [ "$state" = DELETED ]; then
    echo "The provider" 'prod' "is deleted, and its name stays taken for 30 days. To have it back:" >&2
    echo "gcloud iam workload-identity-pools providers undelete" 'prod' "$of" >&2
    echo "Then run this again. Or give the feed a provider of another name." >&2
    exit 1
  fi
  if [ "$trusted" != 'https://issuer.example|assertion.sub == '\''space:default:feed:prod'\''' ]; then
    echo "There is a provider" 'prod' "that trusts something else: $trusted" >&2
    echo "Give the feed a provider of its own. This one would have to trust:" 'https://issuer.example|assertion.sub == '\''space:default:feed:prod'\''' >&2
    exit 1
  fi
  case "$disabled" in
    [Tt]rue)
      echo "The provider" 'prod' "is disabled. To enable it, and then run this again:" >&2
      echo "gcloud iam workload-identity-pools providers update-oidc" 'prod' "$of --no-disabled" >&2
      exit 1 ;;
  esac
  do=update-oidc
fi
jwks=$(mktemp)
trap 'rm -f "$jwks"' EXIT
printf '%s\n' '{"keys":[{"kty":"EC","use":"sig","alg":"ES256","kid":"cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}' > "$jwks"
gcloud iam workload-identity-pools providers "$do" 'prod' --project="$project" --location=global \
  --workload-identity-pool='carnet' --description='carnet feed default/prod: Production' \
  --issuer-uri='https://issuer.example' --attribute-mapping='google.subject=assertion.sub' \
  --allowed-audiences='^;^one,audience' \
  --jwk-json-path="$jwks" \
  --attribute-condition='assertion.sub == '\''space:default:feed:prod'\'''

# The service account that the subject may act as.
if ! gcloud iam service-accounts describe 'push@my-project.iam.gserviceaccount.com' > /dev/null 2>&1; then
  gcloud iam service-accounts create 'push' --project='my-project' --display-name=carnet
fi
gcloud iam service-accounts add-iam-policy-binding 'push@my-project.iam.gserviceaccount.com' --condition=None \
  --role='roles/iam.workloadIdentityUser' --member='principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/subject/space:default:feed:prod' > /dev/null

# What it may do.
gcloud artifacts repositories add-iam-policy-binding 'images' --location='europe-west1' \
  --project="$project" --role='roles/artifactregistry.writer' --member='serviceAccount:push@my-project.iam.gserviceaccount.com' > /dev/null
gcloud artifacts repositories add-iam-policy-binding 'images' --location='europe-west1' \
  --project='other-project' --role='roles/artifactregistry.writer' --member='serviceAccount:push@my-project.iam.gserviceaccount.com' > /dev/null
)
