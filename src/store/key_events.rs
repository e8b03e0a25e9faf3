//! The history of keys, policy and master key: the time, reason and actor of each event.

use jiff::Timestamp;
use serde::Serialize;

use super::states::Effects as _;
use super::{Store, StoreError, Transaction, from_millis, to_millis};
use crate::audit::{Event, KeyEventKind, Outcome};
use crate::values::actor::Actor;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyEvent {
    /// The sequence number, from 1.
    pub seq: i64,
    /// The time.
    pub at: Timestamp,
    /// The word of its [`KeyEventKind`], or of a kind that this version does not know.
    pub event: String,
    /// The key concerned, if there is one.
    pub kid: Option<String>,
    /// The reason.
    pub reason: String,
    /// The actor.
    pub actor: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    at: i64,
    event: String,
    kid: Option<String>,
    reason: String,
    actor: String,
}

impl Store {
    /// Returns the latest `limit` events, newest first.
    pub async fn key_events(&self, limit: u32) -> Result<Vec<KeyEvent>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT seq, at, event, kid, reason, actor FROM key_events ORDER BY seq DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.readers.lists)
        .await?;
        rows.into_iter()
            .map(|Row { seq, at, event, kid, reason, actor }| {
                Ok(KeyEvent {
                    seq,
                    at: from_millis("key_events", &seq.to_string(), at)?,
                    event,
                    kid,
                    reason,
                    actor,
                })
            })
            .collect()
    }
}

impl Transaction {
    /// Records an event, here and in the audit log.
    pub async fn record_key_event(
        &mut self,
        event: KeyEventKind,
        kid: Option<&str>,
        reason: &str,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO key_events (seq, at, event, kid, reason, actor) \
             VALUES ((SELECT COALESCE(MAX(seq), 0) + 1 FROM key_events), $1, $2, $3, $4, $5)",
        )
        .bind(to_millis(now))
        .bind(event.as_str())
        .bind(kid)
        .bind(reason)
        .bind(actor.as_str())
        .affects_one(self.connection(), "key_events")
        .await?;
        let audited = Event::new(event.audited(), Outcome::Done, actor).detail(reason);
        let audited = if let Some(kid) = kid { audited.about_key(kid) } else { audited };
        self.append_audit(now, &[audited]).await?;
        Ok(())
    }
}
