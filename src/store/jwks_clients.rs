//! The clients that fetch the JWKS, by user agent.

use jiff::Timestamp;
use serde::Serialize;

use super::states::Effects as _;
use super::{Store, StoreError, Trusted, from_millis, to_millis};

/// The maximum number of clients kept. Those with the fewest fetches are removed first.
const MAX_ROWS: i64 = 256;

/// Fetches by one client that are not recorded yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetches {
    /// The user agent.
    pub user_agent: String,
    /// The time of the first of these fetches.
    pub first: Timestamp,
    /// The time of the last of these fetches.
    pub last: Timestamp,
    /// The number of these fetches.
    pub count: u64,
    /// The generation of the key set in the last of these fetches.
    pub generation: i64,
}

/// The recorded fetches of one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JwksClient {
    /// The user agent.
    pub user_agent: String,
    /// The time of its first fetch.
    pub first_fetched_at: Timestamp,
    /// The time of its last fetch.
    pub last_fetched_at: Timestamp,
    /// The number of its fetches.
    pub fetches: i64,
    /// The generation of the key set in its last fetch.
    pub generation: i64,
}

impl Trusted {
    /// Adds fetches to the records of their clients, and removes the clients with the fewest fetches if there
    /// are too many. One transaction: if this fails, nothing is added.
    pub async fn add_jwks_fetches(&self, fetches: &[Fetches]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for fetch in fetches {
            sqlx::query(
                "INSERT INTO jwks_clients (user_agent, first_fetched_at, last_fetched_at, fetches, generation) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_agent) DO UPDATE SET \
                 last_fetched_at = excluded.last_fetched_at, fetches = jwks_clients.fetches + excluded.fetches, \
                 generation = excluded.generation",
            )
            .bind(&fetch.user_agent)
            .bind(to_millis(fetch.first))
            .bind(to_millis(fetch.last))
            .bind(i64::try_from(fetch.count).unwrap_or(i64::MAX))
            .bind(fetch.generation)
            .affects_one(write.connection(), "jwks_clients")
            .await?;
        }
        sqlx::query(
            "DELETE FROM jwks_clients WHERE user_agent NOT IN (SELECT user_agent FROM jwks_clients \
             ORDER BY fetches DESC, last_fetched_at DESC LIMIT $1)",
        )
        .bind(MAX_ROWS)
        .count_affected(write.connection())
        .await?;
        write.commit().await
    }
}

impl Store {
    /// Returns every recorded client, latest fetch first.
    pub async fn jwks_clients(&self) -> Result<Vec<JwksClient>, StoreError> {
        let rows: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT user_agent, first_fetched_at, last_fetched_at, fetches, generation FROM jwks_clients \
             ORDER BY last_fetched_at DESC, user_agent",
        )
        .fetch_all(&self.readers.lists)
        .await?;
        rows.into_iter()
            .map(|(user_agent, first, last, fetches, generation)| {
                let time = |millis| from_millis("jwks_clients", &user_agent, millis);
                let (first_fetched_at, last_fetched_at) = (time(first)?, time(last)?);
                Ok(JwksClient { user_agent, first_fetched_at, last_fetched_at, fetches, generation })
            })
            .collect()
    }
}
