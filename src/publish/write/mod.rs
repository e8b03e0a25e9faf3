//! Brings a target up to date: decides which documents to overwrite, and writes them in order.

use serde_json::Value;

use super::edition::Edition;
use super::target::{DocumentName, Stored, Target, TargetError, Version, sha256};
use crate::signing_keys::publication::Generation;
use crate::values::issuer_url::IssuerUrl;
use crate::values::target_url::TargetUrl;

/// The number of attempts when another writer changes a document between our read and our write.
const ATTEMPTS: usize = 4;

/// The documents that a write may overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Documents that this database published for this issuer, as an authentic label proves, and documents
    /// with the same content.
    First,
    /// As `First`, and every document without an authentic label: the target is known to be this issuer's.
    Update,
    /// Every document, on the operator's request.
    TakeOver,
}

/// A document at the target that must not be overwritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It is a later state of the same issuer: this process, or its database, is behind.
    #[error("{document} there is generation {there}, newer than {ours} here")]
    Newer {
        /// The document.
        document: DocumentName,
        /// The generation at the target.
        there: Generation,
        /// The generation that was to be written.
        ours: Generation,
    },
    /// Its label names another issuer.
    #[error("{document} there belongs to the issuer {issuer}")]
    OtherIssuer {
        /// The document.
        document: DocumentName,
        /// The issuer that the label names.
        issuer: IssuerUrl,
    },
    /// Its label names this issuer, but is not authentic: it was forged, written by an earlier version of
    /// carnet, or written before the database's keys were replaced.
    #[error("{0} there is labelled as this issuer's, but this database did not write that label")]
    Unauthentic(DocumentName),
    /// It has no label of carnet.
    #[error("{0} there was not written by carnet")]
    Unlabelled(DocumentName),
}

impl Conflict {
    /// Returns whether nothing proves that this database wrote the document.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Self::Newer { .. })
    }
}

/// The reasons why a target was not brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A document at the target must not be overwritten.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A read or write at the target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// The changes made at a target that is now up to date.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The documents that were written; the others were up to date already.
    pub written: Vec<DocumentName>,
    /// The JWKS that was overwritten, if its text was different.
    pub replaced_jwks: Option<Stored>,
    /// The overwritten documents that had another content and no authentic label.
    pub foreign: Vec<Foreign>,
}

/// A document at a target without an authentic label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its name.
    pub name: DocumentName,
    /// The SHA-256 of its text. It identifies a document that carnet wrote before the database's keys were
    /// replaced.
    pub sha256: String,
}

/// The action to take for one document.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Leave,
    /// Write the label anew. The text stays.
    Relabel {
        over: &'a Version,
    },
    Write {
        over: Option<&'a Version>,
    },
}

/// Makes `target` show `edition`: first the JWKS, then the discovery document. Writes only the documents that
/// differ. Except in [`Mode::TakeOver`], never overwrites a newer document, nor one of another issuer unless
/// the mode is [`Mode::Update`].
///
/// # Errors
///
/// Returns [`PublishError`]. The JWKS may already have been written then, without the discovery document.
/// That is safe for verifiers.
pub async fn publish(target: &dyn Target, edition: &Edition, mode: Mode) -> Result<Published, PublishError> {
    let mut published = Published::default();
    publish_into(&mut published, target, edition, mode).await?;
    Ok(published)
}

/// As [`publish`], but records the changes in `published` even if a later step fails.
pub(super) async fn publish_into(
    published: &mut Published,
    target: &dyn Target,
    edition: &Edition,
    mode: Mode,
) -> Result<(), PublishError> {
    for name in DocumentName::ALL {
        bring_up_to_date(target, edition, mode, name, published).await?;
    }
    Ok(())
}

async fn bring_up_to_date(
    target: &dyn Target,
    edition: &Edition,
    mode: Mode,
    name: DocumentName,
    published: &mut Published,
) -> Result<(), PublishError> {
    let document = edition.document(name);
    for attempt in 1.. {
        let stored = target.read(name, document).await?;
        let step = decide(stored.as_ref(), edition, target.url(), name, mode)?;
        let over = match step {
            Step::Leave => return Ok(()),
            Step::Relabel { over } => Some(over),
            Step::Write { over } => over,
        };
        let kept = stored.as_ref().filter(|_| mode != Mode::TakeOver);
        match target.write(name, document, &edition.label_at(target.url(), name, kept), over).await {
            Err(TargetError::Changed(_)) if attempt < ATTEMPTS => continue,
            outcome => outcome?,
        }
        if matches!(step, Step::Relabel { .. }) {
            return Ok(());
        }
        published.written.push(name);
        if let Some(stored) = stored.filter(|stored| stored.body != document.body) {
            if !edition.has_written(target.url(), name, &stored)
                && !says_the_same(&stored.body, &document.body)
            {
                published.foreign.push(Foreign { name, sha256: sha256(&stored.body) });
            }
            if name == DocumentName::Jwks {
                published.replaced_jwks = Some(stored);
            }
        }
        return Ok(());
    }
    Ok(())
}

fn decide<'a>(
    stored: Option<&'a Stored>,
    edition: &Edition,
    target: &TargetUrl,
    name: DocumentName,
    mode: Mode,
) -> Result<Step<'a>, Conflict> {
    let Some(stored) = stored else { return Ok(Step::Write { over: None }) };
    if stored.headers_fit && edition.is_shown_by(target, name, stored) {
        let is_outdated = stored.label.as_ref().is_some_and(|label| match mode {
            Mode::TakeOver => label.state != edition.label.state,
            // One of the two labels is enough.
            Mode::First | Mode::Update => name == DocumentName::Jwks && edition.is_ahead_of(label),
        });
        return Ok(if is_outdated { Step::Relabel { over: &stored.version } } else { Step::Leave });
    }
    let write = Step::Write { over: Some(&stored.version) };
    match &stored.label {
        _ if mode == Mode::TakeOver => Ok(write),
        // Only an authentic label proves which of two states is newer.
        Some(label) if edition.has_written(target, name, stored) => {
            let (there, ours) = (label.generation, edition.label.generation);
            if there > ours { Err(Conflict::Newer { document: name, there, ours }) } else { Ok(write) }
        }
        _ if mode == Mode::Update => Ok(write),
        Some(label) if label.issuer != edition.label.issuer => {
            Err(Conflict::OtherIssuer { document: name, issuer: label.issuer.clone() })
        }
        // Overwriting and labelling equal content loses nothing.
        _ if says_the_same(&stored.body, &edition.document(name).body) => Ok(write),
        Some(_) => Err(Conflict::Unauthentic(name)),
        None => Err(Conflict::Unlabelled(name)),
    }
}

/// Returns whether both documents have the same members, and the same keys in any order. An earlier version
/// of carnet wrote the same JWKS in another order.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let content = |body: &[u8]| -> Option<Value> {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        // The text must be the canonical form of its members: parsers differ on a member that is given twice.
        if serde_json::to_vec(&value).ok()? != body {
            return None;
        }
        if let Some(keys) = value.get_mut("keys").and_then(Value::as_array_mut) {
            keys.sort_by_key(|key| key["kid"].as_str().unwrap_or_default().to_owned());
        }
        Some(value)
    };
    one == other || content(one).is_some_and(|content_of_one| content(other) == Some(content_of_one))
}

#[cfg(test)]
mod tests;
