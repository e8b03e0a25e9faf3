//! The settings of an Azure Container Registry feed: the identity in Entra that trusts the issuer, the
//! registry's cloud, and the rules between them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::feed::Feed;
use crate::feed::acr_host::{AcrHost, AcrHostError, AzureCloud};
use crate::feed::declaration::{Field, FieldValue, KnownRegistry, Settings, Shape, TypeDeclaration};
use crate::feed::endpoints::{EndpointUrl, Endpoints, EndpointsError};
use crate::feed::registry_host::RegistryHost;
use crate::feed::scope::ScopeError;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::values::excerpt::excerpt;

/// The endpoints that an Azure feed can override.
pub const ENDPOINT_NAMES: &[&str] = &["authority", "registry"];

/// The maximum length of a federated identity credential's subject, in characters.
pub const MAX_SUBJECT: usize = 600;

/// The maximum lifetime of an assertion. Entra refuses a longer one (AADSTS70023).
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(25 * 60 * 60);

/// The settings of a feed of type `azure-acr`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AzureAcr {
    /// The identity's tenant.
    pub tenant_id: EntraId,
    /// The application or managed identity that trusts the issuer and may read the registry.
    pub client_id: EntraId,
}

/// The type `azure-acr`.
pub const DECLARATION: TypeDeclaration = TypeDeclaration {
    about: "An Azure container registry",
    registry: KnownRegistry::Such("images.azurecr.io"),
    fields: &[
        Field::required::<EntraId>(
            "tenant_id",
            "tenant id",
            "The tenant of the application or managed identity",
        ),
        Field::required::<EntraId>(
            "client_id",
            "client id",
            "The client ID of the application or managed identity that trusts this issuer",
        ),
    ],
    endpoints: ENDPOINT_NAMES,
    algorithm: Algorithm::Rs256,
    subject_limit: Some(MAX_SUBJECT),
    check_scope: |scope| match scope.repositories() {
        Some(_) => Ok(()),
        // Without repositories, the scope limits only the actions.
        None => Err(ScopeError::Azure),
    },
};

/// The rules of the type `azure-acr`.
pub type RuleError = AzureAcrError;

pub(super) fn check_feed(azure: &AzureAcr, feed: &Feed) -> Result<(), RuleError> {
    azure.check(&feed.registry, &feed.endpoints, feed.alg, feed.token_lifetime)
}

impl Settings for AzureAcr {
    fn default_audience(&self, registry: &RegistryHost, endpoints: &Endpoints) -> Audience {
        Audience::well_known(cloud(registry, endpoints).default_audience())
    }

    fn longer_life(&self) -> &'static str {
        "request a credential with less remaining life: only the registry decides the lifetime of its refresh \
         token"
    }
}

impl AzureAcr {
    /// Checks the registry, the overrides and the feed's token settings against each other. Returns the first
    /// rule that is broken.
    pub fn check(
        &self,
        registry: &RegistryHost,
        endpoints: &Endpoints,
        alg: Algorithm,
        token_lifetime: Duration,
    ) -> Result<(), AzureAcrError> {
        endpoints.allow_only(ENDPOINT_NAMES)?;
        match AcrHost::try_from(registry) {
            Ok(host) => {
                let named = endpoints.get("authority").and_then(cloud_of_authority);
                if let Some(authority) = named.filter(|authority| *authority != host.cloud()) {
                    return Err(AzureAcrError::Cloud { registry: host.cloud(), authority });
                }
            }
            Err(why) => {
                if let Some(missing) = ENDPOINT_NAMES.iter().find(|name| endpoints.get(name).is_none()) {
                    return Err(AzureAcrError::Endpoint { missing, why });
                }
            }
        }
        if alg != Algorithm::Rs256 {
            return Err(AzureAcrError::Algorithm(alg));
        }
        if token_lifetime > MAX_TOKEN_LIFETIME {
            return Err(AzureAcrError::TokenLifetime(token_lifetime.as_secs()));
        }
        Ok(())
    }
}

/// Returns the feed's cloud, which is its registry's. For a registry under another name, it is the cloud of
/// the overridden authority, or the public one if that authority is not Azure's.
#[must_use]
pub fn cloud(registry: &RegistryHost, endpoints: &Endpoints) -> AzureCloud {
    match AcrHost::try_from(registry) {
        Ok(host) => host.cloud(),
        Err(_) => endpoints.get("authority").and_then(cloud_of_authority).unwrap_or(AzureCloud::Public),
    }
}

fn cloud_of_authority(authority: &EndpointUrl) -> Option<AzureCloud> {
    let host = authority.as_str().strip_prefix("https://")?;
    AzureCloud::ALL.into_iter().find(|cloud| cloud.authority_host() == host)
}

/// The settings of an `azure-acr` feed contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AzureAcrError {
    /// An Azure feed does not have this endpoint.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// A registry accepts only tokens of its own cloud.
    #[error(
        "endpoint authority: it belongs to the {authority} cloud, and the registry to the {registry} cloud"
    )]
    Cloud {
        /// The registry's cloud.
        registry: AzureCloud,
        /// The authority's cloud.
        authority: AzureCloud,
    },
    /// The registry's name does not reveal the API hosts, and an override is missing.
    #[error("registry: {why}; of any other registry the endpoint {missing} must be given too")]
    Endpoint {
        /// The first endpoint that is not overridden.
        missing: &'static str,
        /// The reason why the registry's name does not reveal the API hosts.
        why: AcrHostError,
    },
    /// Entra verifies only RS256.
    #[error("alg: use RS256, not {0}: Entra verifies no other signature of a federated credential")]
    Algorithm(Algorithm),
    /// Entra refuses tokens with a longer lifetime.
    #[error("token_lifetime: {0} s is more than 25 h, the maximum that Entra accepts")]
    TokenLifetime(u64),
}

/// An identifier that Entra gave to a tenant or an application: a UUID, shown in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntraId(Uuid);

/// A text is not an [`EntraId`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value} is not an identifier of Entra: write the UUID, such as 8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c, \
     not a name or a domain"
)]
pub struct EntraIdError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
}

impl FieldValue for EntraId {
    const VALUE_NAME: &'static str = "UUID";
    const SHAPE: Shape = Shape::Text {
        pattern: "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        min: 36,
        max: 36,
    };
}

impl FromStr for EntraId {
    type Err = EntraIdError;

    /// Accepts only the form with hyphens, in either case, because the identifier becomes part of a URL.
    fn from_str(value: &str) -> Result<Self, EntraIdError> {
        match Uuid::try_parse(value) {
            Ok(uuid) if value.len() == 36 && !uuid.is_nil() => Ok(Self(uuid)),
            _ => Err(EntraIdError { value: excerpt(value) }),
        }
    }
}

impl fmt::Display for EntraId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for EntraId {
    type Error = EntraIdError;

    fn try_from(value: String) -> Result<Self, EntraIdError> {
        value.parse()
    }
}

impl From<EntraId> for String {
    fn from(id: EntraId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
    const HOUR: Duration = Duration::from_secs(3600);

    fn azure() -> AzureAcr {
        AzureAcr { tenant_id: TENANT.parse().unwrap(), client_id: TENANT.parse().unwrap() }
    }

    fn check(registry: &str, endpoints: &[&str], alg: Algorithm, lifetime: Duration) -> Result<(), String> {
        // Accepts every name, so that unknown ones reach the feed's own check.
        const ANY: &[&str] = &["authority", "registry", "sts"];
        let endpoints = Endpoints::from_pairs(ANY, endpoints.iter().copied()).unwrap();
        azure()
            .check(&registry.parse().unwrap(), &endpoints, alg, lifetime)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_broken_rule_is_named_with_its_field() {
        let both = ["authority=http://localhost:1/a", "registry=http://localhost:1/r"];
        assert_eq!(check("images.azurecr.io", &[], Algorithm::Rs256, 25 * HOUR), Ok(()));
        assert_eq!(check("localhost:5000", &both, Algorithm::Rs256, HOUR), Ok(()));
        let same_cloud = ["authority=https://login.chinacloudapi.cn"];
        assert_eq!(check("images.azurecr.cn", &same_cloud, Algorithm::Rs256, HOUR), Ok(()));
        for (registry, endpoints, alg, lifetime, parts) in [
            ("images.azurecr.io", &[][..], Algorithm::Es256, HOUR, ["alg: use RS256, not ES256", "Entra"]),
            (
                "images.azurecr.io",
                &[],
                Algorithm::Rs256,
                25 * HOUR + Duration::from_secs(1),
                ["token_lifetime: 90001", "25 h"],
            ),
            (
                "images.azurecr.io",
                &["sts=https://a.example"],
                Algorithm::Rs256,
                HOUR,
                ["\"sts\"", "authority or registry"],
            ),
            (
                "images.azurecr.us",
                &["authority=https://login.microsoftonline.com"],
                Algorithm::Rs256,
                HOUR,
                ["endpoint authority", "public cloud, and the registry to the US government cloud"],
            ),
            (
                "localhost:5000",
                &[],
                Algorithm::Rs256,
                HOUR,
                ["registry: ", "endpoint authority must be given"],
            ),
            (
                "localhost:5000",
                &both[..1],
                Algorithm::Rs256,
                HOUR,
                ["registry: ", "endpoint registry must be given"],
            ),
        ] {
            let error = check(registry, endpoints, alg, lifetime).unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn the_cloud_follows_the_registry_and_then_the_authority() {
        for (registry, endpoints, wanted) in [
            ("images.azurecr.io", &[][..], AzureCloud::Public),
            ("images.azurecr.us", &[], AzureCloud::UsGovernment),
            ("images.azurecr.cn", &["authority=http://localhost:1"], AzureCloud::China),
            ("localhost:5000", &["authority=https://login.microsoftonline.us"], AzureCloud::UsGovernment),
            (
                "localhost:5000",
                &["authority=https://login.microsoftonline.us.evil.example"],
                AzureCloud::Public,
            ),
            ("localhost:5000", &["authority=http://localhost:1"], AzureCloud::Public),
        ] {
            let endpoints = Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap();
            assert_eq!(cloud(&registry.parse().unwrap(), &endpoints), wanted, "{registry}");
        }
    }

    #[test]
    fn identifiers_are_uuids_with_hyphens_in_one_form() {
        let upper: EntraId = TENANT.to_uppercase().parse().unwrap();
        assert_eq!(upper.to_string(), TENANT);
        assert_eq!(serde_json::to_string(&upper).unwrap(), format!("{TENANT:?}"));
        for text in [
            "",
            "contoso.onmicrosoft.com",
            "common",
            "00000000-0000-0000-0000-000000000000",
            "8f3c1b2a0d4e4f5a9b6c7d8e9f0a1b2c",
            "{8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c}",
            "urn:uuid:8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
            "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c ",
            "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a/../",
        ] {
            assert!(text.parse::<EntraId>().is_err(), "{text}");
        }
    }
}
