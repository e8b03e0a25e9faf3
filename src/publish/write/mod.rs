//! Bringing a target up to date: what to write over what, and in which order.

use serde_json::Value;

use super::edition::Edition;
use super::target::{DocumentName, Stored, Target, TargetError, Version, sha256};
use crate::signing_keys::publication::Generation;
use crate::values::issuer_url::IssuerUrl;
use crate::values::target_url::TargetUrl;

/// Somebody else writes there at the same moment: this often everything is looked at again.
const ATTEMPTS: usize = 4;

/// What may be overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What this database published earlier for this issuer, by an authentic label, and the same text.
    First,
    /// That, and everything whose label is not authentic: the target is known to be this issuer's.
    Update,
    /// Whatever stands there, on an operator's word.
    TakeOver,
}

/// What stands at a target must not be overwritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A later state of the same issuer: this process, or its database, is behind.
    #[error("{document} there is generation {there}, newer than {ours} here")]
    Newer {
        /// What was to be written.
        document: DocumentName,
        /// Its generation there.
        there: Generation,
        /// The generation that was to be written.
        ours: Generation,
    },
    /// Another issuer's, as its label says.
    #[error("{document} there belongs to the issuer {issuer}")]
    OtherIssuer {
        /// What was to be written.
        document: DocumentName,
        /// Whose it is.
        issuer: IssuerUrl,
    },
    /// Labelled as this issuer's, but not by this database: forged, written by an earlier version of carnet, or
    /// written before the database's keys were replaced.
    #[error("{0} there is labelled as this issuer's, but this database did not write that label")]
    Unauthentic(DocumentName),
    /// Not known to be any issuer's.
    #[error("{0} there was not written by carnet")]
    Unlabelled(DocumentName),
}

impl Conflict {
    /// Returns whether what stands there is not known to be this database's.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Self::Newer { .. })
    }
}

/// A target was not brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It must not be.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// It would not.
    #[error(transparent)]
    Target(#[from] TargetError),
}

/// What was done at a target, which is up to date now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// The documents that were written; the others stood there already.
    pub written: Vec<DocumentName>,
    /// What stood there in the place of the JWKS, if it was another text.
    pub replaced_jwks: Option<Stored>,
    /// Documents of another text that were overwritten and whose label was not authentic.
    pub foreign: Vec<Foreign>,
}

/// A document that stood at a target without an authentic label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The document in whose place it stood.
    pub name: DocumentName,
    /// The SHA-256 of its text. What carnet wrote before its keys were replaced is known by that.
    pub sha256: String,
}

/// What to do about one document.
#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Leave,
    Write { over: Option<&'a Version> },
}

/// Makes `target` show `edition`: the JWKS first, then the discovery document, and of each only what is not
/// there yet. But in [`Mode::TakeOver`], nothing newer is overwritten, and nothing of another issuer.
///
/// # Errors
///
/// [`PublishError`]. The JWKS may have been written then, and the discovery document not: verifiers can live
/// with that.
pub async fn publish(target: &dyn Target, edition: &Edition, mode: Mode) -> Result<Published, PublishError> {
    let mut published = Published::default();
    publish_into(&mut published, target, edition, mode).await?;
    Ok(published)
}

/// As [`publish`], adding to `published`, which says what was done even if something fails.
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
        let Step::Write { over } = step else { return Ok(()) };
        match target.write(name, document, &edition.label_at(target.url(), name), over).await {
            Err(TargetError::Changed(_)) if attempt < ATTEMPTS => continue,
            outcome => outcome?,
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
    let is_current = stored.body == edition.document(name).body;
    if is_current && stored.headers_fit && stored.label.as_ref() == Some(&edition.label_at(target, name)) {
        return Ok(Step::Leave);
    }
    let write = Step::Write { over: Some(&stored.version) };
    match &stored.label {
        _ if mode == Mode::TakeOver => Ok(write),
        // Only an authentic label says which of two states is newer.
        Some(label) if edition.has_written(target, name, stored) => {
            let (there, ours) = (label.generation, edition.label.generation);
            if there > ours { Err(Conflict::Newer { document: name, there, ours }) } else { Ok(write) }
        }
        _ if mode == Mode::Update => Ok(write),
        Some(label) if label.issuer != edition.label.issuer => {
            Err(Conflict::OtherIssuer { document: name, issuer: label.issuer.clone() })
        }
        // Rewriting and labelling equal content loses nothing.
        _ if says_the_same(&stored.body, &edition.document(name).body) => Ok(write),
        Some(_) => Err(Conflict::Unauthentic(name)),
        None => Err(Conflict::Unlabelled(name)),
    }
}

/// Returns whether both documents have the same members, and the same keys in any order: an earlier version of carnet wrote
/// the same JWKS in another order.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let content = |body: &[u8]| -> Option<Value> {
        let mut value: Value = serde_json::from_slice(body).ok()?;
        // The text of a document is its members and nothing else: a member given twice would read otherwise elsewhere.
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
