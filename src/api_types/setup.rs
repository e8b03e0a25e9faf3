//! The resources to create in a cloud for a feed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::setup::{Format, Setup, SetupError, Trusted};

/// The resources to create in the cloud, for exactly one issuer, subject and audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SetupResponse {
    /// The format of `content`: `cli`, `terraform` or `json`.
    #[schema(example = "cli")]
    pub format: String,
    /// The claims that the cloud will trust, and no others.
    pub trusted: TrustedAnswer,
    /// Notes to read first, most important first.
    pub notes: Vec<String>,
    /// For `cli` a POSIX shell script and for `terraform` a configuration, as a string; for `json` the
    /// documents themselves, as an object.
    pub content: Value,
}

/// The exact claims that the cloud is told to trust.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustedAnswer {
    /// The feed, as SPACE/FEED.
    #[schema(example = "default/prod")]
    pub feed: String,
    /// Its type.
    #[serde(rename = "type")]
    pub feed_type: String,
    /// The `iss`.
    pub issuer: String,
    /// The `sub`.
    pub subject: String,
    /// The `aud`.
    pub audience: String,
}

impl SetupResponse {
    /// Returns `setup` in `format`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the format cannot express the setup.
    pub fn new(setup: &Setup, format: Format) -> Result<Self, SetupError> {
        let content = match format {
            Format::Json => setup.documents()?,
            Format::Cli | Format::Terraform => Value::String(setup.render(format)? + "\n"),
        };
        Ok(Self {
            format: format.as_str().to_owned(),
            trusted: (&setup.trusted).into(),
            notes: setup.notes.clone(),
            content,
        })
    }
}

impl From<&Trusted> for TrustedAnswer {
    fn from(trusted: &Trusted) -> Self {
        Self {
            feed: trusted.feed.to_string(),
            feed_type: trusted.feed_type.to_string(),
            issuer: trusted.issuer.clone(),
            subject: trusted.subject.to_string(),
            audience: trusted.audience.clone(),
        }
    }
}
