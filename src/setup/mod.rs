//! The trust setup: the resources that a cloud needs so that it trusts exactly one issuer, subject and
//! audience, those of a feed.
//!
//! Pure, except [`check`]: this module generates documents and scripts; it sends no requests and changes
//! nothing. Every condition is an equality. A pattern is never generated, because it would also trust feeds
//! that were not intended.

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

/// The output format of a setup.
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

/// The options of a setup besides the feed.
#[derive(Debug, Clone, Default)]
pub struct SetupOptions {
    /// The context of the deployment to trust, as far as the feed's subject uses it.
    pub context: Context,
    /// The scope of the credentials.
    pub scope: Scope,
    /// The kind of identity, for feeds of Azure.
    pub identity: Identity,
    /// The keys to upload, for feeds of Google whose provider does not fetch the issuer's keys.
    pub uploaded_jwks: Option<KeysToUpload>,
}

/// The setup of a cloud for one feed.
#[derive(Debug)]
pub struct Setup {
    /// The trusted feed and token claims. Nothing else is trusted.
    pub trusted: Trusted,
    /// The notes for the admin to read first, most important first.
    pub notes: Vec<String>,
    cloud: Cloud,
}

#[derive(Debug)]
enum Cloud {
    Aws(aws::AwsSetup),
    Azure(azure::AzureSetup),
    Google(google::GoogleSetup),
}

/// The exact set of values that the cloud trusts.
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

/// The reasons why a setup is impossible.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The subject cannot be determined, or is too long.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The vendor would not read the audience as plain text.
    #[error("audience: {audience} cannot be written into this setup: {why}")]
    Audience {
        /// The feed's audience.
        audience: String,
        /// The vendor's interpretation of it.
        why: &'static str,
    },
    /// The scope cannot name repositories here.
    #[error("repositories: {0}")]
    Repositories(String),
    /// The registry must have the vendor's own host name.
    #[error(transparent)]
    Registry(#[from] AcrHostError),
    /// A policy exceeds AWS's maximum length.
    #[error(
        "repositories: the policy has {length} characters and AWS accepts at most {limit} in a role; name \
         fewer repositories, or none for all of them"
    )]
    PolicyTooLong {
        /// Its length without white space.
        length: usize,
        /// AWS's limit.
        limit: usize,
    },
    /// An option for another type of feed.
    #[error("{option} is only for feeds of type {wanted}, and this feed has type {found}")]
    Option {
        /// The option.
        option: &'static str,
        /// The type for which the option is valid.
        wanted: FeedType,
        /// The feed's type.
        found: FeedType,
    },
    /// There are too many keys to upload.
    #[error("{count} keys are published, and Google accepts at most {limit} in an uploaded JWKS")]
    TooManyKeys {
        /// The number of keys.
        count: usize,
        /// Google's limit.
        limit: usize,
    },
    /// Rendering a template failed.
    #[error("the setup could not be written")]
    Render(#[from] askama::Error),
    /// Serializing a document failed.
    #[error("a document could not be serialised")]
    Json(#[from] serde_json::Error),
}

/// Returns the setup that makes `feed`'s registry issue credentials for tokens of `issuer`.
///
/// # Errors
///
/// Returns [`SetupError`] if the context lacks a key of the subject, or the cloud cannot express the scope or
/// an option.
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
    /// Returns the setup as text, without a newline at its end.
    ///
    /// # Errors
    ///
    /// Returns [`SetupError::Audience`] if the format cannot express the audience.
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

    /// Returns the documents: the trusted values, and the resources to create under the vendor's own names.
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
    /// Returns sixteen characters that identify issuer and subject, for a cloud that needs a name for the
    /// pair.
    fn fingerprint(&self) -> String {
        // Neither contains a newline.
        let pair = format!("{}\n{}", self.issuer, self.subject);
        let digest = digest::digest(&digest::SHA256, pair.as_bytes());
        digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns a description for people, for a cloud that has a field for it.
    fn description(&self, feed: &Feed) -> String {
        format!("carnet feed {}: {}", self.feed, quoting::plain(feed.name.as_str()))
    }
}

/// Returns the notes that are common to all clouds.
fn notes(feed: &Feed, issuer: &IssuerUrl, options: &SetupOptions) -> Vec<String> {
    let mut notes = Vec::new();
    if options.uploaded_jwks.is_none() && issuer.is_loopback() {
        notes.push(format!("No cloud can fetch keys from {issuer}: it is a loopback address."));
    }
    for (key, required) in feed.subject_keys.iter() {
        if let Some(context) = key.context_key()
            && !required
            && options.context.get(context).is_none()
        {
            notes.push(format!(
                "“{key}” is absent from this subject. A token with a {key} has another subject, which \
                 --context {key}=VALUE sets up."
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
            "The cloud trusts the name {}. Remove the trust before you give the name to another feed.",
            feed.path()
        ));
    }
    notes
}

fn as_text<S: serde::Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
