//! Publication targets: the copies of the public documents outside the servers, and the keys that each of
//! them shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::states::Effects as _;
use super::{ReadTransaction, Store, StoreError, Transaction, Trusted, from_millis, parse, to_millis};
use crate::audit::{Event, EventKind, Outcome};
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::{Generation, KeyLocation};
use crate::values::actor::Actor;
use crate::values::target_url::TargetUrl;

const TABLE: &str = "publication_targets";

/// A publication target. A key signs only after every target has shown it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicationTarget {
    /// The URL.
    pub target: TargetUrl,
    /// The time since which keys wait for it.
    pub registered_at: Timestamp,
    /// The generation of the documents that carnet last wrote there.
    pub generation: Option<String>,
    /// The time at which that was written.
    pub shown_at: Option<Timestamp>,
    /// The time at which the content was last found to be something that carnet had not written.
    pub altered_at: Option<Timestamp>,
    /// The failures since the target last worked.
    pub failure: Option<PublicationFailures>,
}

/// The failures of a target since it last worked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublicationFailures {
    /// The number of consecutive failures.
    pub count: i64,
    /// The time of the last failure.
    pub failed_at: Timestamp,
    /// The message of the last failure.
    pub error: String,
}

/// The content that a target shows from now on.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// The generation of the documents written there.
    pub generation: Generation,
    /// The keys in its JWKS.
    pub kids: &'a [Kid],
    /// The keys among them that a copy found there lacked until now. Their publication begins anew.
    pub lacked: &'a [Kid],
    /// The JWKS.
    pub jwks: WrittenText<'a>,
    /// The discovery document.
    pub discovery: WrittenText<'a>,
    /// `true` if the documents that carnet had written there were missing.
    pub was_removed: bool,
}

/// One document that a target shows from now on, and the text that it replaced.
#[derive(Debug, Clone)]
pub struct WrittenText<'a> {
    /// The SHA-256 of its text.
    pub sha256: String,
    /// The SHA-256 of the text that it replaced, if that carried no authentic label.
    pub foreign: Option<&'a str>,
}

#[derive(sqlx::FromRow)]
struct Row {
    target: String,
    registered_at: i64,
    generation: Option<String>,
    shown_at: Option<i64>,
    altered_at: Option<i64>,
    failures: i64,
    failed_at: Option<i64>,
    error: Option<String>,
}

impl Store {
    /// Returns every target, by name.
    pub async fn publication_targets(&self) -> Result<Vec<PublicationTarget>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT target, registered_at, generation, shown_at, altered_at, failures, failed_at, error \
             FROM publication_targets ORDER BY target",
        )
        .fetch_all(&self.readers.lists)
        .await?;
        rows.into_iter().map(Row::target).collect()
    }
}

impl Trusted {
    /// Records that a target could not be written or read. Does nothing if the target is not registered.
    pub async fn note_publication_failed(
        &self,
        target: &TargetUrl,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE publication_targets SET failures = failures + 1, failed_at = $2, error = $3 WHERE target = $1",
        )
        .bind(target.to_string())
        .bind(to_millis(now))
        .bind(error.to_owned())
        .count_affected(write.connection())
        .await?;
        write.commit().await
    }

    /// Clears the failures of a target that responded and shows the right content.
    pub async fn note_publication_works(&self, target: &TargetUrl) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE publication_targets SET failures = 0, failed_at = NULL, error = NULL \
             WHERE target = $1 AND failures > 0",
        )
        .bind(target.to_string())
        .count_affected(write.connection())
        .await?;
        write.commit().await
    }
}

impl ReadTransaction {
    /// Returns every source of keys for verifiers besides the servers.
    pub(super) async fn locations(&mut self) -> Result<Vec<KeyLocation>, StoreError> {
        let rows: Vec<(String, Option<String>, Option<i64>)> = sqlx::query_as(
            "SELECT t.target, k.kid, k.published_at FROM publication_targets t \
             LEFT JOIN published_keys k ON k.target = t.target ORDER BY t.target, k.kid",
        )
        .fetch_all(self.connection())
        .await?;
        let mut locations: Vec<KeyLocation> = Vec::new();
        for (name, kid, published_at) in rows {
            if locations.last().is_none_or(|last| last.name != name) {
                locations.push(KeyLocation {
                    name: name.clone(),
                    feed: None,
                    algorithm: None,
                    shows: BTreeMap::new(),
                });
            }
            if let (Some(kid), Some(published_at), Some(location)) = (kid, published_at, locations.last_mut())
            {
                let kid = parse("published_keys", &name, &kid)?;
                location.shows.insert(kid, from_millis("published_keys", &name, published_at)?);
            }
        }
        locations.extend(self.uploaded_jwks().await?.into_iter().map(KeyLocation::from));
        Ok(locations)
    }
}

impl Transaction {
    /// Registers `target`: from now on, no key signs before `target` has shown it. Returns whether the target
    /// is new.
    pub async fn register_target(
        &mut self,
        target: &TargetUrl,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let made = sqlx::query(
            "INSERT INTO publication_targets (target, registered_at, failures) VALUES ($1, $2, 0) \
             ON CONFLICT (target) DO NOTHING",
        )
        .bind(target.to_string())
        .bind(to_millis(now))
        .count_affected(self.connection())
        .await?;
        let is_new = made == 1;
        if is_new {
            self.record_publication(EventKind::PublicationBegin, target, actor, now).await?;
        }
        Ok(is_new)
    }

    /// Removes `target`: no key waits for it any more. Returns whether it was registered.
    pub async fn forget_target(
        &mut self,
        target: &TargetUrl,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let removed = sqlx::query("DELETE FROM publication_targets WHERE target = $1")
            .bind(target.to_string())
            .count_affected(self.connection())
            .await?;
        let is_gone = removed == 1;
        if is_gone {
            self.record_publication(EventKind::PublicationEnd, target, actor, now).await?;
            self.bump_publications().await?;
        }
        Ok(is_gone)
    }

    /// Records the content that `target` shows. A key that it did not show before counts as published there
    /// since `now`. Does nothing if the target is not registered.
    ///
    /// Returns whether the previous content was altered: it was removed, or replaced by a text that carries
    /// no authentic label and that carnet did not write last.
    pub async fn note_shown(
        &mut self,
        target: &TargetUrl,
        shown: &Shown<'_>,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let name = target.to_string();
        let last: Option<(Option<String>, Option<String>)> =
            sqlx::query_as("SELECT jwks_sha256, discovery_sha256 FROM publication_targets WHERE target = $1")
                .bind(&name)
                .fetch_optional(self.connection())
                .await?;
        let Some((jwks, discovery)) = last else { return Ok(false) };
        let was_altered =
            shown.was_removed || shown.jwks.is_altered(jwks) || shown.discovery.is_altered(discovery);
        sqlx::query(
            "UPDATE publication_targets SET generation = $2, shown_at = $3, failures = 0, failed_at = NULL, \
             error = NULL, altered_at = CASE WHEN $4 THEN $3 ELSE altered_at END, jwks_sha256 = $5, \
             discovery_sha256 = $6 WHERE target = $1",
        )
        .bind(&name)
        .bind(shown.generation.to_string())
        .bind(to_millis(now))
        .bind(was_altered)
        .bind(&shown.jwks.sha256)
        .bind(&shown.discovery.sha256)
        .affects_one(self.connection(), TABLE)
        .await?;
        let known = "SELECT kid FROM published_keys NOT INDEXED WHERE target = $1";
        let known: Vec<String> = sqlx::query_scalar(known).bind(&name).fetch_all(self.connection()).await?;
        let is = |kids: &[Kid], kid: &str| kids.iter().any(|one| one.as_str() == kid);
        let (stay, end): (Vec<_>, Vec<_>) =
            known.iter().partition(|kid| is(shown.kids, kid) && !is(shown.lacked, kid));
        for kid in end {
            sqlx::query("DELETE FROM published_keys WHERE target = $1 AND kid = $2")
                .bind(&name)
                .bind(kid)
                .affects_one(self.connection(), "published_keys")
                .await?;
        }
        for kid in shown.kids.iter().filter(|kid| !stay.iter().any(|one| *one == kid.as_str())) {
            sqlx::query("INSERT INTO published_keys (target, kid, published_at) VALUES ($1, $2, $3)")
                .bind(&name)
                .bind(kid.as_str())
                .bind(to_millis(now))
                .affects_one(self.connection(), "published_keys")
                .await?;
        }
        if was_altered {
            self.record_publication(EventKind::PublicationAltered, target, actor, now).await?;
        }
        self.bump_publications().await?;
        Ok(was_altered)
    }

    /// Increments the counter by which every process notices that the keys shown at a target have changed.
    pub async fn bump_publications(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_state SET publications = publications + 1 WHERE id = 1")
            .affects_one(self.connection(), "key_state")
            .await?;
        Ok(())
    }

    async fn record_publication(
        &mut self,
        kind: EventKind,
        target: &TargetUrl,
        actor: &Actor,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let event = Event::new(kind, Outcome::Done, actor).detail(&target.to_string());
        self.append_audit(now, &[event]).await?;
        Ok(())
    }
}

impl WrittenText<'_> {
    /// Returns whether the document replaced a text that carnet did not write. `last` is the digest of the
    /// last text that carnet wrote.
    fn is_altered(&self, last: Option<String>) -> bool {
        self.foreign.is_some() && self.foreign != last.as_deref()
    }
}

impl Row {
    fn target(self) -> Result<PublicationTarget, StoreError> {
        let time = |millis| from_millis(TABLE, &self.target, millis);
        let failure = match (self.failed_at, self.error) {
            (Some(failed_at), Some(error)) => {
                Some(PublicationFailures { count: self.failures, failed_at: time(failed_at)?, error })
            }
            _ => None,
        };
        Ok(PublicationTarget {
            registered_at: time(self.registered_at)?,
            shown_at: self.shown_at.map(time).transpose()?,
            altered_at: self.altered_at.map(time).transpose()?,
            target: parse(TABLE, &self.target, &self.target)?,
            generation: self.generation,
            failure,
        })
    }
}
