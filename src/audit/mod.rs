//! The audit log: what is recorded, and the chain that shows whether anybody changed it since.
//!
//! Pure. An [`Event`] says what happened; storing it gives it a place, a time and a MAC, and makes it a
//! [`Record`]. Nothing here takes a token or a password, so that none can get into the log.

pub mod chain;
pub mod epochs;
mod kind;
pub mod members;
mod record;
mod text;
pub mod verify;

use std::net::IpAddr;

use uuid::Uuid;

pub use self::chain::{Anchor, AuditKey, Mac};
pub use self::epochs::{AuditKeys, ClosedEpoch};
pub use self::kind::{EventKind, Outcome, UnknownName};
pub use self::record::Record;
use self::text::bounded;
pub use self::text::{MAX_ID, MAX_TEXT};
use crate::feed::{Feed, FeedPath};
use crate::oidc::token::Presented;
use crate::values::actor::Actor;
use crate::values::slug::Slug;

/// What happened, before it has a place in the log.
///
/// Text that comes from outside is escaped and bounded when it is put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What was done or tried.
    pub kind: EventKind,
    /// What became of it.
    pub outcome: Outcome,
    /// By whom.
    pub actor: Actor,
    /// The space it was about.
    pub space: Option<Slug>,
    /// The feed it was about.
    pub feed: Option<Slug>,
    /// The feed's identifier, which tells feeds apart that had the same name.
    pub feed_id: Option<Uuid>,
    /// The grant it was about; who used a grant is the actor.
    pub grant_id: Option<Uuid>,
    /// The token's identifier.
    pub jti: Option<Uuid>,
    /// The token's subject.
    pub sub: Option<String>,
    /// The token's audience.
    pub aud: Option<String>,
    /// The key that signed, or that was changed.
    pub kid: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// What the provider calls its request.
    pub upstream_request_id: Option<String>,
    /// Where it was asked from.
    pub client: Option<IpAddr>,
    /// Whether it was part of a check of the feed.
    pub is_check: bool,
    /// What else is to be known, at most [`MAX_TEXT`] bytes.
    pub detail: Option<String>,
    /// How many such events this stands for: 1, or more for refusals that are counted together.
    pub count: u64,
}

impl Event {
    /// `actor` did, or tried to do, what `kind` says.
    #[must_use]
    pub fn new(kind: EventKind, outcome: Outcome, actor: &Actor) -> Self {
        Self {
            kind,
            outcome,
            actor: actor.clone(),
            space: None,
            feed: None,
            feed_id: None,
            grant_id: None,
            jti: None,
            sub: None,
            aud: None,
            kid: None,
            request_id: None,
            upstream_request_id: None,
            client: None,
            is_check: false,
            detail: None,
            count: 1,
        }
    }

    /// About this feed.
    #[must_use]
    pub fn about_feed(self, feed: &Feed) -> Self {
        let (space, slug) = (Some(feed.space.clone()), Some(feed.slug.clone()));
        Self { space, feed: slug, feed_id: Some(feed.id), ..self }
    }

    /// About the feed of this name, which there may not be.
    #[must_use]
    pub fn about_path(self, path: &FeedPath) -> Self {
        Self { space: Some(path.space.clone()), feed: Some(path.slug.clone()), ..self }
    }

    /// About this grant.
    #[must_use]
    pub fn about_grant(self, id: Uuid) -> Self {
        Self { grant_id: Some(id), ..self }
    }

    /// About this signing key.
    #[must_use]
    pub fn about_key(self, kid: &str) -> Self {
        Self { kid: Some(bounded(kid, MAX_ID)), ..self }
    }

    /// With the token of this identifier and these claims.
    #[must_use]
    pub fn with_token(self, presented: &Presented, jti: Uuid) -> Self {
        Self {
            jti: Some(jti),
            sub: Some(bounded(&presented.sub, MAX_TEXT)),
            aud: Some(bounded(&presented.aud, MAX_TEXT)),
            kid: Some(bounded(&presented.kid, MAX_ID)),
            ..self
        }
    }

    /// With the token of this identifier, of which nothing else is known any more.
    #[must_use]
    pub fn with_jti(self, jti: Uuid) -> Self {
        Self { jti: Some(jti), ..self }
    }

    /// Asked for from this address.
    #[must_use]
    pub fn from_client(self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Asked for by this request.
    #[must_use]
    pub fn in_request(self, id: &str) -> Self {
        Self { request_id: Some(bounded(id, MAX_ID)), ..self }
    }

    /// What the provider calls its request.
    #[must_use]
    pub fn upstream_request(self, id: &str) -> Self {
        Self { upstream_request_id: Some(bounded(id, MAX_ID)), ..self }
    }

    /// What else is to be known; control characters are escaped, and more than [`MAX_TEXT`] bytes are
    /// cut off.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        Self { detail: Some(bounded(detail, MAX_TEXT)), ..self }
    }

    /// As part of a check of the feed.
    #[must_use]
    pub fn as_check(self) -> Self {
        Self { is_check: true, ..self }
    }

    /// Forgets what another event of the same sort does not have in common with this one.
    pub(crate) fn keep_common(&mut self, other: &Self) {
        if self.space != other.space {
            self.space = None;
        }
        if (&self.space, &self.feed) != (&other.space, &other.feed) {
            (self.feed, self.feed_id) = (None, None);
        }
        if self.client != other.client {
            self.client = None;
        }
    }

    /// Standing for so many events of one sort.
    #[must_use]
    pub fn counted(self, count: u64) -> Self {
        Self { count, ..self }
    }
}
