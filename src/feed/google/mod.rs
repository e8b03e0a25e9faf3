//! The settings of a feed for Google's registries: the workload identity provider that trusts the issuer, an
//! optional service account to impersonate, and the rules between these, the registry and the overridden
//! endpoints.

mod jwks_source;
mod provider_name;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feed::declaration::{Field, FieldValue, KnownRegistry, Settings, Shape, TypeDeclaration};
use crate::feed::endpoints::{Endpoints, EndpointsError};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::ScopeError;
use crate::feed::{Feed, MIN_REMAINING};
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::oidc::claims::BACKDATE;
use crate::values::duration;
use crate::values::excerpt::excerpt;

pub use jwks_source::JwksSource;
pub use provider_name::WorkloadIdentityProvider;

/// The endpoints that a Google feed can override.
pub const ENDPOINT_NAMES: &[&str] = &["sts", "iamcredentials"];

/// The maximum length of `google.subject`, and therefore of `sub`, in bytes.
pub const MAX_SUBJECT: usize = 127;

/// The maximum time between a token's `iat` and its `exp`.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// The user name of every login with an access token.
pub const USERNAME: &str = "oauth2accesstoken";

/// The settings of a feed of type `google-artifact-registry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoogleArtifactRegistry {
    /// The provider, in a workload identity pool, that trusts the issuer.
    pub workload_identity_provider: WorkloadIdentityProvider,
    /// The service account to impersonate. Without one, the token's subject has access itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
    /// The requested lifetime of the service account's token. Without a service account, Google decides
    /// alone.
    #[serde(default)]
    pub lifetime: AccessTokenLifetime,
    /// The way in which Google gets the issuer's keys.
    #[serde(default)]
    pub jwks: JwksSource,
}

/// The type `google-artifact-registry`.
pub const DECLARATION: TypeDeclaration = TypeDeclaration {
    about: "Google Artifact Registry (and Container Registry)",
    registry: KnownRegistry::Such("europe-west1-docker.pkg.dev"),
    fields: &[
        Field::required::<WorkloadIdentityProvider>(
            "workload_identity_provider",
            "workload identity provider",
            "The provider that trusts this issuer, projects/…/providers/…, with or without its host in front",
        ),
        Field::optional::<ServiceAccount>(
            "service_account",
            "service account",
            "The service account to impersonate",
            "none; the subject itself has access",
            "Impersonate no service account",
        ),
        Field::with_default::<AccessTokenLifetime>(
            "lifetime",
            "lifetime",
            "The lifetime of the service account's token, up to 1h, or 12h if an organization policy allows \
             it",
        )
        .only_with("service_account"),
        Field::with_default::<JwksSource>(
            "jwks",
            "JWKS",
            "The source of the issuer's keys: fetched by Google or uploaded; with an uploaded JWKS, scheduled \
             rotation waits for `feed confirm-jwks`",
        ),
    ],
    endpoints: ENDPOINT_NAMES,
    algorithm: Algorithm::Es256,
    subject_limit: Some(MAX_SUBJECT),
    check_scope: |_| Err(ScopeError::Google),
};

/// The rules of the type `google-artifact-registry`.
pub type RuleError = GoogleError;

pub(super) fn check_feed(google: &GoogleArtifactRegistry, feed: &Feed) -> Result<(), RuleError> {
    google.check(&feed.registry, &feed.audience, &feed.endpoints, feed.token_lifetime)
}

impl Settings for GoogleArtifactRegistry {
    fn default_audience(&self, _: &RegistryHost, _: &Endpoints) -> Audience {
        self.workload_identity_provider.default_audience()
    }

    fn ends_with_the_token(&self) -> Option<Duration> {
        self.service_account.is_none().then_some(MAX_TOKEN_LIFETIME)
    }

    fn longer_life(&self) -> &'static str {
        if self.service_account.is_none() {
            "request a credential with less remaining life, or raise the feed's token_lifetime, up to the key \
             policy's max-token-lifetime: without a service account the credential ends with the token"
        } else {
            "request a credential with less remaining life, or raise the feed's lifetime; above 1h an organization \
             policy must allow it"
        }
    }
}

impl GoogleArtifactRegistry {
    /// Checks the provider, the registry, the audience and the overrides against each other. Returns the
    /// first rule that is broken.
    pub fn check(
        &self,
        registry: &RegistryHost,
        audience: &Audience,
        endpoints: &Endpoints,
        token_lifetime: Duration,
    ) -> Result<(), GoogleError> {
        endpoints.allow_only(ENDPOINT_NAMES)?;
        if token_lifetime > MAX_TOKEN_LIFETIME {
            return Err(GoogleError::TokenLifetime { given: token_lifetime.as_secs() });
        }
        match &self.service_account {
            // A credential that ends with its token must keep half of its life even after the backdating of
            // `iat`.
            None if token_lifetime <= BACKDATE * 2 => {
                return Err(GoogleError::ShortToken { given: token_lifetime.as_secs() });
            }
            Some(_) if Duration::from_secs(self.lifetime.as_secs().into()) <= MIN_REMAINING => {
                return Err(GoogleError::ShortLifetime { given: self.lifetime.as_secs() });
            }
            _ => {}
        }
        let own = &self.workload_identity_provider;
        if own.is_of_another_provider(audience) {
            return Err(GoogleError::Audience { given: audience.clone(), own: own.full_name() });
        }
        if is_google_registry(registry) {
            return Ok(());
        }
        let needed = if self.service_account.is_some() { ENDPOINT_NAMES } else { &ENDPOINT_NAMES[..1] };
        match needed.iter().find(|name| endpoints.get(name).is_none()) {
            Some(missing) => Err(GoogleError::Endpoint { registry: registry.clone(), missing }),
            None => Ok(()),
        }
    }
}

/// The settings of a `google-artifact-registry` feed contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GoogleError {
    /// A Google feed does not have this endpoint.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// Google refuses tokens with so long a lifetime.
    #[error("token_lifetime: Google accepts tokens of at most 24 h; {given} s is too long")]
    TokenLifetime {
        /// The given lifetime, in seconds.
        given: u64,
    },
    /// The token's credential would have too little of its life left to be handed out.
    #[error(
        "token_lifetime: without a service account the credential ends with the token, and no credential of \
         {given} s can be handed out; use at least 11 s, or name a service_account"
    )]
    ShortToken {
        /// The given lifetime, in seconds.
        given: u64,
    },
    /// The service account's token could never be handed out.
    #[error(
        "lifetime: a credential of {given} s would never be handed out, because carnet hands out none with \
         less than 5 minutes left; use more than 300 s"
    )]
    ShortLifetime {
        /// The given lifetime, in seconds.
        given: u32,
    },
    /// The audience names a provider other than this feed's.
    #[error(
        "audience: {given} and workload_identity_provider name different providers; leave the audience off, \
         or give {own}, or a custom audience that the provider allows"
    )]
    Audience {
        /// The given audience.
        given: Audience,
        /// The full name of the feed's own provider.
        own: String,
    },
    /// The registry's name does not reveal the API hosts, and an override is missing.
    #[error(
        "registry: {registry} is not one of Google's, which are gcr.io, NAME.gcr.io, LOCATION-docker.pkg.dev and \
         docker.LOCATION.rep.pkg.dev; of any other registry the endpoint {missing} must be given too"
    )]
    Endpoint {
        /// The registry.
        registry: RegistryHost,
        /// The first endpoint that is not overridden.
        missing: &'static str,
    },
}

/// Returns whether this is a registry of Google's: exactly `gcr.io`, `NAME.gcr.io`, `LOCATION-docker.pkg.dev`
/// or its regional endpoint `docker.LOCATION.rep.pkg.dev`, without a port. `NAME` and `LOCATION` are a single
/// label each.
#[must_use]
pub fn is_google_registry(registry: &RegistryHost) -> bool {
    if registry.port().is_some() {
        return false;
    }
    let host = registry.host();
    let one_label = |suffix: &str| {
        host.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.'))
    };
    let is_regional = host
        .strip_prefix("docker.")
        .and_then(|rest| rest.strip_suffix(".rep.pkg.dev"))
        .is_some_and(|location| !location.is_empty() && !location.contains('.'));
    host == "gcr.io" || one_label(".gcr.io") || one_label("-docker.pkg.dev") || is_regional
}

/// The e-mail address of a service account, such as `pull@project.iam.gserviceaccount.com`.
///
/// It becomes a segment of a URL, so it contains no character that needs escaping.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceAccount(String);

/// A text is not a [`ServiceAccount`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value} is not the e-mail address of a service account: write NAME@PROJECT.iam.gserviceaccount.com, in lower case"
)]
pub struct ServiceAccountError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
}

impl ServiceAccount {
    /// Returns the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the account's name and the id of its project, if the address is built from them. The accounts
    /// of services are not.
    #[must_use]
    pub fn name_and_project(&self) -> Option<(&str, &str)> {
        let (name, domain) = self.0.split_once('@')?;
        let project = domain.strip_suffix(".iam.gserviceaccount.com")?;
        // A project with a dot is domain-scoped; its id is written in another form.
        (!project.contains('.')).then_some((name, project))
    }
}

impl FieldValue for ServiceAccount {
    const VALUE_NAME: &'static str = "EMAIL";
    const SHAPE: Shape = Shape::Text {
        pattern: r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+gserviceaccount\.com$",
        min: 1,
        max: 254,
    };
}

impl FromStr for ServiceAccount {
    type Err = ServiceAccountError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        if is_service_account(value) {
            Ok(Self(value.to_owned()))
        } else {
            Err(ServiceAccountError { value: excerpt(value) })
        }
    }
}

/// Returns whether the text is `NAME@` and a domain below Google's own. The default accounts of services have
/// subdomains other than `iam`.
fn is_service_account(value: &str) -> bool {
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-')
    };
    value.len() <= 254
        && value.split_once('@').is_some_and(|(name, domain)| {
            let project = domain.strip_suffix(".gserviceaccount.com");
            label(name) && project.is_some_and(|project| project.split('.').all(label))
        })
}

impl TryFrom<String> for ServiceAccount {
    type Error = ServiceAccountError;

    fn try_from(value: String) -> Result<Self, Self::Error> {
        value.parse()
    }
}

impl From<ServiceAccount> for String {
    fn from(account: ServiceAccount) -> Self {
        account.0
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The lifetime of a service account's access token: 1 to 43200 seconds, 3600 by default.
///
/// Above 3600, an organisation policy must allow it for the account; otherwise Google refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct AccessTokenLifetime(u32);

/// A lifetime is outside the range of access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "an access token lasts 1 to 43200 seconds, written in seconds (3600) or with a unit (60m, 1h); above \
     3600 an organization policy must allow it"
)]
pub struct AccessTokenLifetimeError;

impl AccessTokenLifetime {
    /// Returns the lifetime in whole seconds.
    #[must_use]
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

impl Default for AccessTokenLifetime {
    fn default() -> Self {
        Self(3600)
    }
}

impl TryFrom<u32> for AccessTokenLifetime {
    type Error = AccessTokenLifetimeError;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=43_200).contains(&seconds) { Ok(Self(seconds)) } else { Err(AccessTokenLifetimeError) }
    }
}

impl From<AccessTokenLifetime> for u32 {
    fn from(lifetime: AccessTokenLifetime) -> Self {
        lifetime.0
    }
}

impl FieldValue for AccessTokenLifetime {
    const VALUE_NAME: &'static str = "DURATION";
    const SHAPE: Shape = Shape::Seconds { min: 1, max: 43_200 };
}

impl FromStr for AccessTokenLifetime {
    type Err = AccessTokenLifetimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = duration::parse(text).map_err(|_| AccessTokenLifetimeError)?;
        u32::try_from(duration.as_secs()).map_err(|_| AccessTokenLifetimeError)?.try_into()
    }
}

impl fmt::Display for AccessTokenLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

#[cfg(test)]
mod tests;
