//! A stored event.

use jiff::Timestamp;
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use super::{Anchor, Event, Mac};

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The sequence number, counted from 1 without gaps.
    pub seq: i64,
    /// The time of writing; for a change, the time of the change.
    pub at: Timestamp,
    /// The event.
    pub event: Event,
    /// The MAC that ties this row to the row before.
    pub mac: Mac,
}

impl Record {
    /// The anchor of this row. Kept elsewhere, it shows later whether the log up to this row is still
    /// complete.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { seq: self.seq, mac: self.mac }
    }
}

/// Serialises to a flat object with every member, `null` where a member is not set.
impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { seq, at, event, mac } = self;
        let mut object = serializer.serialize_struct("Record", 20)?;
        object.serialize_field("seq", seq)?;
        object.serialize_field("at", at)?;
        object.serialize_field("kind", &event.kind)?;
        object.serialize_field("outcome", &event.outcome)?;
        object.serialize_field("actor", event.actor.as_str())?;
        object.serialize_field("space", &event.space)?;
        object.serialize_field("feed", &event.feed)?;
        object.serialize_field("feed_id", &event.feed_id)?;
        object.serialize_field("grant_id", &event.grant_id)?;
        object.serialize_field("jti", &event.jti)?;
        object.serialize_field("sub", &event.sub)?;
        object.serialize_field("aud", &event.aud)?;
        object.serialize_field("kid", &event.kid)?;
        object.serialize_field("request_id", &event.request_id)?;
        object.serialize_field("upstream_request_id", &event.upstream_request_id)?;
        object.serialize_field("client", &event.client)?;
        object.serialize_field("is_check", &event.is_check)?;
        object.serialize_field("detail", &event.detail)?;
        object.serialize_field("count", &event.count)?;
        object.serialize_field("mac", mac)?;
        object.end()
    }
}
