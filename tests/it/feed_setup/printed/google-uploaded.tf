# Makes Google trust tokens of one carnet feed, and of nobody else.
#
#   feed      default/prod
#   issuer    https://issuer.example
#   subject   space:default:feed:prod
#   audience  one,audience

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

    allowed_audiences = ["one,audience"]

    jwks_json = "{\"keys\":[{\"kty\":\"EC\",\"use\":\"sig\",\"alg\":\"ES256\",\"kid\":\"cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s\",\"crv\":\"P-256\",\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\",\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\"}]}"
  }

  depends_on = [google_iam_workload_identity_pool.carnet]
}

variable "create_service_account" {
  description = "False where the service account is there already."
  type        = bool
  default     = true
}

resource "google_service_account" "feed" {
  count = var.create_service_account ? 1 : 0

  project      = "my-project"
  account_id   = "push"
  display_name = "carnet"
}

# The subject may act as the service account.
resource "google_service_account_iam_member" "feed" {
  service_account_id = "projects/-/serviceAccounts/push@my-project.iam.gserviceaccount.com"
  role               = "roles/iam.workloadIdentityUser"
  member             = "principal://iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/carnet/subject/space:default:feed:prod"

  depends_on = [google_service_account.feed]
}

resource "google_artifact_registry_repository_iam_member" "feed_1" {
  project    = "123456789012"
  location   = "europe-west1"
  repository = "images"
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:push@my-project.iam.gserviceaccount.com"
}

resource "google_artifact_registry_repository_iam_member" "feed_2" {
  project    = "other-project"
  location   = "europe-west1"
  repository = "images"
  role       = "roles/artifactregistry.writer"
  member     = "serviceAccount:push@my-project.iam.gserviceaccount.com"
}
