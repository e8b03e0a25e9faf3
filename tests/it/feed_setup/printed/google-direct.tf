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

# Whoever owns a provider in the pool can speak for every subject of it: it is for this issuer alone.
resource "google_iam_workload_identity_pool" "carnet" {
  count = var.create_pool ? 1 : 0

  project                   = "123456789012"
  workload_identity_pool_id = "carnet"
  display_name              = "carnet"
}

# Lets this subject in and no other.
resource "google_iam_workload_identity_pool_provider" "feed" {
  project                            = "123456789012"
  workload_identity_pool_id          = "carnet"
  workload_identity_pool_provider_id = "prod"
  description                        = "carnet feed default/prod: Production"
  attribute_condition                = "assertion.sub == 'space:default:feed:prod'"

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
