//! The publisher: keeps one copy of the documents what the issuer publishes.
//!
//! A change of keys is written at once, and again and again until it stands there; meanwhile the rotation waits,
//! because no key signs before the copy has shown it for long enough. Once a minute the copy is compared,
//! byte by byte. What somebody else has put there is overwritten, recorded and reported.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::records::{Found, Records};
use super::write::publish_into;
use super::{Conflict, Edition, Mode, PublishError, Published, Target, publish};
use crate::issuer::{Issuer, KeyStateError, STALE_AFTER};
use crate::jose::jwk::{Kid, kids_in};
use crate::metrics::PublicationOutcome;
use crate::signing_keys::publication::Generation;
use crate::store::StoreError;
use crate::values::clock::Clock;
use crate::values::target_url::TargetUrl;

/// A change is written after at most this long.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The copy is compared this often.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// What has failed is tried again after this long, then after twice as long, and so on,
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// up to this long.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Keeps one place up to date.
#[derive(Debug)]
pub struct Publisher {
    target: Arc<dyn Target>,
    issuer: Arc<Issuer>,
    records: Records,
    clock: Arc<dyn Clock>,
    /// What this process knows to stand there.
    shown: Option<Generation>,
    compare_at: Duration,
    failures: u32,
    /// What has failed is not tried again before then.
    not_before: Duration,
    /// What has failed.
    tried: Option<Generation>,
}

/// A place cannot be taken into use.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// It does not take the documents.
    #[error("{target} cannot be published at")]
    Publish {
        /// The place.
        target: TargetUrl,
        /// Why.
        #[source]
        source: PublishError,
    },
    /// The database would not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One look has failed; the next one tries again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("what stands there could not be recorded")]
    Store(#[from] StoreError),
    #[error("the labels there could not be judged, because the key state could not be read")]
    KeyState(#[from] KeyStateError),
    #[error("the keys were changed meanwhile")]
    Outdated,
}

impl Publisher {
    /// Takes `target` into use: writes the documents there, unless it is in use already, and only then has keys
    /// wait for it. So a place that cannot be written never holds up an issuer that works.
    ///
    /// # Errors
    ///
    /// [`BeginError`]; no key waits for the place then.
    pub async fn begin(
        target: Arc<dyn Target>,
        issuer: Arc<Issuer>,
        records: Records,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BeginError> {
        let url = target.url().clone();
        let is_registered = records.targets().await?.iter().any(|known| known.target == url);
        let mut shown = None;
        if !is_registered {
            let edition = Edition::of(&issuer);
            let published = publish(target.as_ref(), &edition, Mode::First).await;
            published.map_err(|source| BeginError::Publish { target: url.clone(), source })?;
            records.register(&url, &edition).await?;
            shown = Some(edition.label.generation);
            // Shown at once; if the database does not answer now, the maintenance task asks again.
            let _ = issuer.refresh().await;
            tracing::info!(target = %url, "published; from now on every key waits to be shown there");
        }
        let (compare_at, not_before) = (Duration::ZERO, Duration::ZERO);
        Ok(Self { target, issuer, records, clock, shown, compare_at, failures: 0, not_before, tried: None })
    }

    /// Keeps the copy up to date; never returns. May be dropped at any time.
    pub async fn run(&mut self) {
        loop {
            self.look().await;
            self.clock.sleep_until(self.clock.monotonic() + LOOK_EVERY).await;
        }
    }

    /// One look: writes if something has changed, compares if it is time to.
    pub async fn look(&mut self) {
        let now = self.clock.monotonic();
        let edition = Edition::of(&self.issuer);
        let generation = edition.label.generation;
        let is_due = self.shown != Some(generation) || self.compare_at <= now;
        // Another change, such as a revocation, does not wait for what has failed before it.
        let must_wait = now < self.not_before && self.tried == Some(generation);
        // What has not been confirmed may be older than what stands there.
        if !is_due || must_wait || self.issuer.unconfirmed_for() > STALE_AFTER {
            return;
        }
        let is_first = self.tried.replace(generation) != Some(generation);
        match self.bring_up_to_date(&edition).await {
            Ok(()) => self.works(&edition, now),
            Err(LookError::Publish(PublishError::Conflict(Conflict::Newer { there, .. })))
                if there.keys == generation.keys =>
            {
                // Another server's clock is a little ahead: it has pruned what this one will in a moment.
                self.works(&edition, now);
            }
            Err(LookError::Publish(PublishError::Conflict(Conflict::Newer { .. }))) if is_first => {
                // Another server has seen a change first; this one sees it before it looks again.
                self.not_before = now + FIRST_WAIT;
            }
            // The next look sees the change.
            Err(LookError::Outdated) => {}
            Err(error) => self.failed(&error, now).await,
        }
    }

    async fn bring_up_to_date(&mut self, edition: &Edition) -> Result<(), LookError> {
        let published = self.publish(edition).await?;
        let was_shown = self.shown == Some(edition.label.generation);
        if published.written.is_empty() && was_shown {
            return Ok(self.records.works(self.target.url()).await?);
        }
        let lacked = lacked(&published, edition);
        // Forgotten before it is recorded: if that fails, the next look records it.
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
                "the published copy was changed by something other than carnet and has been overwritten: whoever may \
                 write there is the issuer"
            );
        } else if !published.written.is_empty() {
            metrics.publication(PublicationOutcome::Written);
            tracing::info!(target = %self.target.url(), generation = %edition.label.generation, "published");
        }
        Ok(())
    }

    /// Writes what is missing. What carries no authentic label is overwritten only after the database has confirmed
    /// the key state: labels of keys that this process has not seen yet are not foreign.
    async fn publish(&self, edition: &Edition) -> Result<Published, LookError> {
        let (mut published, target) = (Published::default(), self.target.as_ref());
        match publish_into(&mut published, target, edition, Mode::First).await {
            Err(PublishError::Conflict(conflict)) if conflict.is_foreign() => {}
            outcome => return Ok(outcome.map(|()| published)?),
        }
        self.issuer.refresh().await?;
        if Edition::of(&self.issuer).label != edition.label {
            return Err(LookError::Outdated);
        }
        publish_into(&mut published, target, edition, Mode::Update).await?;
        Ok(published)
    }

    fn works(&mut self, edition: &Edition, now: Duration) {
        self.shown = Some(edition.label.generation);
        self.compare_at = now + COMPARE_EVERY;
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
            "not published; until it is, no key that it does not show begins to sign"
        );
        self.issuer.metrics().keys.publication(PublicationOutcome::Failed);
        let (name, text) = (self.target.url().to_string(), error.to_string());
        self.issuer.note_health(|health| drop(health.publication_errors.insert(name, text.clone())));
        if let Err(error) = self.records.failed(self.target.url(), &text).await {
            tracing::warn!(error = &error as &dyn Error, "the failure to publish could not be recorded");
        }
    }
}

/// The keys of `edition` that the JWKS in whose place it was written did not hold: all of them, if that was no JWKS.
/// Where nothing stood, nobody has fetched a JWKS that lacks a key.
pub(crate) fn lacked(published: &Published, edition: &Edition) -> Vec<Kid> {
    let Some(stored) = &published.replaced_jwks else { return Vec::new() };
    let held = kids_in(&stored.body);
    edition.kids.iter().filter(|kid| !held.contains(*kid)).cloned().collect()
}
