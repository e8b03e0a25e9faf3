//! Settings of the Google stand-ins, the table `[google]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::feed::google::{AccessTokenLifetime, ServiceAccount, WorkloadIdentityProvider};
use crate::values::secret::{self, SecretString};

/// Settings of the Google stand-in, the table `[google]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleConfig {
    /// Every access token; random each time when absent.
    #[serde(deserialize_with = "secret::deserialize_option")]
    pub access_token: Option<SecretString>,
    /// How long the Security Token Service's access tokens last, in seconds; 0 gives tokens that
    /// arrive expired.
    pub credential_lifetime: u32,
    /// The workload identity providers that exist; any, trusting any subject and audience, when there
    /// are none.
    pub providers: Vec<GoogleProvider>,
    /// The service accounts that exist; any, open to everybody, when there are none.
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
    /// Whether it, or its pool, is disabled.
    #[serde(default)]
    pub disabled: bool,
    /// The audiences that it allows; its own full name when there are none.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// The JWKS that was uploaded to it, a file that is read anew for every token; the issuer is not asked then.
    pub uploaded_jwks: Option<PathBuf>,
    /// The attribute condition: `assertion.sub` is one of these. No condition when absent.
    pub subjects: Option<Vec<String>>,
}

/// A service account, an entry of `[[google.service_accounts]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoogleServiceAccount {
    /// The account's e-mail address.
    pub email: ServiceAccount,
    /// The subjects that may act as it; all when absent.
    pub subjects: Option<Vec<String>>,
    /// The longest token that it gives.
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
