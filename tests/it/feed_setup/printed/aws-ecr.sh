#!/bin/sh
# Makes AWS trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  sts.amazonaws.com
#
# Needs the AWS CLI, signed in with rights to change IAM. Running it again changes nothing but what differs from this.
(
set -eu
export AWS_REGION='eu-central-1' AWS_DEFAULT_REGION='eu-central-1' AWS_PAGER=''

account=$(aws sts get-caller-identity --query=Account --output=text)
if [ "$account" != '123456789012' ]; then
  echo "Signed in to account $account, and the role belongs to account" '123456789012' >&2
  exit 1
fi

# The provider. An account has one for an issuer, and all its feeds share it.
if audiences=$(aws iam get-open-id-connect-provider --open-id-connect-provider-arn='arn:aws:iam::123456789012:oidc-provider/issuer.example' \
  --query=ClientIDList --output=text 2> /dev/null); then
  if ! printf '%s\n' "$audiences" | tr '\t' '\n' | grep -qxF -e 'sts.amazonaws.com'; then
    aws iam add-client-id-to-open-id-connect-provider --cli-input-json '{
  "OpenIDConnectProviderArn": "arn:aws:iam::123456789012:oidc-provider/issuer.example",
  "ClientID": "sts.amazonaws.com"
}'
  fi
else
  aws iam create-open-id-connect-provider --cli-input-json '{
  "Url": "https://issuer.example",
  "ClientIDList": [
    "sts.amazonaws.com"
  ]
}' > /dev/null
fi

# The role, which only this subject may assume. A role that trusts something else is left alone.
if owner=$(aws iam get-role --role-name='carnet-pull' --query='Role.Tags[?Key=='\''carnet:trust'\''].Value | [0]' --output=text 2> /dev/null); then
  if [ "$owner" != '0a0b77865c0a4ac0' ]; then
    echo "There is a role" 'arn:aws:iam::123456789012:role/carnet-pull' "that was not made for this issuer and subject." >&2
    echo "Look at its trust policy, which would be replaced. To go on, mark the role and run this again:" >&2
    echo "  " 'aws iam tag-role --role-name carnet-pull --tags Key=carnet:trust,Value=0a0b77865c0a4ac0' >&2
    exit 1
  fi
  aws iam update-assume-role-policy --role-name='carnet-pull' --policy-document='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws:iam::123456789012:oidc-provider/issuer.example"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity"
      ],
      "Condition": {
        "StringEquals": {
          "issuer.example:aud": "sts.amazonaws.com",
          "issuer.example:sub": "space:default:feed:prod"
        }
      }
    }
  ]
}'
  aws iam update-role --cli-input-json '{
  "RoleName": "carnet-pull",
  "Description": "carnet feed default/prod: Production",
  "MaxSessionDuration": 3600
}' > /dev/null
else
  aws iam create-role --cli-input-json '{
  "Path": "/",
  "RoleName": "carnet-pull",
  "Description": "carnet feed default/prod: Production",
  "MaxSessionDuration": 3600,
  "Tags": [
    {
      "Key": "carnet:trust",
      "Value": "0a0b77865c0a4ac0"
    }
  ]
}' --assume-role-policy-document='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws:iam::123456789012:oidc-provider/issuer.example"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity"
      ],
      "Condition": {
        "StringEquals": {
          "issuer.example:aud": "sts.amazonaws.com",
          "issuer.example:sub": "space:default:feed:prod"
        }
      }
    }
  ]
}' > /dev/null
fi

# What the role may do.
aws iam put-role-policy --role-name='carnet-pull' --policy-name='carnet-registry' --policy-document='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": [
        "ecr:GetAuthorizationToken"
      ],
      "Resource": [
        "*"
      ]
    },
    {
      "Effect": "Allow",
      "Action": [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer"
      ],
      "Resource": [
        "arn:aws:ecr:eu-central-1:123456789012:repository/*"
      ]
    }
  ]
}'

echo 'arn:aws:iam::123456789012:role/carnet-pull'
)
