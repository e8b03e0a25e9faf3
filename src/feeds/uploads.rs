//! Saying that a key stands in the JWKS uploaded to Google for a feed: nobody but who uploads it can know.

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

/// Takes down what is uploaded.
#[derive(Debug)]
pub struct Uploads {
    vault: Arc<Vault>,
    clock: Arc<dyn Clock>,
}

/// What was said of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The key.
    pub kid: Kid,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// What it does.
    pub state: State,
    /// The feeds in whose uploaded JWKS it stands.
    pub feeds: Vec<Confirmed>,
    /// When a prepared key may sign; `None` while it waits for something else.
    pub safe_at: Option<Timestamp>,
    /// The places that a prepared key still waits for.
    pub waits_for: Vec<String>,
}

/// A feed in whose uploaded JWKS a key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmed {
    /// The feed.
    pub feed: FeedPath,
    /// When that was first said.
    pub confirmed_at: Timestamp,
    /// Whether it was said before.
    pub already: bool,
}

/// Nothing was taken down.
#[derive(Debug, thiserror::Error)]
pub enum UploadsError {
    /// There is no such key.
    #[error(transparent)]
    UnknownKey(#[from] UnknownKey),
    /// The key will never sign.
    #[error("the key {kid} is {}, and will not sign: there is nothing to confirm", state.as_str())]
    WillNotSign {
        /// The key.
        kid: Kid,
        /// What it is.
        state: State,
    },
    /// There is no such feed.
    #[error("there is no feed {0}")]
    UnknownFeed(FeedPath),
    /// No JWKS is uploaded for the feed.
    #[error("feed {0} has no uploaded JWKS: its cloud fetches the keys from the issuer")]
    NotUploaded(FeedPath),
    /// The key never signs for the feed.
    #[error("feed {feed} has the algorithm {of_feed}, and the key {kid} is one of {of_key}")]
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
    /// Nobody uploads keys of this algorithm.
    #[error("no feed of the algorithm {0} has an uploaded JWKS: there is nothing to confirm")]
    NoFeeds(Algorithm),
    /// The database would not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uploads {
    /// What is uploaded of the keys in `vault`, whose audit log must have been unlocked.
    #[must_use]
    pub fn new(vault: Arc<Vault>, clock: Arc<dyn Clock>) -> Self {
        Self { vault, clock }
    }

    /// The feeds that [`Uploads::confirm`] would note `kid` for: those named, or else all whose uploaded JWKS must
    /// hold it.
    ///
    /// # Errors
    ///
    /// [`UploadsError`] as [`Uploads::confirm`].
    pub async fn feeds(&self, kid: &Kid, named: &[FeedPath]) -> Result<Vec<FeedPath>, UploadsError> {
        let mut write = self.vault.store().write().await?;
        let keys = self.vault.keys_in(&mut write).await?.public();
        let key = signing(&keys, kid, self.clock.now())?;
        let feeds = feeds(&mut write, key, named).await?;
        Ok(feeds.iter().map(Feed::path).collect())
    }

    /// Notes that `kid` stands in the JWKS uploaded for these feeds, or for all whose uploaded JWKS must hold it.
    /// What was said before stays as it was said first; `actor` is who says it.
    ///
    /// # Errors
    ///
    /// [`UploadsError`]: the key will not sign, or a feed takes no upload of it. Nothing has changed then.
    pub async fn confirm(
        &self,
        kid: &Kid,
        named: &[FeedPath],
        actor: &Actor,
    ) -> Result<Confirmation, UploadsError> {
        let mut write = self.vault.store().write().await?;
        let before = self.vault.keys_in(&mut write).await?;
        // By a clock that is behind, propagation would seem to have begun long ago.
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
        let waits_for = if is_prepared { missing_at(key, &after.places) } else { Vec::new() };
        let waits_for = waits_for.into_iter().map(|place| place.name.clone()).collect();
        write.commit().await?;
        Ok(Confirmation { kid: kid.clone(), algorithm, state, feeds: confirmed, safe_at, waits_for })
    }
}

/// The key, if it signs or will.
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
