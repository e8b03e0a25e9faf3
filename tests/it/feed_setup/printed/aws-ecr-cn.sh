#!/bin/sh
# Makes AWS trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example/carnet
#   subject   space:default:project:shop:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8
#   audience  https://audience.example
#
# Needs the AWS CLI, signed in with rights to change IAM. Running it again changes nothing but what differs from this.
(
set -eu
export AWS_REGION='cn-north-1' AWS_DEFAULT_REGION='cn-north-1' AWS_PAGER=''

account=$(aws sts get-caller-identity --query=Account --output=text)
if [ "$account" != '123456789012' ]; then
  echo "Signed in to account $account, and the role belongs to account" '123456789012' >&2
  exit 1
fi

# The provider. An account has one for an issuer, and all its feeds share it.
if audiences=$(aws iam get-open-id-connect-provider --open-id-connect-provider-arn='arn:aws-cn:iam::123456789012:oidc-provider/issuer.example/carnet' \
  --query=ClientIDList --output=text 2> /dev/null); then
  if ! printf '%s\n' "$audiences" | tr '\t' '\n' | grep -qxF -e 'https://audience.example'; then
    aws iam add-client-id-to-open-id-connect-provider --cli-input-json '{
  "OpenIDConnectProviderArn": "arn:aws-cn:iam::123456789012:oidc-provider/issuer.example/carnet",
  "ClientID": "https://audience.example"
}'
  fi
else
  aws iam create-open-id-connect-provider --cli-input-json '{
  "Url": "https://issuer.example/carnet",
  "ClientIDList": [
    "https://audience.example"
  ]
}' > /dev/null
fi

# The role, which only this subject may assume. A role that trusts something else is left alone.
if owner=$(aws iam get-role --role-name='push' --query='Role.Tags[?Key=='\''carnet:trust'\''].Value | [0]' --output=text 2> /dev/null); then
  if [ "$owner" != '98904282274ed02d' ]; then
    echo "There is a role" 'arn:aws-cn:iam::123456789012:role/ci/push' "that was not made for this issuer and subject." >&2
    echo "Look at its trust policy, which would be replaced. To go on, mark the role and run this again:" >&2
    echo "  " 'aws iam tag-role --role-name push --tags Key=carnet:trust,Value=98904282274ed02d' >&2
    exit 1
  fi
  aws iam update-assume-role-policy --role-name='push' --policy-document='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws-cn:iam::123456789012:oidc-provider/issuer.example/carnet"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity"
      ],
      "Condition": {
        "StringEquals": {
          "issuer.example/carnet:aud": "https://audience.example",
          "issuer.example/carnet:sub": "space:default:project:shop:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"
        }
      }
    }
  ]
}'
  aws iam update-role --cli-input-json '{
  "RoleName": "push",
  "Description": "carnet feed default/prod: Production",
  "MaxSessionDuration": 7200
}' > /dev/null
else
  aws iam create-role --cli-input-json '{
  "Path": "/ci/",
  "RoleName": "push",
  "Description": "carnet feed default/prod: Production",
  "MaxSessionDuration": 7200,
  "Tags": [
    {
      "Key": "carnet:trust",
      "Value": "98904282274ed02d"
    }
  ]
}' --assume-role-policy-document='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws-cn:iam::123456789012:oidc-provider/issuer.example/carnet"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity"
      ],
      "Condition": {
        "StringEquals": {
          "issuer.example/carnet:aud": "https://audience.example",
          "issuer.example/carnet:sub": "space:default:project:shop:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"
        }
      }
    }
  ]
}' > /dev/null
fi

# What the role may do.
aws iam put-role-policy --role-name='push' --policy-name='carnet-registry' --policy-document='{
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
        "ecr:CompleteLayerUpload",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:PutImage",
        "ecr:UploadLayerPart"
      ],
      "Resource": [
        "arn:aws-cn:ecr:cn-north-1:210987654321:repository/app/one",
        "arn:aws-cn:ecr:cn-north-1:210987654321:repository/app/two"
      ]
    }
  ]
}'

echo 'arn:aws-cn:iam::123456789012:role/ci/push'
)
