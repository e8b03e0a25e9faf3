//! Confirmations of the keys in the JWKS that is uploaded for a feed. carnet cannot read that JWKS, so it
//! relies on the caller that confirms them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::states::Effects as _;
use super::{ReadTransaction, StoreError, Transaction, from_millis, parse, to_millis};
use crate::feed::google::JwksSource;
use crate::feed::{FeedPath, Provider};
use crate::jose::Algorithm;
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::KeyLocation;

/// A feed whose JWKS is uploaded, and the keys confirmed to be in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadedJwks {
    /// The feed.
    pub feed: FeedPath,
    /// The algorithm that signs the feed's tokens. Rotation of other algorithms does not wait for this JWKS.
    pub algorithm: Algorithm,
    /// The confirmed keys, each with the time of its first confirmation.
    pub confirmed: BTreeMap<Kid, Timestamp>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    space: String,
    slug: String,
    alg: String,
    settings: String,
}

const TABLE: &str = "confirmed_keys";

impl ReadTransaction {
    /// Returns every feed whose JWKS is uploaded, by name.
    ///
    /// Skips a row of `feeds` that cannot be read. No token is minted for such a feed, and it must not block
    /// the keys of all other feeds.
    pub async fn uploaded_jwks(&mut self) -> Result<Vec<UploadedJwks>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, space, slug, alg, settings FROM feeds WHERE has_uploaded_jwks = TRUE ORDER BY space, slug",
        )
        .fetch_all(self.connection())
        .await?;
        let mut found = Vec::new();
        for row in rows {
            let Some((feed, algorithm)) = row.uploaded() else { continue };
            let confirmed: Vec<(String, i64)> =
                sqlx::query_as("SELECT kid, confirmed_at FROM confirmed_keys WHERE feed_id = $1")
                    .bind(&row.id)
                    .fetch_all(self.connection())
                    .await?;
            let confirmed = confirmed
                .into_iter()
                .map(|(kid, at)| Ok((parse(TABLE, &kid, &kid)?, from_millis(TABLE, &kid, at)?)))
                .collect::<Result<_, StoreError>>()?;
            found.push(UploadedJwks { feed, algorithm, confirmed });
        }
        Ok(found)
    }
}

impl Transaction {
    /// Records that `kid` is in the JWKS uploaded for `feed`, and returns the time of its first confirmation.
    /// The earliest time counts, so that a repeated confirmation corrects one made while a clock was ahead.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`], also if the feed no longer exists.
    pub async fn confirm_key(
        &mut self,
        feed: Uuid,
        kid: &Kid,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let at: i64 = sqlx::query_scalar(
            "INSERT INTO confirmed_keys (feed_id, kid, confirmed_at) VALUES ($1, $2, $3) \
             ON CONFLICT (feed_id, kid) DO UPDATE SET confirmed_at = CASE WHEN excluded.confirmed_at < \
             confirmed_keys.confirmed_at THEN excluded.confirmed_at ELSE confirmed_keys.confirmed_at END \
             RETURNING confirmed_at",
        )
        .bind(feed.to_string())
        .bind(kid.as_str())
        .bind(to_millis(now))
        .fetch_one(self.connection())
        .await?;
        from_millis(TABLE, kid.as_str(), at)
    }

    /// Deletes the confirmations for a feed, which has another JWKS now.
    pub async fn forget_confirmed_keys(&mut self, feed: Uuid) -> Result<(), StoreError> {
        // Without an index, which could hide a confirmation.
        sqlx::query("DELETE FROM confirmed_keys NOT INDEXED WHERE feed_id = $1")
            .bind(feed.to_string())
            .count_affected(self.connection())
            .await?;
        Ok(())
    }
}

impl Transaction {
    /// Deletes the confirmations for every feed, and returns their number.
    pub async fn forget_all_confirmed_keys(&mut self) -> Result<u64, StoreError> {
        let all: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM confirmed_keys NOT INDEXED")
            .fetch_one(self.connection())
            .await?;
        let all = u64::try_from(all).unwrap_or_default();
        sqlx::query("DELETE FROM confirmed_keys").affects(self.connection(), TABLE, all).await?;
        self.bump_publications().await?;
        Ok(all)
    }
}

impl From<UploadedJwks> for KeyLocation {
    fn from(uploaded: UploadedJwks) -> Self {
        let UploadedJwks { feed, algorithm, confirmed } = uploaded;
        Self { name: format!("feed {feed}"), feed: Some(feed), algorithm: Some(algorithm), shows: confirmed }
    }
}

impl Row {
    /// Returns the feed's name and algorithm, if its JWKS is uploaded and the row can be read.
    fn uploaded(&self) -> Option<(FeedPath, Algorithm)> {
        let provider: Provider = serde_json::from_str(&self.settings).ok()?;
        let path = FeedPath { space: self.space.parse().ok()?, slug: self.slug.parse().ok()? };
        let algorithm = self.alg.parse().ok()?;
        (provider.jwks() == JwksSource::Uploaded).then_some((path, algorithm))
    }
}
