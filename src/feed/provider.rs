//! The properties of a feed that follow from the cloud behind its registry.

use std::time::Duration;

use super::DEFAULT_TOKEN_LIFETIME;
use super::endpoints::Endpoints;
use super::feed_type::Provider;
use super::google::{JwksSource, WorkloadIdentityProvider};
use super::registry_host::RegistryHost;
use super::scope::{Scope, ScopeError};
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;

impl Provider {
    pub(super) fn default_audience(&self, registry: &RegistryHost, endpoints: &Endpoints) -> Audience {
        self.settings().default_audience(registry, endpoints)
    }

    pub(super) fn default_algorithm(&self) -> Algorithm {
        self.feed_type().declaration().algorithm
    }

    /// Returns the maximum length of a subject at the provider, in bytes, if the provider states one.
    #[must_use]
    pub fn subject_limit(&self) -> Option<usize> {
        self.feed_type().declaration().subject_limit
    }

    /// Checks that credentials of this type can be limited to `scope`.
    ///
    /// # Errors
    ///
    /// [`ScopeError`] gives the reason why they cannot. [`Scope::everything`] is always possible.
    pub fn check_scope(&self, scope: &Scope) -> Result<(), ScopeError> {
        if scope.is_everything() { Ok(()) } else { (self.feed_type().declaration().check_scope)(scope) }
    }

    /// Returns whether a credential ends together with the token for which it was exchanged.
    #[must_use]
    pub fn ends_with_the_token(&self) -> bool {
        self.settings().ends_with_the_token().is_some()
    }

    /// Returns the default lifetime of tokens. It is short, because a token is used at once. If the
    /// credential ends with the token, it is the longest that the policy and the provider allow.
    pub(super) fn default_token_lifetime(&self, max_token_lifetime: Duration) -> Duration {
        self.settings().ends_with_the_token().unwrap_or(DEFAULT_TOKEN_LIFETIME).min(max_token_lifetime)
    }

    /// Returns advice for a caller that needs a longer life than the feed's credentials have.
    #[must_use]
    pub fn longer_life(&self) -> &'static str {
        self.settings().longer_life()
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
            _ => JwksSource::Fetched,
        }
    }
}
