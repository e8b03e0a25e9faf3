# Makes Google trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  //iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/prod

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

# Google keeps deleted pools and providers, and their names, for 30 days. Where one of this name is deleted, have it back by
# `gcloud iam workload-identity-pools undelete` or `gcloud iam workload-identity-pools providers undelete`, and take it
# into the state by `terraform import`. A pool that is not created here must not be disabled
# (`gcloud iam workload-identity-pools update NAME --no-disabled`).

# Whoever owns a provider in the pool can speak for every subject of it: it is for this issuer alone.
resource "google_iam_workload_identity_pool" "carnet" {
  count = var.create_pool ? 1 : 0

  project                   = "123456789012"
  workload_identity_pool_id = "carnet"
  display_name              = "carnet"
  disabled                  = false
}

# Lets this subject in and no other.
resource "google_iam_workload_identity_pool_provider" "feed" {
  project                            = "123456789012"
  workload_identity_pool_id          = "carnet"
  workload_identity_pool_provider_id = "prod"
  description                        = "carnet feed default/prod: Production"
  attribute_condition                = "assertion.sub == 'space:default:feed:prod'"
  disabled                           = false

  attribute_mapping = {
    "google.subject" = "assertion.sub"
  }

  oidc {
    issuer_uri = "https://issuer.example"
  }

  depends_on = [google_iam_workload_identity_pool.carnet]
}

resource "google_project_iam_member" "feed" {
  project = "123456789012"
  role    = "roles/artifactregistry.reader"
  member  = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/subject/space:default:feed:prod"
}
