# Makes AWS trust tokens of one carnet feed, and of no other.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}

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
  region              = {{ region }}
  allowed_account_ids = {{ accounts }}
}

variable "create_oidc_provider" {
  description = "False where the account has a provider for this issuer: there is one an account, which all feeds share."
  type        = bool
  default     = true
}

resource "aws_iam_openid_connect_provider" "issuer" {
  count = var.create_oidc_provider ? 1 : 0

  url            = {{ url }}
  client_id_list = {{ client_ids }}
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = {{ provider_arns }}
    }
{%- for (key, values) in conditions %}

    condition {
      test     = "StringEquals"
      variable = {{ key }}
      values   = {{ values }}
    }
{%- endfor %}
  }
}

data "aws_iam_policy_document" "registry" {
{%- for statement in access %}
{%- if !loop.first %}
{% endif %}
  statement {
    actions = {{ statement.actions }}
    resources = [
{%- for resource in statement.resources %}
      {{ resource }},
{%- endfor %}
    ]
  }
{%- endfor %}
}

resource "aws_iam_role" "feed" {
  name                 = {{ name }}
  path                 = {{ path }}
  description          = {{ description }}
  max_session_duration = {{ max_session }}
  assume_role_policy   = data.aws_iam_policy_document.trust.json

  tags = {
    {{ tag_key }} = {{ tag }}
  }

  depends_on = [aws_iam_openid_connect_provider.issuer]
}

resource "aws_iam_role_policy" "registry" {
  name   = {{ policy_name }}
  role   = aws_iam_role.feed.name
  policy = data.aws_iam_policy_document.registry.json
}

output "role_arn" {
  value = aws_iam_role.feed.arn
}
