# Makes AWS trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  sts.amazonaws.com

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
  region              = "eu-central-1"
  allowed_account_ids = ["123456789012"]
}

variable "create_oidc_provider" {
  description = "False where the account has a provider for this issuer: there is one an account, which all feeds share."
  type        = bool
  default     = true
}

resource "aws_iam_openid_connect_provider" "issuer" {
  count = var.create_oidc_provider ? 1 : 0

  url            = "https://issuer.example"
  client_id_list = ["sts.amazonaws.com"]
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:aws:iam::123456789012:oidc-provider/issuer.example"]
    }

    condition {
      test     = "StringEquals"
      variable = "issuer.example:aud"
      values   = ["sts.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "issuer.example:sub"
      values   = ["space:default:feed:prod"]
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
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [
      "arn:aws:ecr:eu-central-1:123456789012:repository/*",
    ]
  }
}

resource "aws_iam_role" "feed" {
  name                 = "carnet-pull"
  path                 = "/"
  description          = "carnet feed default/prod: Production"
  max_session_duration = 3600
  assume_role_policy   = data.aws_iam_policy_document.trust.json

  tags = {
    "carnet:trust" = "0a0b77865c0a4ac0"
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
