//! Adding, changing and removing feeds: the rules that need the database.

use std::sync::Arc;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedError, FeedPath};
use crate::random::{Random, RandomnessUnavailable, uuid};
use crate::store::{Store, StoreError};

/// Keeps the feeds of one database.
#[derive(Debug, Clone)]
pub struct Feeds {
    store: Store,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// Whether a feed may take the name of a removed one, and with it the trust that clouds still have in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseSlug {
    /// Refuse.
    Refuse,
    /// Somebody has said that this is what is wanted.
    Accept,
}

/// Feeds were not changed.
#[derive(Debug, thiserror::Error)]
pub enum FeedsError {
    /// There is no such feed.
    #[error("there is no feed {0}")]
    Unknown(FeedPath),
    /// The name is taken.
    #[error("there is a feed {0} already")]
    Taken(FeedPath),
    /// Clouds may still trust the subject of a removed feed of this name.
    #[error(
        "slug: a feed {path} was removed on {removed_at}, and its subject would be this feed's subject too: every \
         cloud that still trusts the removed feed would trust this one"
    )]
    SlugReused {
        /// The name.
        path: FeedPath,
        /// When the earlier feed was removed.
        removed_at: Timestamp,
    },
    /// The feed breaks a rule.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The database would not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No identifier for a new feed.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

impl Feeds {
    /// The feeds in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { store, clock, random }
    }

    /// Adds a feed, and its space if that is new.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn add(&self, draft: FeedDraft, reuse: ReuseSlug) -> Result<Feed, FeedsError> {
        let id = uuid(self.random.as_ref())?;
        let mut write = self.store.write().await?;
        let longest = write.key_settings().await?.policy.max_token_lifetime();
        let feed = Feed::new(draft, id, longest, self.clock.now())?;
        let path = feed.path();
        if write.feed(&path).await?.is_some() {
            return Err(FeedsError::Taken(path));
        }
        if let (ReuseSlug::Refuse, true) = (reuse, feed.trust_follows_the_slug())
            && let Some(removed_at) = write.feed_removed_at(&path).await?
        {
            return Err(FeedsError::SlugReused { path, removed_at });
        }
        write.insert_feed(&feed).await?;
        write.commit().await?;
        Ok(feed)
    }

    /// Changes a feed.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn update(
        &self,
        path: &FeedPath,
        changes: impl FnOnce(&Feed) -> FeedChanges,
        reuse: ReuseSlug,
    ) -> Result<Feed, FeedsError> {
        let mut write = self.store.write().await?;
        let longest = write.key_settings().await?.policy.max_token_lifetime();
        let before = write.feed(path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
        let after = before.changed(changes(&before), longest, self.clock.now())?;
        let starts_to_follow = after.trust_follows_the_slug() && !before.trust_follows_the_slug();
        if reuse == ReuseSlug::Refuse
            && starts_to_follow
            && let Some(removed_at) = write.feed_removed_at(path).await?
        {
            return Err(FeedsError::SlugReused { path: path.clone(), removed_at });
        }
        write.update_feed(&after).await?;
        write.commit().await?;
        Ok(after)
    }

    /// Removes a feed, leaving a mark of its name.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn remove(&self, path: &FeedPath) -> Result<Feed, FeedsError> {
        let mut write = self.store.write().await?;
        let feed = write.feed(path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
        write.remove_feed(&feed, self.clock.now()).await?;
        write.commit().await?;
        Ok(feed)
    }
}
