//! Exchanges a minted token for a registry credential.
//!
//! This module owns the requests to the clouds, one provider per file. It neither authorizes nor stores
//! anything: caching, retries and audit belong to its callers. Tokens, temporary credentials and passwords
//! never appear in its errors and logs.

pub mod address;
mod asked;
pub(crate) mod aws;
mod aws_ecr;
pub(crate) mod azure;
mod azure_acr;
mod error;
mod google_artifact_registry;
mod handed_on;
pub(crate) mod nudge;
pub mod proxy;
mod refusal;
pub mod transport;
mod upstream;

use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use tracing::Instrument as _;

#[cfg(feature = "server")]
pub(crate) use error::NO_PROVIDER;
#[cfg(feature = "server")]
pub(crate) use error::{Asked, unreachable};
pub use error::{ExchangeError, ExchangeFailure};
#[cfg(test)]
pub(crate) use upstream::MAX_TEXT;
#[cfg(feature = "server")]
pub(crate) use upstream::Redactor;
pub use upstream::{Step, Upstream};

use crate::feed::endpoints::Endpoints;
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::Scope;
use crate::feed::{Feed, Provider};
use crate::oidc::token::SignedToken;
use crate::values::clock::Clock;
use crate::values::secret::SecretString;
pub(crate) use asked::asked;
use aws::ecr::Ecr;
use transport::HttpTransport;

/// A credential with which a deployment logs in to a registry.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The registry that it is for.
    pub registry: RegistryHost,
    /// The secret that the registry accepts.
    pub secret: Secret,
    /// The time when the exchange began.
    pub issued_at: Timestamp,
    /// The time until which the credential is certainly valid: the earliest of `expiries`.
    pub expires_at: Timestamp,
    /// Every expiry that the provider stated during the exchange.
    pub expiries: Vec<StatedExpiry>,
}

/// The secret that a registry accepts: a login, or a bearer token.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A user name and a password, as `docker login` takes them.
    Password {
        /// User name of the login.
        username: String,
        /// Password of the login.
        password: SecretString,
    },
    /// A bearer token issued by the registry for some repositories. It is not a password: a client sends it
    /// unchanged (`Authorization: Bearer`) and requests no other token from a token endpoint.
    RegistryToken(SecretString),
}

impl Secret {
    /// Returns the size in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Password { username, password } => username.len() + password.reveal().len(),
            Self::RegistryToken(token) => token.reveal().len(),
        }
    }
}

impl Credential {
    /// Returns the user name, if the secret is a login.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        match &self.secret {
            Secret::Password { username, .. } => Some(username),
            Secret::RegistryToken(_) => None,
        }
    }

    /// Returns the password, if the secret is a login.
    #[must_use]
    pub fn password(&self) -> Option<&SecretString> {
        match &self.secret {
            Secret::Password { password, .. } => Some(password),
            Secret::RegistryToken(_) => None,
        }
    }

    /// Returns the bearer token, if the secret is one.
    #[must_use]
    pub fn registry_token(&self) -> Option<&SecretString> {
        match &self.secret {
            Secret::Password { .. } => None,
            Secret::RegistryToken(token) => Some(token),
        }
    }
}

/// An expiry, with the service that stated it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct StatedExpiry {
    /// The service: `sts`, `ecr`, `ecr-public`, `acr`, `acr-token`, `iamcredentials`.
    pub of: &'static str,
    /// The expiry.
    pub at: Timestamp,
}

/// The input of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeRequest<'a> {
    /// The feed whose registry the credential is for.
    pub feed: &'a Feed,
    /// A token that was minted for that feed.
    pub token: &'a SignedToken,
    /// The limits of the credential.
    pub scope: &'a Scope,
}

/// A callback that receives each step before its request is sent.
pub(crate) type OnStep<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// Exchanges a token for a credential of the feed's registry.
///
/// Makes one attempt, without retries. Never returns a credential that has expired by `clock`, or one that is
/// not limited as the scope requires.
///
/// # Errors
///
/// Returns the step that failed, with the provider's message; see [`ExchangeError`].
pub async fn exchange(
    transport: &dyn HttpTransport,
    request: ExchangeRequest<'_>,
    clock: &dyn Clock,
) -> Result<Credential, ExchangeError> {
    exchange_in_steps(transport, request, clock, &|_| {}).await
}

/// As [`exchange`], and calls `on_step` with each step before its request is sent.
pub(crate) async fn exchange_in_steps(
    transport: &dyn HttpTransport,
    request: ExchangeRequest<'_>,
    clock: &dyn Clock,
    on_step: OnStep<'_>,
) -> Result<Credential, ExchangeError> {
    let ExchangeRequest { feed, token, scope } = request;
    let call = Call { transport, token, clock, scope, endpoints: &feed.endpoints, on_step };
    if let Err(error) = feed.provider.check_scope(scope) {
        let step = Step { provider: feed.provider.feed_type().as_str(), name: "scope" };
        return Err(call.fail(step, ExchangeFailure::Scope(error)));
    }
    match &feed.provider {
        Provider::AwsEcr(role) => aws_ecr::exchange(&call, feed, role, Ecr::Private).await,
        Provider::AwsEcrPublic(role) => aws_ecr::exchange(&call, feed, role, Ecr::Public).await,
        Provider::AzureAcr(azure) => azure_acr::exchange(&call, feed, azure).await,
        Provider::GoogleArtifactRegistry(google) => {
            google_artifact_registry::exchange(&call, feed, google).await
        }
    }
}

/// The inputs that every step of one exchange needs.
pub(crate) struct Call<'a> {
    transport: &'a dyn HttpTransport,
    token: &'a SignedToken,
    clock: &'a dyn Clock,
    /// The scope, already accepted by [`Provider::check_scope`].
    scope: &'a Scope,
    /// The endpoints that the feed names.
    endpoints: &'a Endpoints,
    on_step: OnStep<'a>,
}

impl Call<'_> {
    /// Sends a step's request. Fails only if there is no response; its status is not checked.
    async fn send(&self, step: Step, request: Request<Bytes>) -> Result<Response<Bytes>, ExchangeError> {
        (self.on_step)(step);
        let span =
            tracing::info_span!("step", provider = step.provider, step = step.name, jti = %self.token.jti);
        let response = self.transport.send(request).instrument(span).await;
        match &response {
            Ok(response) => {
                tracing::debug!(step = step.name, status = response.status().as_u16(), jti = %self.token.jti, "answered");
            }
            Err(error) => {
                tracing::debug!(step = step.name, error = %error, jti = %self.token.jti, "no answer");
            }
        }
        response.map_err(|source| {
            let upstream = Upstream::silent(step, source.description());
            self.fail(step, ExchangeFailure::Unreachable { upstream, source })
        })
    }

    /// Fails if `expires_at` has passed.
    fn unexpired(&self, step: Step, expires_at: Timestamp) -> Result<(), ExchangeError> {
        if expires_at > self.clock.now() {
            return Ok(());
        }
        Err(self.fail(step, ExchangeFailure::ArrivedExpired { expired_at: expires_at }))
    }

    fn fail(&self, step: Step, failure: ExchangeFailure) -> ExchangeError {
        ExchangeError::new(step, &self.token.presented, self.endpoints, failure)
    }
}

#[cfg(test)]
mod tests;
