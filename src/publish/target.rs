//! The interface of a target: read a document, and write one conditionally.

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
use crate::values::tls_failure::TlsFailure;

/// The maximum size of a document, in bytes. A longer one is not carnet's and is not read whole.
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
    /// Both documents, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Jwks, Self::Discovery];

    /// Returns the document's path below the target, which corresponds to the issuer URL. It has no leading
    /// slash.
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

/// The label that carnet writes next to a document, to recognize it later.
///
/// Only the MAC makes a label trustworthy: everyone with write access to a target can write any label without
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The issuer that the document belongs to.
    pub issuer: IssuerUrl,
    /// The state of the issuer's documents.
    pub generation: Generation,
    /// The state of the database that the document shows, as `N:HEAD`, if it was known.
    pub state: Option<String>,
    /// The MAC over the label with its target, document and text; `None` if an earlier version of carnet
    /// wrote the label.
    pub mac: Option<String>,
}

impl Label {
    /// Returns the label with the MAC for `body`, stored as `name` at `target`.
    #[must_use]
    pub fn signed(self, mac: &RowMac, target: &TargetUrl, name: DocumentName, body: &[u8]) -> Self {
        let tag = self.covered(target, name, body, |covered| mac.tag(covered));
        Self { mac: Some(tag), ..self }
    }

    /// Returns whether the holder of `mac` wrote this label for `body`, stored as `name` at `target`.
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

/// Returns the SHA-256 of a document's text in the form that labels and the database use.
pub(crate) fn sha256(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, body))
}

/// The version of one document at a target, for conditional writes: an entity tag or its equivalent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The entity tag.
    pub e_tag: Option<String>,
    /// The version number, if the store numbers versions.
    pub version: Option<String>,
}

/// A document as stored at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes; empty if they exceed the maximum size of a document.
    pub body: Bytes,
    /// The label that carnet wrote; `None` if another program wrote the document, or the label cannot be
    /// read.
    pub label: Option<Label>,
    /// The version that a conditional write names.
    pub version: Version,
    /// `true` if content type and cache header are correct.
    pub headers_fit: bool,
}

/// An operation on a target failed. The text contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Another writer changed the document: the condition of the write was not met.
    #[error("{0} was changed by another process in the meantime")]
    Changed(DocumentName),
    /// The target cannot be reached, or its response is an error.
    #[error("{document} at {target}: {reason}")]
    Failed {
        /// The document.
        document: DocumentName,
        /// The target.
        target: TargetUrl,
        /// The error of the target or of the connection to it.
        reason: String,
        /// The reason, if the TLS handshake failed.
        tls: Option<TlsFailure>,
    },
}

/// The future that the functions of [`Target`] return.
pub type TargetFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, TargetError>> + Send + 'a>>;

/// A target for the documents of one issuer.
///
/// Both functions end within a minute, even if the other side does not respond.
pub trait Target: fmt::Debug + Send + Sync {
    /// Returns the target's URL, its name for users.
    fn url(&self) -> &TargetUrl;

    /// Returns the document as it is stored there; `None` if it does not exist.
    fn read<'a>(&'a self, name: DocumentName, expected: &'a Document) -> TargetFuture<'a, Option<Stored>>;

    /// Writes the document whole or not at all, with its content type and cache header. The write succeeds
    /// only if the stored document still has the version `over`, or, with `None`, if there is none.
    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()>;
}
