# Makes AWS trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example/carnet
#   subject   space:default:project:shop:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8
#   audience  https://audience.example

terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.81"
    }
  }
}

provider "aws" {
  region              = "cn-north-1"
  allowed_account_ids = ["123456789012"]
}

variable "create_oidc_provider" {
  description = "False where the account has a provider for this issuer: there is one an account, which all feeds share."
  type        = bool
  default     = true
}

resource "aws_iam_openid_connect_provider" "issuer" {
  count = var.create_oidc_provider ? 1 : 0

  url            = "https://issuer.example/carnet"
  client_id_list = ["https://audience.example"]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:aws-cn:iam::123456789012:oidc-provider/issuer.example/carnet"]
    }

    condition {
      test     = "StringEquals"
      variable = "issuer.example/carnet:aud"
      values   = ["https://audience.example"]
    }

    condition {
      test     = "StringEquals"
      variable = "issuer.example/carnet:sub"
      values   = ["space:default:project:shop:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"]
    }
  }
}

data "aws_iam_policy_document" "registry" {
  statement {
    actions = ["ecr:GetAuthorizationToken"]
    resources = [
      "*",
    ]
  }

  statement {
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:CompleteLayerUpload", "ecr:GetDownloadUrlForLayer", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"]
    resources = [
      "arn:aws-cn:ecr:cn-north-1:210987654321:repository/app/one",
      "arn:aws-cn:ecr:cn-north-1:210987654321:repository/app/two",
    ]
  }
}

resource "aws_iam_role" "feed" {
  name                 = "push"
  path                 = "/ci/"
  description          = "carnet feed default/prod: Production"
  max_session_duration = 7200
  assume_role_policy   = data.aws_iam_policy_document.trust.json

  tags = {
    "carnet:trust" = "98904282274ed02d"
  }

  depends_on = [aws_iam_openid_connect_provider.issuer]
}

resource "aws_iam_role_policy" "registry" {
  name   = "carnet-registry"
  role   = aws_iam_role.feed.name
  policy = data.aws_iam_policy_document.registry.json
}

output "role_arn" {
  value = aws_iam_role.feed.arn
}
