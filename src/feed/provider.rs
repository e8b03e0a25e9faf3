//! The properties of a feed that follow from the cloud behind its registry.

use std::time::Duration;

use super::endpoints::Endpoints;
use super::feed_type::Provider;
use super::google::{JwksSource, WorkloadIdentityProvider};
use super::registry_host::RegistryHost;
use super::scope::{Scope, ScopeError};
use super::{DEFAULT_TOKEN_LIFETIME, Feed, FeedError, azure, ecr_public, google};
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;

impl Provider {
    pub(super) fn default_audience(&self, registry: &RegistryHost, endpoints: &Endpoints) -> Audience {
        match self {
            Self::AwsEcr(_) | Self::AwsEcrPublic(_) => Audience::well_known("sts.amazonaws.com"),
            Self::AzureAcr(_) => Audience::well_known(azure::cloud(registry, endpoints).default_audience()),
            Self::GoogleArtifactRegistry(google) => google.workload_identity_provider.default_audience(),
        }
    }

    pub(super) fn default_algorithm(&self) -> Algorithm {
        match self {
            Self::AwsEcr(_) | Self::AwsEcrPublic(_) | Self::GoogleArtifactRegistry(_) => Algorithm::Es256,
            Self::AzureAcr(_) => Algorithm::Rs256,
        }
    }

    /// Returns the maximum length of a subject at the provider, in bytes, if the provider states one.
    #[must_use]
    pub fn subject_limit(&self) -> Option<usize> {
        match self {
            Self::AwsEcr(_) | Self::AwsEcrPublic(_) => None,
            Self::AzureAcr(_) => Some(azure::MAX_SUBJECT),
            Self::GoogleArtifactRegistry(_) => Some(google::MAX_SUBJECT),
        }
    }

    /// Checks that credentials of this type can be limited to `scope`.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] gives the reason why they cannot. [`Scope::everything`] is always possible.
    pub fn check_scope(&self, scope: &Scope) -> Result<(), ScopeError> {
        match self {
            _ if scope.is_everything() => Ok(()),
            Self::AwsEcr(_) => Ok(()),
            Self::AwsEcrPublic(_) => Err(ScopeError::EcrPublic),
            // Without repositories, the scope limits only the actions.
            Self::AzureAcr(_) if scope.repositories().is_some() => Ok(()),
            Self::AzureAcr(_) => Err(ScopeError::Azure),
            Self::GoogleArtifactRegistry(_) => Err(ScopeError::Google),
        }
    }

    /// Checks the rules of the feed's type.
    pub(super) fn check(&self, feed: &Feed) -> Result<(), FeedError> {
        let Feed { registry, endpoints, .. } = feed;
        match self {
            Self::AwsEcr(role) => role.check(registry, endpoints).map_err(FeedError::AwsEcr),
            Self::AwsEcrPublic(role) => {
                ecr_public::check(role, registry, endpoints).map_err(FeedError::AwsEcrPublic)
            }
            Self::AzureAcr(azure) => {
                azure.check(registry, endpoints, feed.alg, feed.token_lifetime).map_err(FeedError::AzureAcr)
            }
            Self::GoogleArtifactRegistry(google) => {
                let checked = google.check(registry, &feed.audience, endpoints, feed.token_lifetime);
                checked.map_err(FeedError::GoogleArtifactRegistry)
            }
        }
    }

    /// Returns whether a credential ends together with the token for which it was exchanged.
    #[must_use]
    pub fn ends_with_the_token(&self) -> bool {
        matches!(self, Self::GoogleArtifactRegistry(google) if google.service_account.is_none())
    }

    /// Returns the default lifetime of tokens. It is short, because a token is used at once. If the
    /// credential ends with the token, it is the longest that the policy and the provider allow.
    pub(super) fn default_token_lifetime(&self, max_token_lifetime: Duration) -> Duration {
        let longest =
            if self.ends_with_the_token() { google::MAX_TOKEN_LIFETIME } else { DEFAULT_TOKEN_LIFETIME };
        longest.min(max_token_lifetime)
    }

    /// Returns advice for a caller that needs a longer life than the feed's credentials have.
    #[must_use]
    pub fn longer_life(&self) -> &'static str {
        match self {
            Self::AwsEcr(_) | Self::AwsEcrPublic(_) => {
                "request a credential with less remaining life, or raise the feed's session_duration and the \
                 role's maximum session duration"
            }
            Self::AzureAcr(_) => {
                "request a credential with less remaining life: only the registry decides the lifetime of \
                 its refresh token"
            }
            Self::GoogleArtifactRegistry(google) if google.service_account.is_none() => {
                "request a credential with less remaining life, or raise the feed's token_lifetime, up to \
                 the key policy's max-token-lifetime: without a service account the credential ends with the \
                 token"
            }
            Self::GoogleArtifactRegistry(_) => {
                "request a credential with less remaining life, or raise the feed's lifetime; above 1h an \
                 organization policy must allow it"
            }
        }
    }

    /// Returns Google's provider to which the issuer's keys are uploaded, if they are.
    #[must_use]
    pub fn uploaded_to(&self) -> Option<&WorkloadIdentityProvider> {
        match self {
            Self::GoogleArtifactRegistry(google) if google.jwks == JwksSource::Uploaded => {
                Some(&google.workload_identity_provider)
            }
            _ => None,
        }
    }

    /// Returns the source of the issuer's keys for the cloud. Only Google supports an upload.
    #[must_use]
    pub fn jwks(&self) -> JwksSource {
        match self {
            Self::GoogleArtifactRegistry(google) => google.jwks,
            Self::AwsEcr(_) | Self::AwsEcrPublic(_) | Self::AzureAcr(_) => JwksSource::Fetched,
        }
    }
}
