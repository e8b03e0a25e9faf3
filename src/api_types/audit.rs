//! Rows of the audit log in the API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::texts::{EventKindName, OutcomeName};
use crate::audit::Record;

/// A page of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The rows, newest first. A page may be short or even empty although older rows match: `next_before`
    /// shows if there are more.
    pub records: Vec<AuditRecord>,
    /// The value of `before` for the next page. Null on the last page only.
    pub next_before: Option<i64>,
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// The sequence number of the row: contiguous, from 1.
    pub seq: i64,
    /// The time of the event.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The kind of event.
    #[schema(value_type = EventKindName)]
    pub kind: String,
    /// The outcome.
    #[schema(value_type = OutcomeName)]
    pub outcome: String,
    /// The actor: `grant:ID`, `local:USER`, `serve`, `anonymous`.
    pub actor: String,
    /// The space concerned.
    pub space: Option<String>,
    /// The feed concerned.
    pub feed: Option<String>,
    /// The feed's id.
    pub feed_id: Option<Uuid>,
    /// The grant concerned.
    pub grant_id: Option<Uuid>,
    /// The token's id.
    pub jti: Option<Uuid>,
    /// The token's subject.
    pub sub: Option<String>,
    /// The token's audience.
    pub aud: Option<String>,
    /// The key that signed or was changed.
    pub kid: Option<String>,
    /// The id of the request that caused the event.
    pub request_id: Option<String>,
    /// The provider's id of its request.
    pub upstream_request_id: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// True if the event was part of a check of the feed.
    pub is_check: bool,
    /// Further details.
    pub detail: Option<String>,
    /// The number of events that the row stands for.
    pub count: u64,
    /// The row's MAC, which chains it to the previous row.
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
