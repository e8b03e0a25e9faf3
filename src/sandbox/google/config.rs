//! Settings of the Google stand-ins, the table `[google]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::feed::google::{AccessTokenLifetime, ServiceAccount, WorkloadIdentityProvider};
use crate::values::secret::{self, SecretString};

/// Settings of the Google stand-ins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleConfig {
    /// The value of every access token. If absent, each token is random.
    #[serde(deserialize_with = "secret::deserialize_option")]
    pub access_token: Option<SecretString>,
    /// The lifetime of the Security Token Service's access tokens, in seconds. With 0, tokens arrive expired.
    pub credential_lifetime: u32,
    /// The workload identity providers that exist. If empty, every provider exists and trusts any subject and
    /// audience.
    pub providers: Vec<GoogleProvider>,
    /// The service accounts that exist. If empty, every account exists and any identity may act as it.
    pub service_accounts: Vec<GoogleServiceAccount>,
}

impl Default for GoogleConfig {
    fn default() -> Self {
        Self {
            access_token: None,
            credential_lifetime: 3600,
            providers: Vec::new(),
            service_accounts: Vec::new(),
        }
    }
}

/// A workload identity provider, an entry of `[[google.providers]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleProvider {
    /// The provider's name.
    pub name: WorkloadIdentityProvider,
    /// True if the provider or its pool is disabled.
    #[serde(default)]
    pub disabled: bool,
    /// The audiences that the provider permits. If empty, its own full name.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The file of the JWKS that was uploaded to the provider. It is read again for every token, and the
    /// issuer is not contacted.
    pub uploaded_jwks: Option<PathBuf>,
    /// The attribute condition: `assertion.sub` must be one of these. If absent, there is no condition.
    pub subjects: Option<Vec<String>>,
}

/// A service account, an entry of `[[google.service_accounts]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleServiceAccount {
    /// The account's e-mail address.
    pub email: ServiceAccount,
    /// The subjects that may act as the account. If absent, all may.
    pub subjects: Option<Vec<String>>,
    /// The maximum lifetime of its tokens.
    #[serde(default)]
    pub max_lifetime: AccessTokenLifetime,
}

#[cfg(test)]
mod tests {
    use crate::sandbox::SandboxConfig;

    #[test]
    fn google_providers_and_accounts_are_read() {
        let config: SandboxConfig = r#"
            [google]
            access_token = "hunter2"
            [[google.providers]]
            name = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/carnet"
            subjects = ["space:default:feed:a"]
            [[google.service_accounts]]
            email = "pull@p.iam.gserviceaccount.com"
        "#
        .parse()
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.google.credential_lifetime, 3600);
        assert!(config.google.providers[0].name.as_str().starts_with("projects/1/"));
        assert!(!config.google.providers[0].disabled);
        assert_eq!(config.google.service_accounts[0].max_lifetime.as_secs(), 3600);
        assert!("[[google.providers]]\nname = 'x'".parse::<SandboxConfig>().is_err());
    }
}
