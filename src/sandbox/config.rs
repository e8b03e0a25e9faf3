//! The sandbox's settings: further limits on trust, the credentials that it issues, and faults.

use std::str::FromStr;

use serde::Deserialize;

use super::azure::config::AzureConfig;
use super::faults::Fault;
use super::google::config::GoogleConfig;
use crate::feed::aws::{RoleArn, SessionDuration};
use crate::values::secret::{SecretString, deserialize_option as secret};

/// All settings. By default the stand-ins accept any subject and audience of the issuer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SandboxConfig {
    /// Settings of the AWS stand-in.
    pub aws: AwsConfig,
    /// Settings of the Azure stand-in.
    pub azure: AzureConfig,
    /// Settings of the Google stand-in.
    pub google: GoogleConfig,
    /// The faults to show, in this order, whatever a request contains.
    pub faults: Vec<Fault>,
}

/// Settings of the AWS stand-in, the table `[aws]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwsConfig {
    /// The password of every ECR login. If absent, each login gets a random one.
    #[serde(deserialize_with = "secret")]
    pub password: Option<SecretString>,
    /// The lifetime of an ECR login, in seconds. With 0, logins arrive expired.
    pub credential_lifetime: u32,
    /// The region that requests to ECR must be signed for. If absent, any region.
    pub region: Option<String>,
    /// The roles that exist. If empty, every role exists and trusts any subject and audience.
    pub roles: Vec<AwsRole>,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self { password: None, credential_lifetime: 43_200, region: None, roles: Vec::new() }
    }
}

/// A role and its trust policy, an entry of `[[aws.roles]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsRole {
    /// The role's ARN.
    pub arn: RoleArn,
    /// The audiences that the role trusts. The audiences of all roles together are the provider's client IDs.
    pub audiences: Vec<String>,
    /// The subjects that the role trusts. `*` and `?` match as in IAM's `StringLike`.
    pub subjects: Vec<String>,
    /// The maximum session duration.
    #[serde(default)]
    pub max_session_duration: SessionDuration,
}

/// A text is not a valid sandbox configuration.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox configuration is refused")]
pub struct SandboxConfigError(#[from] toml::de::Error);

impl FromStr for SandboxConfig {
    type Err = SandboxConfigError;

    /// Parses TOML.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_has_a_default() {
        let config: SandboxConfig = "".parse().unwrap();
        assert!(config.aws.password.is_none() && config.aws.roles.is_empty());
        assert_eq!(config.aws.credential_lifetime, 43_200);
    }

    #[test]
    fn roles_and_passwords_are_read() {
        let config: SandboxConfig = r#"
            [aws]
            password = "hunter2"
            [[aws.roles]]
            arn = "arn:aws:iam::123456789012:role/pull"
            audiences = ["sts.amazonaws.com"]
            subjects = ["space:default:feed:a"]
            max_session_duration = 900
        "#
        .parse()
        .unwrap();
        assert_eq!(config.aws.password.as_ref().unwrap().reveal(), "hunter2");
        assert_eq!(config.aws.roles[0].max_session_duration.as_secs(), 900);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn misspelt_settings_are_refused_by_name() {
        for (text, word) in [
            ("[awz]", "awz"),
            ("[aws]\npasword = 'x'", "pasword"),
            ("[[aws.roles]]\narn = 'arn:aws:iam::123456789012:role/pull'\naudiences = []", "subjects"),
            ("[[aws.roles]]\narn = 'x'\naudiences = []\nsubjects = []", "is not the ARN of a role"),
        ] {
            let error = text.parse::<SandboxConfig>().unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(word), "{cause}");
        }
    }
}
