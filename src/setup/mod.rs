//! What to create in a cloud so that it trusts exactly one issuer, subject and audience: a feed's.
//!
//! Pure: documents and scripts come out, nothing is asked and nothing is changed. Every condition is
//! an equality; no pattern is ever written, because a pattern trusts feeds that nobody thought of.

mod aws;
mod azure;
mod google;
mod quoting;

use std::fmt;

use aws_lc_rs::digest;
use serde::Serialize;
use serde_json::Value;

use crate::feed::acr_host::AcrHostError;
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedPath, FeedType, Provider};
use crate::oidc::subject::{Context, Subject, SubjectError, SubjectKey};
use crate::values::issuer_url::IssuerUrl;

pub use google::KeysToUpload;
#[cfg(feature = "cli")]
pub(crate) use quoting::shell_word;

/// How the setup is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A POSIX shell script that calls the vendor's command line.
    Cli,
    /// A Terraform configuration.
    Terraform,
    /// The documents themselves, as JSON.
    Json,
}

impl Format {
    /// The format's name on the command line and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Terraform => "terraform",
            Self::Json => "json",
        }
    }
}

/// The kind of identity in Entra that trusts the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// An app registration and its service principal.
    #[default]
    App,
    /// A user-assigned managed identity.
    Managed,
}

/// What a setup depends on beside the feed.
#[derive(Debug, Clone, Default)]
pub struct SetupOptions {
    /// The deployment that is to be trusted, as far as the feed's subject names it.
    pub context: Context,
    /// What the credentials are to be good for.
    pub scope: Scope,
    /// For feeds of Azure.
    pub identity: Identity,
    /// For feeds of Google whose provider does not fetch the issuer's keys: the keys to upload.
    pub uploaded_jwks: Option<KeysToUpload>,
}

/// What to create, and what it means.
#[derive(Debug)]
pub struct Setup {
    /// What is trusted; nothing else is.
    pub trusted: Trusted,
    /// What the admin should know before, most important first.
    pub notes: Vec<String>,
    cloud: Cloud,
}

#[derive(Debug)]
enum Cloud {
    Aws(aws::AwsSetup),
    Azure(azure::AzureSetup),
    Google(google::GoogleSetup),
}

/// Exactly what the cloud is told to trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trusted {
    /// The feed.
    #[serde(serialize_with = "as_text")]
    pub feed: FeedPath,
    /// Its type.
    #[serde(rename = "type", serialize_with = "as_text")]
    pub feed_type: FeedType,
    /// The `iss`.
    pub issuer: String,
    /// The `sub`.
    pub subject: Subject,
    /// The `aud`.
    pub audience: String,
}

/// Nothing can be set up so.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The subject is not known, or too long.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The vendor would read the audience as something else than a text.
    #[error("audience: {audience} cannot be written into this setup: {why}")]
    Audience {
        /// The feed's audience.
        audience: String,
        /// What the vendor would make of it.
        why: &'static str,
    },
    /// Repositories cannot be named here.
    #[error("repositories: {0}")]
    Repositories(String),
    /// The registry's own name is needed.
    #[error(transparent)]
    Registry(#[from] AcrHostError),
    /// A policy is longer than AWS takes.
    #[error(
        "repositories: the policy has {length} characters and AWS takes at most {limit} in a role; name fewer \
         repositories, or none for all of them"
    )]
    PolicyTooLong {
        /// Its length without white space.
        length: usize,
        /// AWS's limit.
        limit: usize,
    },
    /// An option for another type of feed.
    #[error("{option} is for feeds of type {wanted}, and this one is of type {found}")]
    Option {
        /// The option.
        option: &'static str,
        /// The type that has it.
        wanted: FeedType,
        /// The feed's type.
        found: FeedType,
    },
    /// The keys cannot be uploaded.
    #[error("{count} keys are published, and Google takes at most {limit} in an uploaded JWKS")]
    TooManyKeys {
        /// How many there are.
        count: usize,
        /// Google's limit.
        limit: usize,
    },
    /// A template failed.
    #[error("the setup could not be written")]
    Render(#[from] askama::Error),
    /// A document failed.
    #[error("a document could not be serialised")]
    Json(#[from] serde_json::Error),
}

/// What to create so that `feed`'s registry gives credentials to tokens of `issuer`.
///
/// # Errors
///
/// [`SetupError`]: the context lacks a key of the subject, or the cloud has no way to say what is asked.
pub fn setup(feed: &Feed, issuer: &IssuerUrl, options: &SetupOptions) -> Result<Setup, SetupError> {
    let found = feed.provider.feed_type();
    if options.identity != Identity::default() && found != FeedType::AzureAcr {
        return Err(SetupError::Option { option: "identity", wanted: FeedType::AzureAcr, found });
    }
    if options.uploaded_jwks.is_some() && found != FeedType::GoogleArtifactRegistry {
        let wanted = FeedType::GoogleArtifactRegistry;
        return Err(SetupError::Option { option: "jwks", wanted, found });
    }
    let subject = feed.subject_keys.subject(&feed.identity(), &options.context)?;
    if let Some(limit) = feed.provider.subject_limit() {
        subject.check_limit(limit)?;
    }
    let trusted = Trusted {
        feed: feed.path(),
        feed_type: found,
        issuer: issuer.as_str().to_owned(),
        subject,
        audience: feed.audience.as_str().to_owned(),
    };
    let mut notes = notes(feed, issuer, options);
    let cloud = match &feed.provider {
        Provider::AwsEcr(role) | Provider::AwsEcrPublic(role) => {
            Cloud::Aws(aws::AwsSetup::new(feed, role, issuer, &trusted, &options.scope, &mut notes)?)
        }
        Provider::AzureAcr(azure) => {
            Cloud::Azure(azure::AzureSetup::new(feed, azure, &trusted, options, &mut notes)?)
        }
        Provider::GoogleArtifactRegistry(google) => {
            Cloud::Google(google::GoogleSetup::new(feed, google, &trusted, options, &mut notes)?)
        }
    };
    Ok(Setup { trusted, notes, cloud })
}

impl Setup {
    /// The setup as text, without a line's end after its last line.
    ///
    /// # Errors
    ///
    /// [`SetupError::Audience`] if the format cannot say it.
    pub fn render(&self, format: Format) -> Result<String, SetupError> {
        match (format, &self.cloud) {
            (Format::Cli, Cloud::Aws(aws)) => aws.cli(&self.trusted),
            (Format::Cli, Cloud::Azure(azure)) => azure.cli(&self.trusted),
            (Format::Cli, Cloud::Google(google)) => google.cli(&self.trusted),
            (Format::Terraform, Cloud::Aws(aws)) => aws.terraform(&self.trusted),
            (Format::Terraform, Cloud::Azure(azure)) => azure.terraform(&self.trusted),
            (Format::Terraform, Cloud::Google(google)) => google.terraform(&self.trusted),
            (Format::Json, _) => Ok(serde_json::to_string_pretty(&self.documents()?)?),
        }
    }

    /// The documents: what is trusted, and under the vendor's own names what to create.
    ///
    /// # Errors
    ///
    /// [`SetupError::Json`].
    pub fn documents(&self) -> Result<Value, SetupError> {
        let mut documents = serde_json::to_value(&self.trusted)?;
        let of_cloud = match &self.cloud {
            Cloud::Aws(aws) => aws.documents()?,
            Cloud::Azure(azure) => azure.documents(),
            Cloud::Google(google) => google.documents(),
        };
        if let (Value::Object(all), Value::Object(more)) = (&mut documents, of_cloud) {
            all.extend(more);
        }
        Ok(documents)
    }
}

impl Trusted {
    /// Sixteen characters that stand for issuer and subject, where a cloud needs a name for the pair.
    fn fingerprint(&self) -> String {
        // Neither has a line's end.
        let pair = format!("{}\n{}", self.issuer, self.subject);
        let digest = digest::digest(&digest::SHA256, pair.as_bytes());
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A text for people, where a cloud has a place for one.
    fn description(&self, feed: &Feed) -> String {
        format!("carnet feed {}: {}", self.feed, quoting::plain(feed.name.as_str()))
    }
}

/// What holds for every cloud.
fn notes(feed: &Feed, issuer: &IssuerUrl, options: &SetupOptions) -> Vec<String> {
    let mut notes = Vec::new();
    if options.uploaded_jwks.is_none() && issuer.is_loopback() {
        notes.push(format!("No cloud can fetch keys from {issuer}: it is this machine."));
    }
    for (key, required) in feed.subject_keys.iter() {
        if let Some(context) = key.context_key()
            && !required
            && options.context.get(context).is_none()
        {
            notes.push(format!(
                "“{key}” is absent from this subject. A token with a {key} has another one, which --context {key}=VALUE \
                 sets up."
            ));
        }
    }
    for (key, _) in options.context.iter() {
        if !feed.subject_keys.iter().any(|(subject, _)| subject.context_key() == Some(key)) {
            notes.push(format!("“{key}” is not part of the feed's subject and limits nothing."));
        }
    }
    if !feed.subject_keys.contains(SubjectKey::FeedId) {
        notes.push(format!(
            "The cloud trusts the name {}. Remove the trust before the name is given to another feed.",
            feed.path()
        ));
    }
    notes
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
