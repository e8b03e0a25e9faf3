//! The publisher: keeps the copy at one target up to date.
//!
//! A change of keys is written at once and retried until it succeeds. Meanwhile the rotation waits, because
//! no key signs before the copy has shown it for long enough. Once a minute the publisher compares the copy
//! byte by byte. If another program has changed it, the publisher overwrites it, records the change and
//! reports it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::records::{Found, Records};
use super::target::{DocumentName, TargetError};
use super::write::publish_into;
use super::{Conflict, Edition, Mode, PublishError, Published, Target, publish};
use crate::issuer::{Issuer, KeyStateError, STALE_AFTER};
use crate::jose::jwk::{Kid, kids_in};
use crate::metrics::PublicationOutcome;
use crate::signing_keys::publication::Generation;
use crate::store::StoreError;
use crate::values::clock::Clock;
use crate::values::target_url::TargetUrl;

/// The maximum delay before a change is written.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The minimum interval between two writes of a label alone.
const RELABEL_EVERY: Duration = Duration::from_secs(1);
/// The timeout for reading the labels of a target at the start.
const ASKED_WITHIN: Duration = Duration::from_secs(10);
/// The interval between comparisons of the copy.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// The delay before the first retry. It doubles with every further failure,
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// up to this maximum.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Keeps one target up to date.
#[derive(Debug)]
pub struct Publisher {
    target: Arc<dyn Target>,
    issuer: Arc<Issuer>,
    records: Records,
    clock: Arc<dyn Clock>,
    /// The generation that this process knows the target to show.
    shown: Option<Generation>,
    /// The state that the labels there remember, as far as this process has written or compared them.
    labelled: Option<String>,
    /// The earliest time at which a label alone is written again.
    relabel_at: Duration,
    /// `true` once the database was checked against the labels there.
    is_checked: bool,
    compare_at: Duration,
    failures: u32,
    /// The earliest time for a retry of `tried`.
    not_before: Duration,
    /// The generation whose last attempt failed.
    tried: Option<Generation>,
}

/// The reasons why a target could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The documents could not be published there.
    #[error("{target} cannot be published at")]
    Publish {
        /// The target.
        target: TargetUrl,
        /// The reason.
        #[source]
        source: PublishError,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reasons why one attempt failed. The next one tries again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the published documents could not be recorded")]
    Store(#[from] StoreError),
    #[error("the database does not have the state that a label there remembers")]
    Labels(#[source] StoreError),
    #[error("the labels there could not be checked, because the key state could not be read")]
    KeyState(#[from] KeyStateError),
    #[error("the keys were changed in the meantime")]
    Outdated,
}

impl Publisher {
    /// Checks the database against the labels at `target`, whatever else remembers its state. If the target cannot
    /// be read, that is done before the first write there. Then registers `target`: publishes the documents there, unless it is registered already, and only then
    /// makes keys wait for it. So a target that cannot be written never blocks a working issuer.
    pub async fn begin(
        target: Arc<dyn Target>,
        issuer: Arc<Issuer>,
        records: Records,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BeginError> {
        let url = target.url().clone();
        let edition = Edition::of(&issuer);
        let checking = check_labels(target.as_ref(), &edition, &records);
        let mut is_checked = match tokio::time::timeout(ASKED_WITHIN, checking).await {
            Ok(Ok(())) => true,
            Ok(Err(CheckError::Store(error))) => return Err(error.into()),
            Ok(Err(CheckError::Target(error))) => {
                tracing::warn!(error = &error as &dyn Error, target = %url, "{UNCHECKED}");
                false
            }
            Err(_) => {
                tracing::warn!(target = %url, "{UNCHECKED}: no response within {ASKED_WITHIN:?}");
                false
            }
        };
        let is_registered = records.targets().await?.iter().any(|known| known.target == url);
        let mut shown = None;
        if !is_registered {
            let edition = Edition::of(&issuer);
            if !is_checked {
                check_labels(target.as_ref(), &edition, &records).await.map_err(|error| match error {
                    CheckError::Store(error) => BeginError::Store(error),
                    CheckError::Target(error) => {
                        BeginError::Publish { target: url.clone(), source: error.into() }
                    }
                })?;
                is_checked = true;
            }
            let published = publish(target.as_ref(), &edition, Mode::First).await;
            published.map_err(|source| BeginError::Publish { target: url.clone(), source })?;
            records.register(&url, &edition).await?;
            shown = Some(edition.label.generation);
            // Makes the change visible at once. If the database fails now, the next refresh does it.
            let _ = issuer.refresh().await;
            tracing::info!(target = %url, "published; from now on every key waits to be published there");
        }
        Ok(Self {
            target,
            issuer,
            records,
            clock,
            shown,
            labelled: None,
            relabel_at: Duration::ZERO,
            is_checked,
            compare_at: Duration::ZERO,
            failures: 0,
            not_before: Duration::ZERO,
            tried: None,
        })
    }

    /// Runs the loop that keeps the copy up to date. It never returns; the future may be dropped at any time.
    pub async fn run(&mut self) {
        loop {
            self.check_target().await;
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
        }
    }

    /// Runs one step: writes after a change, and compares when a comparison is due.
    pub async fn check_target(&mut self) {
        let now = self.clock.monotonic();
        let edition = Edition::of(&self.issuer);
        let generation = edition.label.generation;
        let is_relabelled =
            edition.label.state.is_none() || self.labelled == edition.label.state || now < self.relabel_at;
        let is_due = self.shown != Some(generation) || self.compare_at <= now || !is_relabelled;
        // A different generation, for example after a revocation, does not wait for the backoff of the failed
        // one.
        let must_wait = now < self.not_before && self.tried == Some(generation);
        // A key state that has not been confirmed may be older than the published one.
        if !is_due || must_wait || self.issuer.unconfirmed_for() > STALE_AFTER {
            return;
        }
        let is_first = self.tried.replace(generation) != Some(generation);
        match self.bring_up_to_date(&edition).await {
            Ok(()) => self.works(&edition, now),
            Err(LookError::Publish(PublishError::Conflict(Conflict::Newer { there, .. })))
                if there.keys == generation.keys =>
            {
                // Another server's clock is slightly ahead: it has pruned keys that this server prunes in a
                // moment.
                self.works(&edition, now);
            }
            Err(LookError::Publish(PublishError::Conflict(Conflict::Newer { .. }))) if is_first => {
                // Another server has seen a change first. This one sees it before the next attempt.
                self.not_before = now + FIRST_WAIT;
            }
            // The next step sees the change.
            Err(LookError::Outdated) => {}
            Err(error) => self.failed(&error, now).await,
        }
    }

    async fn bring_up_to_date(&mut self, edition: &Edition) -> Result<(), LookError> {
        if !self.is_checked {
            check_labels(self.target.as_ref(), edition, &self.records).await?;
            self.is_checked = true;
        }
        let published = self.publish(edition).await?;
        let was_shown = self.shown == Some(edition.label.generation);
        if published.written.is_empty() && was_shown {
            // A change of grants renews the label, and need not write to the database for that.
            if self.failures > 0 || self.compare_at <= self.clock.monotonic() {
                self.records.works(self.target.url()).await?;
            }
            return Ok(());
        }
        let lacked = lacked(&published, edition);
        // Cleared before the database write: if that fails, the next step records the change.
        self.shown = None;
        let found = Found { lacked: &lacked, foreign: &published.foreign, was_shown };
        let was_altered = self.records.shows(self.target.url(), edition, found).await?;
        let metrics = &self.issuer.metrics().keys;
        if was_altered {
            metrics.publication(PublicationOutcome::Altered);
            tracing::error!(
                target = %self.target.url(),
                lacked = lacked.len(),
                foreign = published.foreign.len(),
                "the published copy was changed by something other than carnet and has been overwritten: \
                 anyone with write access there can publish keys as this issuer"
            );
        } else if !published.written.is_empty() {
            metrics.publication(PublicationOutcome::Written);
            tracing::info!(target = %self.target.url(), generation = %edition.label.generation, "published");
        }
        Ok(())
    }

    /// Writes the documents that differ. Overwrites a document without an authentic label only after the
    /// database has confirmed the key state: a label made with keys that this process has not seen yet is not
    /// foreign.
    async fn publish(&self, edition: &Edition) -> Result<Published, LookError> {
        let (mut published, target) = (Published::default(), self.target.as_ref());
        match publish_into(&mut published, target, edition, Mode::First).await {
            Err(PublishError::Conflict(conflict)) if conflict.is_foreign() => {}
            outcome => return Ok(outcome.map(|()| published)?),
        }
        self.issuer.refresh().await?;
        if Edition::of(&self.issuer).label.generation != edition.label.generation {
            return Err(LookError::Outdated);
        }
        publish_into(&mut published, target, edition, Mode::Update).await?;
        Ok(published)
    }

    fn works(&mut self, edition: &Edition, now: Duration) {
        self.shown = Some(edition.label.generation);
        self.labelled.clone_from(&edition.label.state);
        (self.compare_at, self.relabel_at) = (now + COMPARE_EVERY, now + RELABEL_EVERY);
        (self.failures, self.not_before, self.tried) = (0, Duration::ZERO, None);
        let name = self.target.url().to_string();
        if self.issuer.health().publication_errors.contains_key(&name) {
            tracing::info!(target = %name, "publishing works again");
            self.issuer.note_health(|health| drop(health.publication_errors.remove(&name)));
        }
    }

    async fn failed(&mut self, error: &LookError, now: Duration) {
        self.not_before = now + (FIRST_WAIT * (1 << self.failures.min(6))).min(LONGEST_WAIT);
        self.failures += 1;
        tracing::error!(
            error = error as &dyn Error,
            target = %self.target.url(),
            failures = self.failures,
            "not published; until it is, no key that is missing there begins to sign"
        );
        self.issuer.metrics().keys.publication(PublicationOutcome::Failed);
        let (name, text) = (self.target.url().to_string(), error.to_string());
        self.issuer.note_health(|health| drop(health.publication_errors.insert(name, text.clone())));
        if let Err(error) = self.records.failed(self.target.url(), &text).await {
            tracing::warn!(error = &error as &dyn Error, "the failure to publish could not be recorded");
        }
    }
}

const UNCHECKED: &str = "the labels there could not be read, so they do not show yet whether the database is an older one; \
                         they are read again before anything is written there";

/// The reasons why a database could not be checked against the labels at a target.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The target cannot be read.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The database does not have the state that a label remembers, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CheckError> for LookError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Target(error) => Self::Publish(error.into()),
            CheckError::Store(error) => Self::Labels(error),
        }
    }
}

/// Checks that the database has had every state that an authentic label at `target` remembers.
pub(crate) async fn check_labels(
    target: &dyn Target,
    edition: &Edition,
    records: &Records,
) -> Result<(), CheckError> {
    for name in DocumentName::ALL {
        let Some(stored) = target.read(name, edition.document(name)).await? else { continue };
        if let Some(state) = edition.remembered(target.url(), name, &stored) {
            records.prove_state(&state, target.url()).await?;
        }
    }
    Ok(())
}

/// Returns the keys of `edition` that the overwritten JWKS lacked; all keys, if the text was no JWKS. Returns
/// none if no JWKS existed, because then nobody has fetched one that lacks a key.
pub(crate) fn lacked(published: &Published, edition: &Edition) -> Vec<Kid> {
    let Some(stored) = &published.replaced_jwks else { return Vec::new() };
    let held = kids_in(&stored.body);
    edition.kids.iter().filter(|kid| !held.contains(*kid)).cloned().collect()
}
