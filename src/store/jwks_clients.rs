//! Who fetches the JWKS, by user agent.

use jiff::Timestamp;
use serde::Serialize;

use super::{Store, StoreError, from_millis, to_millis};

/// At most this many clients are kept; those that fetch least go first.
const MAX_ROWS: i64 = 256;

/// Fetches of one client, to be added to what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetches {
    /// The client.
    pub user_agent: String,
    /// The first of these fetches.
    pub first: Timestamp,
    /// The last of these fetches.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// The generation of the key set that the last one got.
    pub generation: i64,
}

/// What is known of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JwksClient {
    /// What it calls itself.
    pub user_agent: String,
    /// When it first fetched.
    pub first_fetched_at: Timestamp,
    /// When it last fetched.
    pub last_fetched_at: Timestamp,
    /// How often it has fetched.
    pub fetches: i64,
    /// The generation of the key set that it got last.
    pub generation: i64,
}

impl Store {
    /// Adds fetches to what is known of their clients, in one transaction, and forgets the clients
    /// that fetch least when there are too many.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when a statement fails; nothing has been added then.
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
            .execute(write.connection())
            .await?;
        }
        sqlx::query(
            "DELETE FROM jwks_clients WHERE user_agent NOT IN (SELECT user_agent FROM jwks_clients \
             ORDER BY fetches DESC, last_fetched_at DESC LIMIT $1)",
        )
        .bind(MAX_ROWS)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Every client that is known, the latest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read.
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
