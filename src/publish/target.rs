//! What a place for documents can do: read one, and write one on a condition.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::oidc::metadata::{DISCOVERY_PATH, Document, JWKS_PATH};
use crate::signing_keys::publication::Generation;
use crate::store::sealed::RowMac;
use crate::values::issuer_url::IssuerUrl;
use crate::values::target_url::TargetUrl;

/// A longer text, in bytes, is no document of carnet's and is not read whole.
pub(super) const LONGEST_DOCUMENT: usize = 1 << 20;

/// One of the two documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentName {
    /// The JWKS.
    Jwks,
    /// The provider metadata.
    Discovery,
}

impl DocumentName {
    /// In the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Jwks, Self::Discovery];

    /// Its path below the target, which stands for the issuer URL. No slash at the beginning.
    #[must_use]
    pub fn path(self) -> &'static str {
        let path = match self {
            Self::Jwks => JWKS_PATH,
            Self::Discovery => DISCOVERY_PATH,
        };
        path.trim_start_matches('/')
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

/// What carnet writes beside a document, to know it again.
///
/// Only a label whose MAC is right says anything: everyone who may write at a target can write any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The issuer that the document belongs to.
    pub issuer: IssuerUrl,
    /// Which state of it.
    pub generation: Generation,
    /// The state of the database that the document shows, as `N:HEAD`, where it was known.
    pub state: Option<String>,
    /// Authenticates the label together with its target, document and text; `None` if an earlier version wrote it.
    pub mac: Option<String>,
}

impl Label {
    /// Returns the label with the MAC for `body`, standing as `name` at `target`.
    #[must_use]
    pub fn signed(self, mac: &RowMac, target: &TargetUrl, name: DocumentName, body: &[u8]) -> Self {
        let tag = self.covered(target, name, body, |covered| mac.tag(covered));
        Self { mac: Some(tag), ..self }
    }

    /// Returns whether the holder of `mac` wrote this label for `body`, standing as `name` at `target`.
    #[must_use]
    pub fn is_authentic(&self, mac: &RowMac, target: &TargetUrl, name: DocumentName, body: &[u8]) -> bool {
        let Some(tag) = &self.mac else { return false };
        self.covered(target, name, body, |covered| mac.verifies(covered, tag))
    }

    fn covered<T>(
        &self,
        target: &TargetUrl,
        name: DocumentName,
        body: &[u8],
        with: impl FnOnce(&[&str]) -> T,
    ) -> T {
        let (target, generation, sha256) = (target.to_string(), self.generation.to_string(), sha256(body));
        let state = self.state.as_deref().unwrap_or_default();
        with(&[
            "publication-label-1",
            self.issuer.as_str(),
            &target,
            name.path(),
            &generation,
            state,
            &sha256,
        ])
    }
}

/// The SHA-256 of a document's text, as labels and the database keep it.
pub(crate) fn sha256(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, body))
}

/// What a target calls the state of one document, for a conditional write: an entity tag or its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The entity tag.
    pub e_tag: Option<String>,
    /// Where the store numbers versions, the number.
    pub version: Option<String>,
}

/// A document as it stands at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes; empty if there are more than any document of carnet's has.
    pub body: Bytes,
    /// What carnet wrote beside it; `None` if somebody else wrote it, or the label cannot be read.
    pub label: Option<Label>,
    /// What a conditional write names.
    pub version: Version,
    /// Whether content type and cache header are those that it should have.
    pub headers_fit: bool,
}

/// A target did not do what was asked. The text holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Somebody has written in between: the condition of a write was not met.
    #[error("{0} was changed by somebody else meanwhile")]
    Changed(DocumentName),
    /// It cannot be reached, or does not answer as it should.
    #[error("{document} at {target}: {reason}")]
    Failed {
        /// What was to be read or written.
        document: DocumentName,
        /// Where.
        target: TargetUrl,
        /// What the target, or the way to it, said.
        reason: String,
    },
}

/// What [`Target`]'s functions return.
pub type TargetFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, TargetError>> + Send + 'a>>;

/// A place for the documents of one issuer.
///
/// Both functions end within a minute, whatever happens at the other side.
pub trait Target: fmt::Debug + Send + Sync {
    /// What users call it.
    fn url(&self) -> &TargetUrl;

    /// The document as it stands there; `None` if there is none.
    fn read<'a>(&'a self, name: DocumentName, expected: &'a Document) -> TargetFuture<'a, Option<Stored>>;

    /// Writes the document whole or not at all, with its content type and cache header, if what stands there
    /// is still `over`; `None`: if there is none.
    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()>;
}
