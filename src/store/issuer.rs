//! The issuer's one-row tables: its URL, its rotation policy, and the keys that the master key seals.

use jiff::Timestamp;

use super::sealed::{RowMac, SealedFor, Sealer};
use super::{Store, StoreError, Write, corrupt, from_seconds, parse, to_millis, to_seconds};
use crate::issuer_url::IssuerUrl;
use crate::jose::key_pair::RsaBits;
use crate::random::Random;
use crate::secret::SecretBytes;
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};

/// How keys are made and rotated, the same for every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySettings {
    /// Grows with every change of keys or settings.
    pub generation: i64,
    /// When keys rotate.
    pub policy: RotationPolicy,
    /// The size of new RSA keys.
    pub rsa_bits: RsaBits,
}

#[derive(sqlx::FromRow)]
struct KeyStateRow {
    generation: i64,
    rotate_every: i64,
    propagation: i64,
    max_token_lifetime: i64,
    leeway: i64,
    jwks_max_age: i64,
    rsa_bits: i64,
}

/// A key that the master key seals, as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct SealedKey {
    /// The master key that opens it.
    pub master_key_id: String,
    sealed: String,
}

impl Store {
    /// The issuer URL, once one has been stored.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the database cannot be read or holds no valid URL.
    pub async fn issuer_url(&self) -> Result<Option<IssuerUrl>, StoreError> {
        let url: Option<String> = sqlx::query_scalar(ISSUER_URL).fetch_optional(&self.readers).await?;
        url.map(|url| parse("issuer", "1", &url)).transpose()
    }

    /// The number that grows with every change of keys or settings.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the database cannot be read.
    pub async fn key_generation(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar("SELECT generation FROM key_state WHERE id = 1")
            .fetch_one(&self.readers)
            .await?)
    }

    /// The sealed key of the MAC on key rows; absent in a database that has not been set up.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the database cannot be read.
    pub async fn sealed_row_mac(&self) -> Result<Option<SealedKey>, StoreError> {
        Ok(sqlx::query_as(SEALED_KEY).bind(RowMac::NAME).fetch_optional(&self.readers).await?)
    }
}

const ISSUER_URL: &str = "SELECT url FROM issuer WHERE id = 1";
const SEALED_KEY: &str = "SELECT master_key_id, sealed FROM sealed_keys WHERE name = $1";

impl Write {
    /// As [`Store::issuer_url`], inside the transaction.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn issuer_url(&mut self) -> Result<Option<IssuerUrl>, StoreError> {
        let url: Option<String> = sqlx::query_scalar(ISSUER_URL).fetch_optional(self.connection()).await?;
        url.map(|url| parse("issuer", "1", &url)).transpose()
    }

    /// Stores the issuer URL, in place of another one if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the statement fails.
    pub async fn set_issuer_url(&mut self, url: &IssuerUrl, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO issuer (id, url, created_at) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE SET url = $1",
        )
        .bind(url.as_str())
        .bind(to_millis(now))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Policy and generation.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when the row is missing or breaks the policy's rules.
    pub async fn key_settings(&mut self) -> Result<KeySettings, StoreError> {
        let row: KeyStateRow = sqlx::query_as(
            "SELECT generation, rotate_every, propagation, max_token_lifetime, leeway, jwks_max_age, rsa_bits \
             FROM key_state WHERE id = 1",
        )
        .fetch_one(self.connection())
        .await?;
        row.settings()
    }

    /// Tells every process that keys or settings have changed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Sql`] when the statement fails.
    pub async fn bump_key_generation(&mut self) -> Result<(), StoreError> {
        sqlx::query("UPDATE key_state SET generation = generation + 1 WHERE id = 1")
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Sets up a new database: the default policy, and a fresh key for the MAC on key rows, sealed.
    /// Does nothing in one that has been set up.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when there is no randomness or a statement fails.
    pub async fn set_up(&mut self, sealer: &Sealer, random: &dyn Random) -> Result<(), StoreError> {
        let policy = RotationPolicy::default();
        sqlx::query(
            "INSERT INTO key_state (id, generation, rotate_every, propagation, max_token_lifetime, leeway, \
             jwks_max_age, rsa_bits) VALUES (1, 0, $1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
        )
        .bind(to_seconds(policy.rotate_every()))
        .bind(to_seconds(policy.propagation()))
        .bind(to_seconds(policy.max_token_lifetime()))
        .bind(to_seconds(policy.leeway()))
        .bind(to_seconds(policy.jwks_max_age()))
        .bind(i64::from(RsaBits::default().bits()))
        .execute(self.connection())
        .await?;

        let mut key = vec![0; 32];
        random.fill(&mut key).map_err(super::SealError::from)?;
        let sealed = sealer.seal(row_mac_key(), &SecretBytes::new(key), random)?;
        sqlx::query(
            "INSERT INTO sealed_keys (name, master_key_id, sealed) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(RowMac::NAME)
        .bind(sealer.master_key_id().as_str())
        .bind(sealed)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl SealedKey {
    /// Opens the key and makes the MAC of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Seal`] when the master key is another one.
    pub fn row_mac(&self, sealer: &Sealer) -> Result<RowMac, StoreError> {
        Ok(RowMac::new(&sealer.open(row_mac_key(), &self.master_key_id, &self.sealed)?))
    }
}

fn row_mac_key() -> SealedFor<'static> {
    SealedFor { purpose: "mac-key", name: RowMac::NAME, algorithm: "", issuer: "" }
}

impl KeyStateRow {
    fn settings(self) -> Result<KeySettings, StoreError> {
        const TABLE: &str = "key_state";
        let seconds = |value| from_seconds(TABLE, "1", value);
        let policy = RotationPolicy::new(PolicyDurations {
            rotate_every: seconds(self.rotate_every)?,
            propagation: seconds(self.propagation)?,
            max_token_lifetime: seconds(self.max_token_lifetime)?,
            leeway: seconds(self.leeway)?,
            jwks_max_age: seconds(self.jwks_max_age)?,
        })
        .map_err(|error| corrupt(TABLE, "1", error.to_string()))?;
        let rsa_bits = u16::try_from(self.rsa_bits)
            .ok()
            .and_then(|bits| RsaBits::try_from(bits).ok())
            .ok_or_else(|| corrupt(TABLE, "1", format!("rsa_bits {}", self.rsa_bits)))?;
        Ok(KeySettings { generation: self.generation, policy, rsa_bits })
    }
}
