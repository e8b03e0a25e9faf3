# Makes Google trust tokens of one carnet feed, and of no other.
#
#   feed      {{ trusted.feed }}
#   issuer    {{ trusted.issuer }}
#   subject   {{ trusted.subject }}
#   audience  {{ trusted.audience }}

terraform {
  required_version = ">= 1.3"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

variable "create_pool" {
  description = "False where the pool is there already: the feeds of one issuer may share one."
  type        = bool
  default     = true
}

# Google keeps deleted pools and providers, and their names, for 30 days. If one of this name is deleted, restore it with
# `gcloud iam workload-identity-pools undelete` or `gcloud iam workload-identity-pools providers undelete`, and take it
# into the state by `terraform import`. A pool that is not created here must not be disabled
# (`gcloud iam workload-identity-pools update NAME --no-disabled`).

# The owner of any provider in the pool can act as every subject of it, so use it for this issuer only.
resource "google_iam_workload_identity_pool" "carnet" {
  count = var.create_pool ? 1 : 0

  project                   = {{ project }}
  workload_identity_pool_id = {{ pool }}
  display_name              = "carnet"
  disabled                  = false
}

# Accepts only this subject.
resource "google_iam_workload_identity_pool_provider" "feed" {
  project                            = {{ project }}
  workload_identity_pool_id          = {{ pool }}
  workload_identity_pool_provider_id = {{ provider }}
  description                        = {{ description }}
  attribute_condition                = {{ condition }}
  disabled                           = false

  attribute_mapping = {
    {{ attribute }} = {{ assertion }}
  }

  oidc {
    issuer_uri = {{ issuer }}
{%- if let Some(audiences) = audiences %}

    allowed_audiences = {{ audiences }}
{%- endif %}
{%- if let Some(jwks) = jwks %}

    jwks_json = {{ jwks }}
{%- endif %}
  }

  depends_on = [google_iam_workload_identity_pool.carnet]
}
{%- if let Some(account) = account %}
{%- if let Some((name, account_project)) = account.parts %}

variable "create_service_account" {
  description = "False where the service account is there already."
  type        = bool
  default     = true
}

resource "google_service_account" "feed" {
  count = var.create_service_account ? 1 : 0

  project      = {{ account_project }}
  account_id   = {{ name }}
  display_name = "carnet"
}
{%- endif %}

# The subject may act as the service account.
resource "google_service_account_iam_member" "feed" {
  service_account_id = {{ account.id }}
  role               = {{ impersonation_role }}
  member             = {{ principal }}
{%- if account.parts.is_some() %}

  depends_on = [google_service_account.feed]
{%- endif %}
}
{%- endif %}
{%- for repository in repositories %}

resource "google_artifact_registry_repository_iam_member" "feed_{{ loop.index }}" {
  project    = {{ repository.project }}
  location   = {{ repository.location }}
  repository = {{ repository.name }}
  role       = {{ role }}
  member     = {{ member }}
}
{%- endfor %}
{%- if repositories.is_empty() %}

resource "google_project_iam_member" "feed" {
  project = {{ project }}
  role    = {{ role }}
  member  = {{ member }}
}
{%- endif %}
