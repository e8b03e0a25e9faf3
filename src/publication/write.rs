//! Bringing a target up to date: what to write over what, and in which order.

use super::edition::Edition;
use super::target::{DocumentName, Label, Stored, Target, TargetError, Version};
use crate::issuer_url::IssuerUrl;
use crate::signing_keys::publication::Generation;

/// Somebody else writes there at the same moment: this often everything is looked at again.
const ATTEMPTS: usize = 4;

/// What may be overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// What this issuer published earlier.
    First,
    /// That, and what somebody has put into its place: the target is known to be this issuer's.
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
    /// Another issuer's.
    #[error("{document} there belongs to the issuer {issuer}")]
    OtherIssuer {
        /// What was to be written.
        document: DocumentName,
        /// Whose it is.
        issuer: IssuerUrl,
    },
    /// Not known to be any issuer's.
    #[error("{0} there was not written by carnet")]
    Unlabelled(DocumentName),
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
    /// Whether a document there was none that this issuer ever published: it carried no label, or that of
    /// `edition` over another text.
    pub was_altered: bool,
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
    for name in DocumentName::ALL {
        bring_up_to_date(target, edition, mode, name, &mut published).await?;
    }
    Ok(published)
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
        let Step::Write { over } = decide(stored.as_ref(), edition, name, mode)? else { return Ok(()) };
        match target.write(name, document, &edition.label, over).await {
            Err(TargetError::Changed(_)) if attempt < ATTEMPTS => continue,
            outcome => outcome?,
        }
        published.written.push(name);
        if let Some(stored) = stored.filter(|stored| stored.body != document.body) {
            published.was_altered |= stored.label.as_ref().is_none_or(|label| *label == edition.label);
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
    name: DocumentName,
    mode: Mode,
) -> Result<Step<'a>, Conflict> {
    let Some(stored) = stored else { return Ok(Step::Write { over: None }) };
    let is_ours = stored.body == edition.document(name).body && stored.headers_fit;
    if is_ours && stored.label.as_ref() == Some(&edition.label) {
        return Ok(Step::Leave);
    }
    let write = Step::Write { over: Some(&stored.version) };
    match &stored.label {
        _ if mode == Mode::TakeOver => Ok(write),
        Some(Label { issuer, .. }) if *issuer != edition.label.issuer => {
            Err(Conflict::OtherIssuer { document: name, issuer: issuer.clone() })
        }
        Some(Label { generation, .. }) if *generation > edition.label.generation => {
            let (there, ours) = (*generation, edition.label.generation);
            Err(Conflict::Newer { document: name, there, ours })
        }
        Some(_) => Ok(write),
        // The same text loses nothing by being labelled.
        None if mode == Mode::Update || stored.body == edition.document(name).body => Ok(write),
        None => Err(Conflict::Unlabelled(name)),
    }
}

#[cfg(test)]
mod tests;
