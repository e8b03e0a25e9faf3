//! Settings of the Azure stand-ins, the table `[azure]`.

use serde::{Deserialize, Deserializer};

use crate::feed::acr_host::AzureCloud;
use crate::feed::azure::EntraId;
use crate::jose::jws::decode_unverified;
use crate::values::secret::SecretString;

/// Settings of Entra and of the registry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AzureConfig {
    /// The only tenant that exists. If absent, every tenant exists.
    pub tenant: Option<EntraId>,
    /// The refresh token of every exchange, so that a registry can accept it as a password: a JWT with an
    /// `exp`, whose signature is not verified. If absent, each exchange gets a new token.
    #[serde(deserialize_with = "refresh_token")]
    pub refresh_token: Option<SecretString>,
    /// The lifetime of a refresh token, in seconds. With 0, tokens arrive expired.
    pub credential_lifetime: u32,
    /// The resources that tenants know, as scopes name them, without `/.default`.
    pub resources: Vec<String>,
    /// The federated credentials that exist. If empty, every application exists and trusts any subject and
    /// audience.
    pub applications: Vec<AzureApplication>,
}

/// A federated identity credential of an application, an entry of `[[azure.applications]]`. Several entries
/// with one client ID are several credentials of that application. They all trust the sandbox's issuer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AzureApplication {
    /// The application or managed identity.
    pub client_id: EntraId,
    /// The subject, compared exactly.
    pub subject: String,
    /// The audience. If absent, the public cloud's.
    #[serde(default = "default_audience")]
    pub audience: String,
}

impl Default for AzureConfig {
    fn default() -> Self {
        let scopes =
            AzureCloud::ALL.into_iter().flat_map(|cloud| [Some(cloud.scope()), cloud.fallback_scope()]);
        let resources = scopes.flatten().filter_map(|scope| scope.strip_suffix("/.default"));
        Self {
            tenant: None,
            refresh_token: None,
            credential_lifetime: 10_800,
            resources: resources.map(str::to_owned).collect(),
            applications: Vec::new(),
        }
    }
}

fn default_audience() -> String {
    AzureCloud::Public.default_audience().to_owned()
}

/// Reads a fixed refresh token. Clients read the expiry from the token, so a text without one is refused.
fn refresh_token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    let token = SecretString::new(String::deserialize(deserializer)?);
    match decode_unverified(token.reveal()) {
        Ok((_, claims)) if claims.get("exp").is_some_and(serde_json::Value::is_i64) => Ok(Some(token)),
        _ => Err(serde::de::Error::custom(
            "refresh_token must be a JWT with an exp, such as e30.eyJleHAiOjQxMDI0NDQ4MDB9.PASSWORD (the year 2100)",
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::sandbox::SandboxConfig;

    #[test]
    fn everything_has_a_default() {
        let azure = "".parse::<SandboxConfig>().unwrap().azure;
        assert!(azure.tenant.is_none() && azure.refresh_token.is_none() && azure.applications.is_empty());
        assert_eq!(azure.credential_lifetime, 10_800);
        assert_eq!(
            azure.resources,
            [
                "https://containerregistry.azure.net",
                "https://management.azure.com",
                "https://management.usgovcloudapi.net",
                "https://management.chinacloudapi.cn",
            ]
        );
    }

    #[test]
    fn applications_and_refresh_tokens_are_read() {
        let config: SandboxConfig = r#"
            [azure]
            tenant = "8F3C1B2A-0d4e-4f5a-9b6c-7d8e9f0a1b2c"
            refresh_token = "e30.eyJleHAiOjQxMDI0NDQ4MDB9.hunter2"
            [[azure.applications]]
            client_id = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"
            subject = "space:default:feed:a"
        "#
        .parse()
        .unwrap();
        assert_eq!(config.azure.tenant.unwrap().to_string(), "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c");
        assert_eq!(config.azure.applications[0].audience, "api://AzureADTokenExchange");
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        for (text, word) in [
            ("[azure]\nrefresh_token = 'hunter2'", "must be a JWT with an exp"),
            ("[azure]\nrefresh_token = 'e30.e30.x'", "must be a JWT with an exp"),
            ("[azure]\ntenant = 'contoso'", "not an identifier of Entra"),
            ("[azure]\ntenants = []", "tenants"),
            ("[[azure.applications]]\nsubject = 'x'", "client_id"),
        ] {
            let error = text.parse::<SandboxConfig>().unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(word), "{cause}");
        }
    }
}
