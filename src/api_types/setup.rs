//! What to create in a cloud for a feed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::setup::{Format, Setup, SetupError, Trusted};

/// What to create in the cloud, for exactly one issuer, subject and audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SetupAnswer {
    /// How `content` is written: `cli`, `terraform` or `json`.
    #[schema(example = "cli")]
    pub format: String,
    /// What the cloud will trust; nothing else.
    pub trusted: TrustedAnswer,
    /// What to know before, most important first.
    pub notes: Vec<String>,
    /// Of `cli` a POSIX shell script and of `terraform` a configuration, as a string; of `json` the
    /// documents themselves, as an object.
    pub content: Value,
}

/// Exactly what the cloud is told to trust.
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

impl SetupAnswer {
    /// `setup`, written in `format`.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the format cannot say it.
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
