#!/bin/sh
# Makes AWS trust tokens of one carnet feed, and of no other.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}
#
# Needs the AWS CLI, signed in with rights to change IAM. Running it again changes only what differs from this.
(
set -eu
export AWS_REGION={{ region }} AWS_DEFAULT_REGION={{ region }} AWS_PAGER=''

account=$(aws sts get-caller-identity --query=Account --output=text)
if [ "$account" != {{ account }} ]; then
  echo "Signed in to account $account, and the role belongs to account" {{ account }} >&2
  exit 1
fi

# The provider. An account has one for each issuer, and all feeds share it.
if audiences=$(aws iam get-open-id-connect-provider --open-id-connect-provider-arn={{ provider_arn }} \
  --query=ClientIDList --output=text 2> /dev/null); then
  if ! printf '%s\n' "$audiences" | tr '\t' '\n' | grep -qxF -e {{ audience }}; then
    aws iam add-client-id-to-open-id-connect-provider --cli-input-json {{ client_id }}
  fi
else
  aws iam create-open-id-connect-provider --cli-input-json {{ provider }} > /dev/null
fi

# The role, which only this subject may assume. A role that trusts something else is not changed.
if owner=$(aws iam get-role --role-name={{ role_name }} --query={{ owner }} --output=text 2> /dev/null); then
  if [ "$owner" != {{ tag }} ]; then
    echo "There is a role" {{ role_arn }} "that was not made for this issuer and subject." >&2
    echo "This script would replace its trust policy: check that policy. To go on, mark the role and run this again:" >&2
    echo "  " {{ adopt }} >&2
    exit 1
  fi
  aws iam update-assume-role-policy --role-name={{ role_name }} --policy-document={{ trust }}
  aws iam update-role --cli-input-json {{ role_update }} > /dev/null
else
  aws iam create-role --cli-input-json {{ role }} --assume-role-policy-document={{ trust }} > /dev/null
fi

# The role's permissions.
aws iam put-role-policy --role-name={{ role_name }} --policy-name={{ policy_name }} --policy-document={{ access }}

echo {{ role_arn }}
)
