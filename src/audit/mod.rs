//! The audit log: its events, and the chain that shows later changes to it.
//!
//! Pure. An [`Event`] describes an act. Storing the event adds a sequence number, a time and a MAC and makes
//! it a [`Record`]. No function here takes a token or a password, so neither can get into the log.

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
pub use self::kind::{EventKind, KeyEventKind, Outcome};
pub use self::record::Record;
use self::text::bounded;
pub use self::text::{MAX_ID, MAX_TEXT};
use crate::feed::{Feed, FeedPath};
use crate::oidc::token::Presented;
use crate::values::actor::Actor;
use crate::values::slug::Slug;

/// An act, before it is stored in the log.
///
/// Text from outside is escaped and bounded when it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The act that was done or tried.
    pub kind: EventKind,
    /// The outcome of the act.
    pub outcome: Outcome,
    /// The actor.
    pub actor: Actor,
    /// The space concerned.
    pub space: Option<Slug>,
    /// The feed concerned.
    pub feed: Option<Slug>,
    /// The feed's identifier, which tells apart feeds that have had the same name.
    pub feed_id: Option<Uuid>,
    /// The grant concerned. A grant that was used to authenticate is the actor instead.
    pub grant_id: Option<Uuid>,
    /// The token's identifier.
    pub jti: Option<Uuid>,
    /// The token's subject.
    pub sub: Option<String>,
    /// The token's audience.
    pub aud: Option<String>,
    /// The key that signed or was changed.
    pub kid: Option<String>,
    /// The identifier of the API request.
    pub request_id: Option<String>,
    /// The provider's identifier of its request.
    pub upstream_request_id: Option<String>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// `true` for an act that was part of a feed's check.
    pub is_check: bool,
    /// Further details, at most [`MAX_TEXT`] bytes.
    pub detail: Option<String>,
    /// The number of events that this one represents: 1, or more for refusals that are counted together.
    pub count: u64,
}

impl Event {
    /// Makes an event of this kind and outcome, without further members.
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

    /// Sets the space, slug and identifier of the feed.
    #[must_use]
    pub fn about_feed(self, feed: &Feed) -> Self {
        let (space, slug) = (Some(feed.space.clone()), Some(feed.slug.clone()));
        Self { space, feed: slug, feed_id: Some(feed.id), ..self }
    }

    /// Sets the space and slug of a feed that may not exist.
    #[must_use]
    pub fn about_path(self, path: &FeedPath) -> Self {
        Self { space: Some(path.space.clone()), feed: Some(path.slug.clone()), ..self }
    }

    /// Sets the grant concerned.
    #[must_use]
    pub fn about_grant(self, id: Uuid) -> Self {
        Self { grant_id: Some(id), ..self }
    }

    /// Sets the signing key.
    #[must_use]
    pub fn about_key(self, kid: &str) -> Self {
        Self { kid: Some(bounded(kid, MAX_ID)), ..self }
    }

    /// Sets the token's identifier, claims and key.
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

    /// Sets the token's identifier, when its claims are not known any more.
    #[must_use]
    pub fn with_jti(self, jti: Uuid) -> Self {
        Self { jti: Some(jti), ..self }
    }

    /// Sets the client's address.
    #[must_use]
    pub fn with_client(self, client: IpAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Sets the identifier of the API request.
    #[must_use]
    pub fn in_request(self, id: &str) -> Self {
        Self { request_id: Some(bounded(id, MAX_ID)), ..self }
    }

    /// Sets the provider's identifier of its request.
    #[must_use]
    pub fn upstream_request(self, id: &str) -> Self {
        Self { upstream_request_id: Some(bounded(id, MAX_ID)), ..self }
    }

    /// Sets the details. Control characters are escaped, and text beyond [`MAX_TEXT`] bytes is cut off.
    #[must_use]
    pub fn detail(self, detail: &str) -> Self {
        Self { detail: Some(bounded(detail, MAX_TEXT)), ..self }
    }

    /// Marks the event as part of a feed's check.
    #[must_use]
    pub fn for_check(self) -> Self {
        Self { is_check: true, ..self }
    }

    /// Clears the space, feed and client unless they are the same in `other`, an event counted together with
    /// this one.
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

    /// Sets the number of events that this one represents.
    #[must_use]
    pub fn counted(self, count: u64) -> Self {
        Self { count, ..self }
    }
}
