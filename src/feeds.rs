//! Adding, changing and removing feeds: the rules that need the database.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::actor::Actor;
use crate::audit::members::{differing, listed};
use crate::audit::{Event, EventKind, Outcome};
use crate::clock::Clock;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedError, FeedPath};
use crate::random::{Random, RandomnessUnavailable, uuid};
use crate::store::{Store, StoreError, Write};

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
    /// The feeds in `store`, which must have been unlocked: every change is recorded in the audit log.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { store, clock, random }
    }

    /// Adds a feed, and its space if that is new; `actor` is who does it.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn add(&self, draft: FeedDraft, reuse: ReuseSlug, actor: &Actor) -> Result<Feed, FeedsError> {
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
        tell_keys(&mut write, None, Some(&feed)).await?;
        let event = Event::new(EventKind::FeedAdd, Outcome::Done, actor).about_feed(&feed);
        write.append_audit(feed.created_at, &[event.detail(&listed(&members(&feed)))]).await?;
        write.commit().await?;
        Ok(feed)
    }

    /// Changes a feed; `actor` is who does it.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn update(
        &self,
        path: &FeedPath,
        changes: impl FnOnce(&Feed) -> FeedChanges,
        reuse: ReuseSlug,
        actor: &Actor,
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
        // Nobody has said what another provider's JWKS holds, or what somebody has uploaded since.
        if before.provider.uploaded_to() != after.provider.uploaded_to() {
            write.forget_confirmed_keys(after.id).await?;
        }
        write.update_feed(&after).await?;
        tell_keys(&mut write, Some(&before), Some(&after)).await?;
        let event = Event::new(EventKind::FeedUpdate, Outcome::Done, actor).about_feed(&after);
        write.append_audit(after.updated_at, &[event.detail(&difference(&before, &after))]).await?;
        write.commit().await?;
        Ok(after)
    }

    /// Removes a feed, leaving a mark of its name; `actor` is who does it.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    pub async fn remove(&self, path: &FeedPath, actor: &Actor) -> Result<Feed, FeedsError> {
        let mut write = self.store.write().await?;
        let feed = write.feed(path).await?.ok_or_else(|| FeedsError::Unknown(path.clone()))?;
        let now = self.clock.now();
        write.remove_feed(&feed, now).await?;
        tell_keys(&mut write, Some(&feed), None).await?;
        let event = Event::new(EventKind::FeedRemove, Outcome::Done, actor).about_feed(&feed);
        write.append_audit(now, &[event]).await?;
        write.commit().await?;
        Ok(feed)
    }
}

/// Keys wait for the JWKS uploaded for a feed: has every process look again at what they wait for, if that changes.
async fn tell_keys(write: &mut Write, before: Option<&Feed>, after: Option<&Feed>) -> Result<(), StoreError> {
    let waited_for =
        |feed: Option<&Feed>| feed.and_then(|feed| Some((feed.provider.uploaded_to()?.clone(), feed.alg)));
    if waited_for(before) == waited_for(after) { Ok(()) } else { write.bump_publications().await }
}

/// What a feed is, but for when it was made and changed, which its record says.
fn members(feed: &Feed) -> Value {
    let mut members = serde_json::to_value(feed).unwrap_or_default();
    if let Some(members) = members.as_object_mut() {
        for told in ["created_at", "updated_at"] {
            members.remove(told);
        }
    }
    members
}

/// `version 3: audience "a" → "b", …`: every member that has changed.
fn difference(before: &Feed, after: &Feed) -> String {
    format!("version {}: {}", after.version, differing(&members(before), &members(after)))
}
