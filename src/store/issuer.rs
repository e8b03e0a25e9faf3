//! The one-row tables: `issuer` holds the issuer URL; `key_state` holds the rotation policy, the times that
//! the database remembers, and the counters by which servers notice changes.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::states::Effects as _;
use super::{
    ReadTransaction, Store, StoreError, Transaction, Trusted, corrupt, from_millis, from_seconds, parse,
    to_millis, to_seconds,
};
use crate::jose::key_pair::RsaBits;
use crate::signing_keys::clock_guard::DatabaseTime;
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use crate::states::{StatePoint, Table};
use crate::values::issuer_url::IssuerUrl;

/// The rotation policy, the counters and the times, which are the same for every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySettings {
    /// Increases with every change of keys or settings.
    pub generation: i64,
    /// Increases with every change of the keys that a publication target or an uploaded JWKS shows.
    pub publications: i64,
    /// The rotation policy.
    pub policy: RotationPolicy,
    /// The size of new RSA keys.
    pub rsa_bits: RsaBits,
    /// The latest time that a process with a steady clock has seen.
    pub high_water: Timestamp,
    /// The time that decides which rows are old enough to be pruned.
    pub pruning_time: Timestamp,
    /// The number of times that the high-water time has been set back.
    pub set_backs: i64,
    /// `true` while destroyed private halves may still be in the write-ahead log.
    pub erasure_pending: bool,
}

/// The values that a running server polls several times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPulse {
    /// Increases with every change of keys or settings.
    pub generation: i64,
    /// Increases with every change of the keys that a publication target or an uploaded JWKS shows.
    pub publications: i64,
    /// The times that the database remembers.
    pub time: DatabaseTime,
    /// `true` while destroyed private halves may still be in the write-ahead log.
    pub erasure_pending: bool,
    /// The last state in the database; not authenticated.
    pub state: Option<StatePoint>,
}

impl KeySettings {
    /// Returns the part that a running server polls.
    #[must_use]
    pub fn pulse(&self) -> KeyPulse {
        let Self { generation, publications, erasure_pending, .. } = *self;
        KeyPulse { generation, publications, time: self.time(), erasure_pending, state: None }
    }

    /// Returns the times that the database remembers.
    #[must_use]
    pub fn time(&self) -> DatabaseTime {
        let Self { high_water, pruning_time, set_backs, .. } = *self;
        DatabaseTime { high_water, pruning_time, set_backs }
    }
}

/// The failures of the scheduled rotation since it last succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationFailures {
    /// The number of consecutive failures.
    pub count: i64,
    /// The time of the last failure.
    pub failed_at: Timestamp,
    /// The message of the last failure.
    pub error: String,
}

#[derive(sqlx::FromRow)]
struct KeyStateRow {
    generation: i64,
    publications: i64,
    high_water: i64,
    pruning_time: i64,
    set_backs: i64,
    erasure_pending: Option<i64>,
    rotate_every: i64,
    propagation: i64,
    max_token_lifetime: i64,
    leeway: i64,
    jwks_max_age: i64,
    rsa_bits: i64,
}

impl Store {
    /// Returns the issuer URL; `None` before one has been stored.
    pub async fn issuer_url(&self) -> Result<Option<IssuerUrl>, StoreError> {
        let url: Option<String> = sqlx::query_scalar(ISSUER_URL).fetch_optional(&self.readers.lists).await?;
        url.map(|url| parse("issuer", "1", &url)).transpose()
    }

    /// Returns the policy, the counters and the times.
    pub async fn key_settings(&self) -> Result<KeySettings, StoreError> {
        key_settings(&mut *self.readers.keys.acquire().await?).await
    }

    /// Returns the values by which a running server notices changes.
    pub async fn key_pulse(&self) -> Result<KeyPulse, StoreError> {
        let row: PulseRow = sqlx::query_as(
            "SELECT generation, publications, high_water, pruning_time, set_backs, erasure_pending, states.n, \
             states.head FROM key_state LEFT JOIN states ON states.n = (SELECT MAX(n) FROM states) \
             WHERE key_state.id = 1",
        )
        .fetch_one(&self.readers.pulse)
        .await?;
        let (generation, publications, high_water, pruning_time, set_backs, erasure_pending, n, head) = row;
        let time = |millis| from_millis("key_state", "1", millis);
        let time =
            DatabaseTime { high_water: time(high_water)?, pruning_time: time(pruning_time)?, set_backs };
        // A head that does not parse becomes `None`, which differs from every trusted state.
        let state = n.zip(head).and_then(|(n, head)| Some(StatePoint { n, head: head.parse().ok()? }));
        Ok(KeyPulse { generation, publications, time, erasure_pending: erasure_pending.is_some(), state })
    }

    /// Returns the failures of the scheduled rotation since it last succeeded; `None` if there are none.
    pub async fn rotation_failures(&self) -> Result<Option<RotationFailures>, StoreError> {
        let (count, failed_at, error): (i64, Option<i64>, Option<String>) = sqlx::query_as(
            "SELECT rotation_failures, rotation_failed_at, rotation_error FROM key_state WHERE id = 1",
        )
        .fetch_one(&self.readers.lists)
        .await?;
        let (Some(failed_at), Some(error)) = (failed_at, error) else { return Ok(None) };
        Ok(Some(RotationFailures { count, failed_at: from_millis("key_state", "1", failed_at)?, error }))
    }
}

impl Trusted {
    /// Records the outcome of a scheduled rotation. A success clears the recorded failures.
    pub async fn note_rotation(&self, outcome: Result<(), &str>, now: Timestamp) -> Result<(), StoreError> {
        let statement = match outcome {
            Ok(()) => sqlx::query(
                "UPDATE key_state SET rotation_failures = 0, rotation_failed_at = NULL, rotation_error = NULL \
                 WHERE id = 1 AND rotation_failures > 0",
            ),
            Err(error) => sqlx::query(
                "UPDATE key_state SET rotation_failures = rotation_failures + 1, rotation_failed_at = $1, \
                 rotation_error = $2 WHERE id = 1",
            )
            .bind(to_millis(now))
            .bind(error.to_owned()),
        };
        let mut write = self.write().await?;
        statement.count_affected(write.connection()).await?;
        write.commit().await
    }

    /// Raises the database's times to those of `time`, and never lowers one. Does nothing if the high-water
    /// time has been set back since `time` was read: otherwise the wrong time would return.
    pub async fn raise_times(&self, time: DatabaseTime) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE key_state SET high_water = CASE WHEN high_water < $1 THEN $1 ELSE high_water END, \
             pruning_time = CASE WHEN pruning_time < $2 THEN $2 ELSE pruning_time END \
             WHERE id = 1 AND set_backs = $3",
        )
        .bind(to_millis(time.high_water))
        .bind(to_millis(time.pruning_time))
        .bind(time.set_backs)
        .count_affected(write.connection())
        .await?;
        write.commit().await
    }

    /// Finishes the destruction of private halves: empties the write-ahead log, and clears `erasure_pending`
    /// unless more private halves were destroyed meanwhile. Returns whether nothing is pending any more; a
    /// reader can delay that.
    pub async fn finish_erasure(&self) -> Result<bool, StoreError> {
        const PENDING: &str = "SELECT erasure_pending FROM key_state WHERE id = 1";
        let pending: Option<i64> = sqlx::query_scalar(PENDING).fetch_one(&self.readers.keys).await?;
        let Some(generation) = pending else { return Ok(true) };
        if !self.truncate_log().await? {
            return Ok(false);
        }
        let mut write = self.write().await?;
        let done =
            sqlx::query("UPDATE key_state SET erasure_pending = NULL WHERE id = 1 AND erasure_pending = $1")
                .bind(generation)
                .count_affected(write.connection())
                .await?;
        write.commit().await?;
        Ok(done == 1)
    }
}

type PulseRow = (i64, i64, i64, i64, i64, Option<i64>, Option<i64>, Option<String>);

const KEY_STATE: &str = "key_state";
const ISSUER_URL: &str = "SELECT url FROM issuer NOT INDEXED WHERE id = 1";
/// In the form that a state vouches for.
const POLICY: &str = "SELECT rotate_every || ' ' || propagation || ' ' || max_token_lifetime || ' ' || leeway || ' ' || \
                      jwks_max_age || ' ' || rsa_bits FROM key_state NOT INDEXED WHERE id = 1";

impl ReadTransaction {
    /// Returns the issuer URL, inside this transaction.
    pub async fn issuer_url(&mut self) -> Result<Option<IssuerUrl>, StoreError> {
        let url: Option<String> = sqlx::query_scalar(ISSUER_URL).fetch_optional(self.connection()).await?;
        url.map(|url| parse("issuer", "1", &url)).transpose()
    }

    /// Returns the policy, the counters and the times, inside this transaction.
    pub async fn key_settings(&mut self) -> Result<KeySettings, StoreError> {
        key_settings(self.connection()).await
    }

    /// Returns the policy in the form that a state vouches for; `None` in an empty database.
    pub(super) async fn stored_policy(&mut self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(POLICY).fetch_optional(self.connection()).await?)
    }

    /// Returns the issuer URL in the form that a state vouches for.
    pub(super) async fn stored_issuer_url(&mut self) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar(ISSUER_URL).fetch_optional(self.connection()).await?)
    }

    /// Returns every row of `issuer` and `key_state` in the form that a state vouches for: one of each, unless
    /// something other than carnet added one.
    pub(super) async fn stored_values(&mut self) -> Result<Vec<(Table, String)>, StoreError> {
        let urls: Vec<String> = sqlx::query_scalar(ISSUER_URL).fetch_all(self.connection()).await?;
        let policies: Vec<String> = sqlx::query_scalar(POLICY).fetch_all(self.connection()).await?;
        let policies = policies.into_iter().map(|policy| (Table::Policy, policy));
        Ok(urls.into_iter().map(|url| (Table::Issuer, url)).chain(policies).collect())
    }

    /// Checks that a state vouches for the issuer URL and the policy.
    ///
    /// # Errors
    ///
    /// [`StoreError::State`] names the one that differs.
    pub(super) async fn check_values(&mut self) -> Result<(), StoreError> {
        for (table, found) in
            [(Table::Issuer, self.stored_issuer_url().await?), (Table::Policy, self.stored_policy().await?)]
        {
            self.check_rows(table, found.iter().map(|value| ("", value.as_str()))).await?;
        }
        Ok(())
    }
}

impl Transaction {
    /// Stores the issuer URL and replaces an existing one.
    pub async fn set_issuer_url(&mut self, url: &IssuerUrl, now: Timestamp) -> Result<(), StoreError> {
        self.begin_change().await?;
        self.changed(Table::Issuer, "", Some(url.to_string()));
        sqlx::query(
            "INSERT INTO issuer (id, url, created_at) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE SET url = $1",
        )
        .bind(url.as_str())
        .bind(to_millis(now))
        .affects_one(self.connection(), "issuer")
        .await?;
        Ok(())
    }

    /// Increments the generation, by which every process notices that keys or settings have changed.
    /// `destroyed` is `true` if private halves were deleted, whose bytes are still in the write-ahead log.
    pub async fn bump_key_generation(&mut self, destroyed: bool) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE key_state SET generation = generation + 1, \
             erasure_pending = CASE WHEN $1 THEN generation + 1 ELSE erasure_pending END WHERE id = 1",
        )
        .bind(destroyed)
        .affects_one(self.connection(), KEY_STATE)
        .await?;
        Ok(())
    }

    /// Writes the policy and the size of new RSA keys.
    pub async fn set_key_settings(
        &mut self,
        policy: &RotationPolicy,
        rsa_bits: RsaBits,
    ) -> Result<(), StoreError> {
        self.begin_change().await?;
        let values = [
            to_seconds(policy.rotate_every()),
            to_seconds(policy.propagation()),
            to_seconds(policy.max_token_lifetime()),
            to_seconds(policy.leeway()),
            to_seconds(policy.jwks_max_age()),
            i64::from(rsa_bits.bits()),
        ];
        // Not read back from the table: the state vouches for the values meant.
        self.changed(Table::Policy, "", Some(values.map(|value| value.to_string()).join(" ")));
        let [rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age, rsa_bits] = values;
        sqlx::query(
            "UPDATE key_state SET rotate_every = $1, propagation = $2, max_token_lifetime = $3, leeway = $4, \
             jwks_max_age = $5, rsa_bits = $6 WHERE id = 1",
        )
        .bind(rotate_every)
        .bind(propagation)
        .bind(max_token_lifetime)
        .bind(leeway)
        .bind(jwks_max_age)
        .bind(rsa_bits)
        .affects_one(self.connection(), KEY_STATE)
        .await
    }
}

/// Writes the row of `key_state` of a new database, with the default policy. Does nothing if there is one.
pub(super) async fn insert_key_state(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<(), StoreError> {
    let policy = RotationPolicy::default();
    sqlx::query(
        "INSERT INTO key_state (id, generation, rotate_every, propagation, max_token_lifetime, leeway, \
         jwks_max_age, rsa_bits, high_water, pruning_time, rotation_failures) \
         VALUES (1, 0, $1, $2, $3, $4, $5, $6, $7, $7, 0) \
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(to_seconds(policy.rotate_every()))
    .bind(to_seconds(policy.propagation()))
    .bind(to_seconds(policy.max_token_lifetime()))
    .bind(to_seconds(policy.leeway()))
    .bind(to_seconds(policy.jwks_max_age()))
    .bind(i64::from(RsaBits::default().bits()))
    .bind(to_millis(now))
    .count_affected(connection)
    .await?;
    Ok(())
}

async fn key_settings(connection: &mut SqliteConnection) -> Result<KeySettings, StoreError> {
    let row: KeyStateRow = sqlx::query_as(
        "SELECT generation, publications, rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age, rsa_bits, \
         high_water, pruning_time, set_backs, erasure_pending FROM key_state WHERE id = 1",
    )
    .fetch_one(connection)
    .await?;
    row.settings()
}

impl KeyStateRow {
    fn settings(self) -> Result<KeySettings, StoreError> {
        let seconds = |value| from_seconds(KEY_STATE, "1", value);
        let policy = RotationPolicy::new(PolicyDurations {
            rotate_every: seconds(self.rotate_every)?,
            propagation: seconds(self.propagation)?,
            max_token_lifetime: seconds(self.max_token_lifetime)?,
            leeway: seconds(self.leeway)?,
            jwks_max_age: seconds(self.jwks_max_age)?,
        })
        .map_err(|error| corrupt(KEY_STATE, "1", error.to_string()))?;
        let rsa_bits = u16::try_from(self.rsa_bits)
            .ok()
            .and_then(|bits| RsaBits::try_from(bits).ok())
            .ok_or_else(|| corrupt(KEY_STATE, "1", format!("rsa_bits {}", self.rsa_bits)))?;
        Ok(KeySettings {
            generation: self.generation,
            publications: self.publications,
            policy,
            rsa_bits,
            high_water: from_millis(KEY_STATE, "1", self.high_water)?,
            pruning_time: from_millis(KEY_STATE, "1", self.pruning_time)?,
            set_backs: self.set_backs,
            erasure_pending: self.erasure_pending.is_some(),
        })
    }
}
