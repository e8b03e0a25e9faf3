//! An object store as a target: Amazon S3 and compatible stores, Google Cloud Storage, Azure Blob Storage.
//!
//! The credentials are those of the machine: named by its environment, or issued by its metadata service. A
//! write names the version that it replaces, and the store refuses it if the object has changed since.

mod http;
mod words;

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, BackoffConfig, Error, GetOptions, ObjectStore, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};

use self::http::Connector;
use super::target::{
    DocumentName, LONGEST_DOCUMENT, Label, Stored, Target, TargetError, TargetFuture, Version,
};
use super::target_options::{OpenTargetError, TargetOptions};
use crate::oidc::metadata::Document;
use crate::values::target_url::{ObjectService, TargetUrl};

/// The timeout for one call, including fetching credentials and retries.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// The period after the first attempt in which a retry may begin.
const RETRIED_FOR: Duration = Duration::from_secs(10);
const RETRIES: usize = 2;

const CONTENT_TYPE: &str = "application/json";

/// The names of the label's parts in an object's metadata. Azure accepts only C# identifiers.
const ISSUER: &str = "carnetissuer";
const GENERATION: &str = "carnetgeneration";
const STATE: &str = "carnetstate";
const MAC: &str = "carnetmac";

/// A location in an object store.
#[derive(Debug, Clone, Copy)]
pub struct BucketPath<'a> {
    /// The service that runs the store.
    pub service: ObjectService,
    /// The bucket, or the container.
    pub bucket: &'a str,
    /// The prefix of every object's name, see [`TargetUrl::Objects`].
    pub prefix: &'a str,
}

/// A location in an object store as a target.
pub struct ObjectTarget {
    url: TargetUrl,
    prefix: String,
    store: Arc<dyn ObjectStore>,
}

/// Written by hand because the stores' own `Debug` might print credentials.
impl fmt::Debug for ObjectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTarget").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ObjectTarget {
    /// Creates the target with the credentials that the environment names. No request is sent.
    pub fn new(place: BucketPath<'_>, options: &TargetOptions) -> Result<Self, OpenTargetError> {
        // A variable that is not UTF-8 cannot be meant for an object store.
        let text =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::with_variables(place, options, std::env::vars_os().filter_map(text))
    }

    /// Creates the target with `variables` instead of the environment's variables.
    fn with_variables(
        place: BucketPath<'_>,
        options: &TargetOptions,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, OpenTargetError> {
        let BucketPath { service, bucket, prefix } = place;
        let prefix = prefix.to_owned();
        let url = TargetUrl::Objects { service, bucket: bucket.to_owned(), prefix: prefix.clone() };
        let connector = Connector::new(options)?;
        match build(service, bucket, connector, variables) {
            Ok(store) => Ok(Self { url, prefix, store }),
            Err(error) => Err(OpenTargetError::Environment { target: url, reason: words::reason(&error) }),
        }
    }

    /// Returns the name of the object.
    fn path(&self, name: DocumentName) -> Result<Path, Error> {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        Ok(Path::parse(format!("{}{slash}{}", self.prefix, name.path()))?)
    }

    async fn get(&self, name: DocumentName, expected: &Document) -> Result<Option<Stored>, Error> {
        let found = match self.store.get_opts(&self.path(name)?, GetOptions::default()).await {
            Err(Error::NotFound { source, .. }) if !words::names_no_bucket(&source.to_string()) => {
                return Ok(None);
            }
            outcome => outcome?,
        };
        let fits = |attribute: Attribute, wanted: &str| {
            found.attributes.get(&attribute).is_some_and(|value| value.as_ref() == wanted)
        };
        let headers_fit = fits(Attribute::ContentType, CONTENT_TYPE)
            && expected.cache_control.to_str().is_ok_and(|wanted| fits(Attribute::CacheControl, wanted))
            // A verifier might not decode it.
            && found.attributes.get(&Attribute::ContentEncoding).is_none_or(|coding| coding.is_empty());
        let (label, version) = (label(&found.attributes), version(&found.meta));
        // A longer body was cut off by the HTTP client and is not a document of carnet.
        let is_whole = found.meta.size <= LONGEST_DOCUMENT as u64;
        let body = if is_whole { found.bytes().await? } else { Bytes::new() };
        Ok(Some(Stored { body, label: label.filter(|_| is_whole), version, headers_fit }))
    }

    async fn put(
        &self,
        name: DocumentName,
        document: &Document,
        label: &Label,
        over: Option<&Version>,
    ) -> Result<(), Error> {
        let mode = over.map_or(PutMode::Create, |Version { e_tag, version }| {
            PutMode::Update(UpdateVersion { e_tag: e_tag.clone(), version: version.clone() })
        });
        let cache_control = String::from_utf8_lossy(document.cache_control.as_bytes()).into_owned();
        let metadata = |name: &'static str| Attribute::Metadata(name.into());
        let mut attributes = Attributes::from_iter([
            (Attribute::ContentType, CONTENT_TYPE.to_owned()),
            (Attribute::CacheControl, cache_control),
            (metadata(ISSUER), label.issuer.to_string()),
            (metadata(GENERATION), label.generation.to_string()),
        ]);
        for (name, value) in [(STATE, &label.state), (MAC, &label.mac)] {
            if let Some(value) = value {
                attributes.insert(metadata(name), value.clone().into());
            }
        }
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(document.body.clone());
        self.store.put_opts(&self.path(name)?, payload, options).await.map(drop)
    }

    /// Runs `work` with a timeout and converts its error.
    async fn bounded<T>(
        &self,
        name: DocumentName,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, TargetError> {
        let (reason, tls) = match tokio::time::timeout(ENDS_WITHIN, work).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(Error::AlreadyExists { source, .. } | Error::Precondition { source, .. }))
                if !words::names_a_lock(&source.to_string()) =>
            {
                return Err(TargetError::Changed(name));
            }
            Ok(Err(error)) => (words::reason(&error), http::tls_failure(&error)),
            Err(_) => (format!("no response within {} s", ENDS_WITHIN.as_secs()), None),
        };
        Err(TargetError::Failed { document: name, target: self.url.clone(), reason, tls })
    }
}

impl Target for ObjectTarget {
    fn url(&self) -> &TargetUrl {
        &self.url
    }

    fn read<'a>(&'a self, name: DocumentName, expected: &'a Document) -> TargetFuture<'a, Option<Stored>> {
        Box::pin(self.bounded(name, self.get(name, expected)))
    }

    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()> {
        Box::pin(self.bounded(name, self.put(name, document, label, over)))
    }
}

fn build(
    service: ObjectService,
    bucket: &str,
    http: Connector,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Arc<dyn ObjectStore>, Error> {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(200),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRIED_FOR };
    Ok(match service {
        ObjectService::S3 => Arc::new(
            settings(variables, &["AWS_"])
                .fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
                .with_bucket_name(bucket)
                // Without conditional writes, an older generation could overwrite a newer one.
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .with_http_connector(http)
                .with_retry(retry)
                .build()?,
        ),
        ObjectService::Google => Arc::new(
            settings(variables, &["GOOGLE_", "SERVICE_ACCOUNT"])
                .fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| {
                    builder.with_config(key, value)
                })
                .with_bucket_name(bucket)
                .with_http_connector(http)
                .with_retry(retry)
                .build()?,
        ),
        ObjectService::Azure => Arc::new(
            settings(variables, &["AZURE_", "IDENTITY_ENDPOINT"])
                .fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value))
                .with_container_name(bucket)
                .with_http_connector(http)
                .with_retry(retry)
                .build()?,
        ),
    })
}

/// Returns the variables with one of these prefixes that are settings of the object store.
fn settings<K: FromStr>(
    variables: impl Iterator<Item = (String, String)>,
    beginnings: &[&str],
) -> impl Iterator<Item = (K, String)> {
    let is_its_own = move |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
    variables
        .filter(move |(name, _)| is_its_own(name))
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
}

fn version(meta: &object_store::ObjectMeta) -> Version {
    Version { e_tag: meta.e_tag.clone(), version: meta.version.clone() }
}

/// Returns the label that carnet wrote as metadata of the object. Another writer that overwrites the object
/// normally drops it.
fn label(attributes: &Attributes) -> Option<Label> {
    let text = |name: &'static str| attributes.get(&Attribute::Metadata(name.into()));
    let (issuer, generation) = (text(ISSUER)?.parse().ok()?, text(GENERATION)?.parse().ok()?);
    let optional = |name: &'static str| text(name).map(|value| value.as_ref().to_owned());
    Some(Label { issuer, generation, state: optional(STATE), mac: optional(MAC) })
}

#[cfg(test)]
mod tests;
