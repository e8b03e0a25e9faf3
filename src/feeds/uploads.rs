//! Records an operator's confirmation that a key is in the JWKS uploaded to Google for a feed. carnet cannot
//! check this.

use std::sync::Arc;

use jiff::Timestamp;

use crate::audit::{Event, EventKind, Outcome};
use crate::feed::google::JwksSource;
use crate::feed::{Feed, FeedPath};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::missing_at;
use crate::signing_keys::rotation::{UnknownKey, safe_at};
use crate::signing_keys::{SigningKey, State};
use crate::store::vault::Vault;
use crate::store::{ReadTransaction, StoreError};
use crate::values::actor::Actor;
use crate::values::clock::Clock;

/// Records upload confirmations.
#[derive(Debug)]
pub struct Uploads {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
}

/// The result of confirming a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The key.
    pub kid: Kid,
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its state.
    pub state: State,
    /// The feeds whose uploaded JWKS contains the key.
    pub feeds: Vec<Confirmed>,
    /// The time from which a prepared key may sign; `None` while it still waits for something.
    pub safe_at: Option<Timestamp>,
    /// The names of the publications that a prepared key still waits for.
    pub waits_for: Vec<String>,
}

/// A feed whose uploaded JWKS contains the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The feed.
    pub feed: FeedPath,
    /// The time of the first confirmation.
    pub confirmed_at: Timestamp,
    /// Set if the key was confirmed earlier.
    pub already: bool,
}

/// Nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum UploadsError {
    /// There is no such key.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
    /// The key will never sign.
    #[error("the key {kid} is {} and will not sign: there is nothing to confirm", state.as_str())]
    WillNotSign {
        /// The key.
        kid: Kid,
        /// Its state.
        state: State,
    },
    /// There is no such feed.
    #[error("there is no feed {0}")]
    UnknownFeed(FeedPath),
    /// The feed's cloud fetches the JWKS from the issuer.
    #[error("feed {0} has no uploaded JWKS: its cloud fetches the keys from the issuer")]
    NotUploaded(FeedPath),
    /// The feed's tokens have another algorithm, so the key never signs for it.
    #[error("feed {feed} has the algorithm {of_feed}, but the key {kid} has {of_key}")]
    OtherAlgorithm {
        /// The feed.
        feed: FeedPath,
        /// Its algorithm.
        of_feed: Algorithm,
        /// The key.
        kid: Kid,
        /// Its algorithm.
        of_key: Algorithm,
    },
    /// No feed of this algorithm has an uploaded JWKS.
    #[error("no feed of the algorithm {0} has an uploaded JWKS: there is nothing to confirm")]
    NoFeeds(Algorithm),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uploads {
    /// Creates the service for the keys in `vault`, whose audit log must be unlocked.
    #[must_use]
    pub fn new(vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { vault, clock }
    }

    /// Returns the feeds for which [`Uploads::confirm`] would record `kid`: those named, or else all whose
    /// uploaded JWKS must contain it. Fails as [`Uploads::confirm`] does.
    pub async fn feeds(&self, kid: &Kid, named: &[FeedPath]) -> Result<Vec<FeedPath>, UploadsError> {
        let mut read = self.vault.store().read().await?;
        let stored = self.vault.keys_in(&mut read).await?;
        let (keys, now) = (stored.public(), self.clock.now().max(stored.settings.high_water));
        let feeds = feeds(&mut read, signing(&keys, kid, now)?, named).await?;
        Ok(feeds.iter().map(Feed::path).collect())
    }

    /// Records that the JWKS uploaded for these feeds contains `kid`; if `named` is empty, for all feeds
    /// whose uploaded JWKS must contain it. `actor` is the operator who confirms it. An earlier confirmation
    /// keeps its time.
    ///
    /// # Errors
    ///
    /// [`UploadsError`] if the key will not sign, or if a feed cannot have it in an uploaded JWKS. Nothing
    /// changes then.
    pub async fn confirm(
        &self,
        kid: &Kid,
        named: &[FeedPath],
        actor: &Actor,
    ) -> Result<Confirmation, UploadsError> {
        let mut write = self.vault.store().write().await?;
        let before = self.vault.keys_in(&mut write).await?;
        // With a clock that is behind, propagation would seem to have begun long ago.
        let now = self.clock.now().max(before.settings.high_water);
        let keys = before.public();
        let key = signing(&keys, kid, now)?;
        let known = write.uploaded_jwks().await?;
        let mut confirmed = Vec::new();
        let mut events = Vec::new();
        for feed in feeds(&mut write, key, named).await? {
            let path = feed.path();
            let confirmed_at = write.confirm_key(feed.id, kid, now).await?;
            let uploaded = known.iter().find(|uploaded| uploaded.feed == path);
            let already = uploaded.is_some_and(|uploaded| uploaded.confirmed.get(kid) == Some(&confirmed_at));
            if !already {
                let event = Event::new(EventKind::FeedConfirmJwks, Outcome::Done, actor);
                events.push(event.about_feed(&feed).about_key(kid.as_str()));
            }
            confirmed.push(Confirmed { feed: path, confirmed_at, already });
        }
        if !events.is_empty() {
            write.append_audit(now, &events).await?;
            write.bump_publications().await?;
        }
        let after = self.vault.keys_in(&mut write).await?;
        let keys = after.public();
        let key = signing(&keys, kid, now)?;
        let (algorithm, state) = (key.algorithm(), key.state(now));
        let is_prepared = state == State::Prepared;
        let safe_at = if is_prepared { safe_at(key, &after.settings.policy) } else { None };
        let waits_for = if is_prepared { missing_at(key, &after.locations) } else { Vec::new() };
        let waits_for = waits_for.into_iter().map(|location| location.name.clone()).collect();
        write.commit().await?;
        Ok(Confirmation { kid: kid.clone(), algorithm, state, feeds: confirmed, safe_at, waits_for })
    }
}

/// Returns the key if it is prepared or active.
fn signing<'a>(keys: &'a [SigningKey], kid: &Kid, now: Timestamp) -> Result<&'a SigningKey, UploadsError> {
    let key = keys.iter().find(|key| key.kid() == *kid).ok_or_else(|| UnknownKey(kid.clone()))?;
    match key.state(now) {
        State::Prepared | State::Active => Ok(key),
        state => Err(UploadsError::WillNotSign { kid: kid.clone(), state }),
    }
}

/// The feeds named, or all that wait for `key`.
async fn feeds(
    read: &mut ReadTransaction,
    key: &SigningKey,
    named: &[FeedPath],
) -> Result<Vec<Feed>, UploadsError> {
    let of_key = key.algorithm();
    if !named.is_empty() {
        let mut feeds: Vec<Feed> = Vec::new();
        for path in named {
            let feed = read.feed(path).await?.ok_or_else(|| UploadsError::UnknownFeed(path.clone()))?;
            if feed.provider.jwks() != JwksSource::Uploaded {
                return Err(UploadsError::NotUploaded(path.clone()));
            }
            if feed.alg != of_key {
                let (kid, of_feed) = (key.kid(), feed.alg);
                return Err(UploadsError::OtherAlgorithm { feed: path.clone(), of_feed, kid, of_key });
            }
            if !feeds.iter().any(|known| known.id == feed.id) {
                feeds.push(feed);
            }
        }
        return Ok(feeds);
    }
    let mut feeds = Vec::new();
    for uploaded in read.uploaded_jwks().await? {
        if uploaded.algorithm == of_key
            && let Some(feed) = read.feed(&uploaded.feed).await?
        {
            feeds.push(feed);
        }
    }
    if feeds.is_empty() { Err(UploadsError::NoFeeds(of_key)) } else { Ok(feeds) }
}
