//! Adds, changes and removes feeds, by the rules that need the database.
//!
//! Every change is made for a [`Principal`] and confirmed in the same transaction. So a change that the
//! principal's grant does not allow is refused here, for every interface.

mod rules;
pub mod uploads;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

pub use self::rules::FeedNote;
use self::rules::{check_hosts, check_marks, check_registry, check_room, check_subject, named};
use crate::access::principal::{Confirmed, Principal, PrincipalError};
use crate::audit::members::{differing, listed};
use crate::audit::{Event, EventKind, Outcome};
use crate::clock_watch::ClockWatch;
use crate::exchange::address::AddressError;
use crate::feed::{Feed, FeedChanges, FeedDraft, FeedError, FeedPath};
use crate::grant::FeedRefusal;
use crate::signing_keys::clock_guard::ClockDoubt;
use crate::store::{ReadTransaction, StoreError, Transaction, Trusted};
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::{Random, RandomnessUnavailable, uuid};

/// The feeds of one database.
#[derive(Debug, Clone)]
pub struct Feeds {
    store: Trusted,
    watch: Arc<ClockWatch>,
    random: Arc<dyn Random>,
}

/// The other feeds' trust that a feed may share or inherit by explicit request. Only principals without
/// limits may set these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Allows a subject that another feed of the space can have.
    pub share_subject: bool,
    /// Allows a subject that a removed feed had, and thus inherits any trust that clouds still have in it.
    pub reuse_slug: bool,
}

impl Sharing {
    /// Neither shares nor inherits trust.
    pub const NOTHING: Self = Self { share_subject: false, reuse_slug: false };
}

/// A feed that was added or changed.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The feed as it is now.
    pub feed: Feed,
    /// The consequences for trust and for callers.
    pub notes: Vec<FeedNote>,
}

/// The feeds were not changed.
#[derive(Debug, thiserror::Error)]
pub enum FeedsError {
    /// There is no such feed.
    #[error("there is no feed {0}")]
    Unknown(FeedPath),
    /// A feed of this name exists.
    #[error("there is a feed {0} already")]
    Taken(FeedPath),
    /// Another feed of the space can have the subject.
    #[error(
        "subject_keys: {path} could have the same subject as {}: every cloud that trusts one would trust the \
         other",
        named(with)
    )]
    SubjectShared {
        /// The feed to be added or changed.
        path: FeedPath,
        /// Some of the feeds that can have the same subject.
        with: Vec<FeedPath>,
        /// Set if the principal has limits, and so may not share the subject.
        is_limited: bool,
    },
    /// Clouds may still trust the subject of a removed feed, or a former subject of an existing one.
    #[error(
        "{}: {path} could have a subject that {from} had until {removed_at}: every cloud that still trusts \
         that feed would trust this one",
        if path == from { "slug" } else { "subject_keys" }
    )]
    SlugReused {
        /// The feed to be added or changed.
        path: FeedPath,
        /// The feed that had the subject.
        from: FeedPath,
        /// The time at which that feed was removed or got another subject.
        removed_at: Timestamp,
        /// Set if the principal has limits, and so may not inherit the subject.
        is_limited: bool,
    },
    /// A principal with limits wants the registry of a feed outside its limits. The error does not name that
    /// feed.
    #[error(
        "registry: a grant with limits cannot give a feed this registry, because look-ups by registry would \
         then find several feeds"
    )]
    RegistryElsewhere,
    /// carnet itself would accept the feed's tokens.
    #[error("audience: it lies at or below the issuer URL {0}, where carnet's own tokens would be accepted")]
    OwnAudience(IssuerUrl),
    /// The feed names a host to which no token is ever sent.
    #[error("{field}: {error}")]
    Address {
        /// `registry`, or `endpoints.` and a name.
        field: String,
        /// The host and the rule.
        error: AddressError,
    },
    /// The maximum number is reached.
    #[error("there are already {most} {what}, the maximum for this caller")]
    TooMany {
        /// The things that are counted.
        what: &'static str,
        /// Their maximum number.
        most: i64,
    },
    /// The principal's grant does not allow this change.
    #[error(transparent)]
    Refused(#[from] FeedRefusal),
    /// The principal's grant allows no such change, or has ended.
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    /// The feed breaks a rule.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// This machine's clock is not trusted.
    #[error("{0}; no feed can be made while the clock is in doubt")]
    Clock(ClockDoubt),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness for a new feed's id.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

impl Feeds {
    /// Creates the service for the feeds in `store`. Every change is recorded in the audit log.
    #[must_use]
    pub fn new(store: Trusted, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self::watched(store, Arc::new(ClockWatch::new(clock)), random)
    }

    /// As [`Feeds::new`], with an existing clock watch.
    pub(crate) fn watched(store: Trusted, watch: Arc<ClockWatch>, random: Arc<dyn Random>) -> Self {
        Self { store, watch, random }
    }

    /// Returns the feed at `path`, or `None` if there is no such feed.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read, or the row was not written by carnet.
    pub async fn get(&self, path: &FeedPath) -> Result<Option<Feed>, StoreError> {
        self.store.feed(path).await
    }

    /// Adds a feed, and its space if that is new, for the principal `by`.
    ///
    /// # Errors
    ///
    /// [`FeedsError`]; nothing has changed then.
    /// Adds a feed for the principal `by`, and its space if that is new. On an error, nothing has changed.
    pub async fn add(
        &self,
        draft: FeedDraft,
        sharing: Sharing,
        by: impl Into<Principal<'_>>,
    ) -> Result<Changed, FeedsError> {
        let by = by.into();
        let id = uuid(self.random.as_ref())?;
        let (mut write, confirmed, now) = self.begin(&by).await?;
        let settings = write.key_settings().await?;
        let longest = settings.policy.max_token_lifetime();
        self.watch.assess(settings.time(), &settings.policy).check().map_err(FeedsError::Clock)?;
        let feed = Feed::new(draft, id, longest, now)?;
        check_hosts(None, &feed)?;
        let path = feed.path();
        if !confirmed.permissions.may_see(&path) {
            return Err(FeedsError::Unknown(path));
        }
        confirmed.permissions.check_new_feed(&feed)?;
        check_audience(&mut write, &feed).await?;
        if write.feed(&path).await?.is_some() {
            return Err(FeedsError::Taken(path));
        }
        check_room(&mut write, &feed, &confirmed).await?;
        let mut notes = check_subject(&mut write, &feed, &confirmed, sharing).await?;
        notes.extend(check_registry(&mut write, &feed, &confirmed).await?);
        write.insert_feed(&feed).await?;
        tell_keys(&mut write, None, Some(&feed)).await?;
        let event = Event::new(EventKind::FeedAdd, Outcome::Done, &by.actor()).about_feed(&feed);
        write.append_audit(feed.created_at, &[event.detail(&listed(&members(&feed)))]).await?;
        write.commit().await?;
        Ok(Changed { feed, notes })
    }

    /// Changes a feed for the principal `by`. A subject that the feed no longer has leaves a mark. On an
    /// error, nothing has changed.
    pub async fn update(
        &self,
        path: &FeedPath,
        changes: impl FnOnce(&Feed) -> FeedChanges,
        sharing: Sharing,
        by: impl Into<Principal<'_>>,
    ) -> Result<Changed, FeedsError> {
        let by = by.into();
        let (mut write, confirmed, now) = self.begin(&by).await?;
        let longest = write.key_settings().await?.policy.max_token_lifetime();
        let before = seen(&mut write, path, &confirmed).await?;
        let after = before.changed(changes(&before), longest, now)?;
        check_hosts(Some(&before), &after)?;
        confirmed.permissions.check_changed_feed(&before, &after)?;
        check_audience(&mut write, &after).await?;
        let mut notes = Vec::new();
        if before.subject_keys != after.subject_keys {
            notes = check_subject(&mut write, &after, &confirmed, sharing).await?;
            check_marks(&mut write, &before, &confirmed).await?;
            write.mark_removed_subject(&before, now).await?;
        }
        if before.registry != after.registry {
            notes.extend(check_registry(&mut write, &after, &confirmed).await?);
        }
        // A confirmation for one provider's uploaded JWKS says nothing about another's, nor about a later
        // upload.
        if before.provider.uploaded_to() != after.provider.uploaded_to() {
            write.forget_confirmed_keys(after.id).await?;
        }
        write.update_feed(&after).await?;
        tell_keys(&mut write, Some(&before), Some(&after)).await?;
        let event = Event::new(EventKind::FeedUpdate, Outcome::Done, &by.actor()).about_feed(&after);
        write.append_audit(after.updated_at, &[event.detail(&difference(&before, &after))]).await?;
        write.commit().await?;
        Ok(Changed { feed: after, notes })
    }

    /// Removes a feed for the principal `by`. Its subject leaves a mark. On an error, nothing has changed.
    pub async fn remove(&self, path: &FeedPath, by: impl Into<Principal<'_>>) -> Result<Feed, FeedsError> {
        let by = by.into();
        let (mut write, confirmed, now) = self.begin(&by).await?;
        let feed = seen(&mut write, path, &confirmed).await?;
        check_marks(&mut write, &feed, &confirmed).await?;
        write.remove_feed(&feed, now).await?;
        tell_keys(&mut write, Some(&feed), None).await?;
        let event = Event::new(EventKind::FeedRemove, Outcome::Done, &by.actor()).about_feed(&feed);
        write.append_audit(now, &[event]).await?;
        write.commit().await?;
        Ok(feed)
    }

    /// Begins a transaction and confirms in it that `by` is still an admin.
    async fn begin(&self, by: &Principal<'_>) -> Result<(Transaction, Confirmed, Timestamp), FeedsError> {
        let mut write = self.store.write().await?;
        // Read after the wait for the lock: a grant that ended meanwhile changes nothing.
        let now = self.watch.clock().now();
        let confirmed = by.confirm(&mut write, now).await?;
        confirmed.admin()?;
        Ok((write, confirmed, now))
    }
}

/// Returns the feed if it exists and the principal may see it.
async fn seen(read: &mut ReadTransaction, path: &FeedPath, by: &Confirmed) -> Result<Feed, FeedsError> {
    let feed = if by.permissions.may_see(path) { read.feed(path).await? } else { None };
    feed.ok_or_else(|| FeedsError::Unknown(path.clone()))
}

/// Refuses an audience of carnet itself. A database without an issuer has none to compare with, so minting
/// checks again.
async fn check_audience(read: &mut ReadTransaction, feed: &Feed) -> Result<(), FeedsError> {
    match read.issuer_url().await? {
        Some(issuer) if feed.audience.is_at_or_below(&issuer) => Err(FeedsError::OwnAudience(issuer)),
        _ => Ok(()),
    }
}

/// Keys wait for the JWKS uploaded for a feed: has every process look again at what they wait for, if that changes.
async fn tell_keys(
    write: &mut Transaction,
    before: Option<&Feed>,
    after: Option<&Feed>,
) -> Result<(), StoreError> {
    let waited_for =
        |feed: Option<&Feed>| feed.and_then(|feed| Some((feed.provider.uploaded_to()?.clone(), feed.alg)));
    if waited_for(before) == waited_for(after) { Ok(()) } else { write.bump_publications().await }
}

/// Returns the feed's members without its times, which the audit record has itself.
fn members(feed: &Feed) -> Value {
    let mut members = serde_json::to_value(feed).unwrap_or_default();
    if let Some(members) = members.as_object_mut() {
        for reported in ["created_at", "updated_at"] {
            members.remove(reported);
        }
    }
    members
}

/// Returns every changed member, as `version 3: audience "a" → "b", …`.
fn difference(before: &Feed, after: &Feed) -> String {
    format!("version {}: {}", after.version, differing(&members(before), &members(after)))
}
