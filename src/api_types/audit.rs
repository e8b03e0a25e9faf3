//! Rows of the audit log, as the API shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::texts::{EventKindName, OutcomeName};
use crate::audit::Record;

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The rows, newest first. A page may be short or empty although older rows fit: `next_before` tells.
    pub records: Vec<AuditRecord>,
    /// For the next page: give it as `before`. Null on the last page, and only there.
    pub next_before: Option<i64>,
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// The row's place: contiguous, from 1.
    pub seq: i64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What was done or tried.
    #[schema(value_type = EventKindName)]
    pub kind: String,
    /// What became of it.
    #[schema(value_type = OutcomeName)]
    pub outcome: String,
    /// By whom: `grant:ID`, `local:USER`, `serve`, `anonymous`.
    pub actor: String,
    /// The space it was about.
    pub space: Option<String>,
    /// The feed it was about.
    pub feed: Option<String>,
    /// The feed's identifier.
    pub feed_id: Option<Uuid>,
    /// The grant it was about.
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
    /// The address that it was asked from.
    pub client: Option<String>,
    /// Whether it was part of a check of the feed.
    pub is_check: bool,
    /// What else is to be known.
    pub detail: Option<String>,
    /// How many such events the row stands for.
    pub count: u64,
    /// The row's MAC, which chains it to the row before.
    pub mac: String,
}

impl From<&Record> for AuditRecord {
    fn from(record: &Record) -> Self {
        let event = &record.event;
        Self {
            seq: record.seq,
            at: record.at,
            kind: event.kind.to_string(),
            outcome: event.outcome.to_string(),
            actor: event.actor.to_string(),
            space: event.space.as_ref().map(ToString::to_string),
            feed: event.feed.as_ref().map(ToString::to_string),
            feed_id: event.feed_id,
            grant_id: event.grant_id,
            jti: event.jti,
            sub: event.sub.clone(),
            aud: event.aud.clone(),
            kid: event.kid.clone(),
            request_id: event.request_id.clone(),
            upstream_request_id: event.upstream_request_id.clone(),
            client: event.client.map(|client| client.to_string()),
            is_check: event.is_check,
            detail: event.detail.clone(),
            count: event.count,
            mac: record.mac.to_string(),
        }
    }
}
