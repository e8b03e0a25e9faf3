//! The rows of `signing_keys`: authenticated when read, sealed when written.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::{FromRow as _, Row as _};

use super::issuer::KeySettings;
use super::keyring::{Keyring, Purpose};
use super::rewrap::ForgedRow;
use super::sealed::{RowMac, SealError, SealedFor, Sealer};
use super::states::Effects as _;
use super::{
    ReadTransaction, StoreError, Transaction, Unlocked, corrupt, from_millis, from_seconds, to_millis,
    to_seconds,
};
use crate::jose::jwk::PublicKey;
use crate::jose::jws::Signer;
use crate::jose::key_pair::KeyPair;
use crate::signing_keys::publication::{self, KeyLocation};
use crate::signing_keys::{SigningKey, Stage};
use crate::states::Table;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::Random;

/// A signing key as it is stored. Its private half, if it still exists, is sealed.
#[derive(Debug, Clone)]
pub struct StoredKey {
    /// The key and its events.
    pub key: SigningKey,
    sealed: Option<SealedPrivate>,
}

/// A private half as it is stored.
#[derive(Debug, Clone)]
pub struct SealedPrivate {
    master_key_id: String,
    sealed: String,
}

/// A snapshot of all signing keys, and the settings at the same moment.
#[derive(Debug, Clone)]
pub struct StoredKeys {
    /// The issuer of the keys.
    pub issuer: Option<IssuerUrl>,
    /// The policy, the counters and the times.
    pub settings: KeySettings,
    /// Every key that was ever made, oldest first.
    pub keys: Vec<StoredKey>,
    /// The sources of keys for verifiers besides the servers.
    pub locations: Vec<KeyLocation>,
    /// The keys that authenticated the rows. Their sealer opens the private halves.
    pub keyring: Arc<Keyring>,
}

impl StoredKeys {
    /// Returns the keys without their private halves.
    #[must_use]
    pub fn public(&self) -> Vec<SigningKey> {
        self.keys.iter().map(|stored| stored.key.clone()).collect()
    }

    /// Refuses a retired key that would stay published for longer than its retirement and lifetime allow.
    /// Such a row counts as forged, although its MAC is valid.
    pub fn check_published_until(&self, now: Timestamp) -> Result<(), StoreError> {
        let latest = now.max(self.settings.high_water);
        let overstays = |stored: &&StoredKey| stored.key.overstays(&self.settings.policy, now, latest);
        match self.keys.iter().find(overstays) {
            Some(stored) => Err(SealError::Overstays { kid: stored.key.kid().to_string() }.into()),
            None => Ok(()),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    alg: String,
    public_jwk: String,
    prepared_at: i64,
    activated_at: Option<i64>,
    retired_at: Option<i64>,
    revoked_at: Option<i64>,
    published_until: Option<i64>,
    longest_lifetime: i64,
    sealed_private: Option<String>,
    master_key_id: Option<String>,
    mac: String,
}

const TABLE: &str = "signing_keys";
const ALL: &str = "SELECT kid, alg, public_jwk, prepared_at, activated_at, retired_at, revoked_at, published_until, \
                   longest_lifetime, sealed_private, master_key_id, mac FROM signing_keys NOT INDEXED ORDER BY prepared_at, kid";

impl Unlocked {
    /// Returns every signing key, each row authenticated.
    ///
    /// # Errors
    ///
    /// [`StoreError::Seal`] or [`StoreError::State`] if one row is forged: the whole read then fails, and the
    /// error names the row's `kid`.
    pub async fn signing_keys(&self) -> Result<StoredKeys, StoreError> {
        // One transaction, because the keys and the generation must match.
        self.read_from(&self.readers.keys).await?.signing_keys().await
    }
}

impl ReadTransaction {
    /// Returns every signing key, each row authenticated, inside this transaction.
    pub async fn signing_keys(&mut self) -> Result<StoredKeys, StoreError> {
        let keyring = self.keyring();
        let mac = keyring.mac(Purpose::SigningKeys);
        let issuer = self.issuer_url().await?;
        let settings = self.key_settings().await?;
        let rows = self.key_rows().await?;
        self.check_rows(Table::SigningKeys, rows.iter().map(|row| (row.kid.as_str(), row.mac.as_str())))
            .await?;
        self.check_values().await?;
        let mut keys: Vec<StoredKey> =
            rows.into_iter().map(|row| row.stored_key(mac)).collect::<Result<_, _>>()?;
        let locations = self.locations().await?;
        for StoredKey { key, .. } in &mut keys {
            key.published_at = publication::published_at(key, &locations);
        }
        Ok(StoredKeys { issuer, settings, keys, locations, keyring })
    }

    async fn key_rows(&mut self) -> Result<Vec<Row>, StoreError> {
        Ok(sqlx::query_as(ALL).fetch_all(self.connection()).await?)
    }

    /// Checks the MAC of every row, without comparing it with the states. The error names a forged row.
    pub(super) async fn check_key_macs(&mut self) -> Result<(), StoreError> {
        let keyring = self.keyring();
        let read = |row: Row| row.stored_key(keyring.mac(Purpose::SigningKeys)).map(drop);
        self.key_rows().await?.into_iter().try_for_each(read)
    }

    /// Returns the rows that carnet did not write.
    pub(super) async fn forged_signing_keys(&mut self) -> Result<Vec<ForgedRow>, StoreError> {
        let keyring = self.keyring();
        Ok(self.each_signing_key(keyring.mac(Purpose::SigningKeys)).await?.1)
    }

    async fn each_signing_key(
        &mut self,
        mac: &RowMac,
    ) -> Result<(Vec<StoredKey>, Vec<ForgedRow>), StoreError> {
        let rows = sqlx::query(ALL).fetch_all(self.connection()).await?;
        let (mut keys, mut forged) = (Vec::new(), Vec::new());
        for row in rows {
            match Row::from_row(&row).ok().and_then(|row| row.stored_key(mac).ok()) {
                Some(key) => keys.push(key),
                None => forged.push(ForgedRow::of(TABLE, row.try_get("kid").ok())),
            }
        }
        Ok((keys, forged))
    }
}

impl Transaction {
    /// Returns the authentic signing keys and deletes the other rows, for a recovery. Also returns the
    /// deleted rows.
    pub async fn keep_authentic_signing_keys(&mut self) -> Result<(StoredKeys, Vec<ForgedRow>), StoreError> {
        // Before new symmetric keys are generated, because the old master key authenticates the state file.
        self.begin_change().await?;
        let keyring = self.keyring();
        let (keys, forged) = self.each_signing_key(keyring.mac(Purpose::SigningKeys)).await?;
        // Keeps the authentic rows instead of naming the others: a forged `kid` need not be text.
        let authentic: Vec<String> = (1..=keys.len()).map(|number| format!("${number}")).collect();
        let authentic = authentic.join(", ");
        let delete =
            format!("DELETE FROM signing_keys NOT INDEXED WHERE kid IS NULL OR kid NOT IN ({authentic})");
        let mut query = sqlx::query(sqlx::AssertSqlSafe(delete));
        for StoredKey { key, .. } in &keys {
            query = query.bind(key.kid().to_string());
        }
        query.affects(self.connection(), TABLE, forged.len() as u64).await?;
        for StoredKey { key, .. } in &keys {
            let row = Row::new(key, None, keyring.mac(Purpose::SigningKeys));
            self.changed(Table::SigningKeys, &row.kid, Some(row.mac));
        }
        let (issuer, settings) = (self.issuer_url().await?, self.key_settings().await?);
        Ok((StoredKeys { issuer, settings, keys, locations: Vec::new(), keyring }, forged))
    }

    /// Writes a new key, with its private half sealed for `issuer`. A unique index refuses a second active or
    /// prepared key of one algorithm.
    pub async fn insert_signing_key(
        &mut self,
        key: &SigningKey,
        pair: &KeyPair,
        issuer: &IssuerUrl,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        self.begin_change().await?;
        let keyring = self.keyring();
        let (kid, sealer) = (key.kid(), keyring.sealer());
        let sealed = sealer.seal(sealed_for(key, kid.as_str(), issuer), pair.pkcs8(), random)?;
        let sealed = Some((sealed, sealer.master_key_id().to_string()));
        let row = Row::new(key, sealed, keyring.mac(Purpose::SigningKeys));
        self.changed(Table::SigningKeys, &row.kid, Some(row.mac.clone()));
        sqlx::query(
            "INSERT INTO signing_keys (kid, alg, public_jwk, prepared_at, activated_at, retired_at, revoked_at, \
             published_until, longest_lifetime, sealed_private, master_key_id, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(row.kid)
        .bind(row.alg)
        .bind(row.public_jwk)
        .bind(row.prepared_at)
        .bind(row.activated_at)
        .bind(row.retired_at)
        .bind(row.revoked_at)
        .bind(row.published_until)
        .bind(row.longest_lifetime)
        .bind(row.sealed_private)
        .bind(row.master_key_id)
        .bind(row.mac)
        .affects_one(self.connection(), TABLE)
        .await?;
        Ok(())
    }

    /// Writes the events of a key. Deletes the private half of a key that may no longer sign.
    pub async fn update_signing_key(&mut self, key: &SigningKey) -> Result<(), StoreError> {
        self.begin_change().await?;
        let row = Row::new(key, None, self.keyring().mac(Purpose::SigningKeys));
        self.changed(Table::SigningKeys, &row.kid, Some(row.mac.clone()));
        sqlx::query(
            "UPDATE signing_keys SET activated_at = $2, retired_at = $3, revoked_at = $4, published_until = $5, \
             longest_lifetime = $6, mac = $7, prepared_at = $9, \
             sealed_private = CASE WHEN $8 THEN sealed_private ELSE NULL END, \
             master_key_id = CASE WHEN $8 THEN master_key_id ELSE NULL END WHERE kid = $1",
        )
        .bind(row.kid)
        .bind(row.activated_at)
        .bind(row.retired_at)
        .bind(row.revoked_at)
        .bind(row.published_until)
        .bind(row.longest_lifetime)
        .bind(row.mac)
        .bind(key.has_private_half())
        .bind(row.prepared_at)
        .affects_one(self.connection(), TABLE)
        .await?;
        Ok(())
    }

    /// Seals a private half again: for another issuer, or under another master key.
    pub async fn reseal_signing_key(
        &mut self,
        key: &SigningKey,
        pair: &KeyPair,
        issuer: &IssuerUrl,
        sealer: &Sealer,
        random: &dyn Random,
    ) -> Result<(), StoreError> {
        let kid = key.kid();
        let sealed = sealer.seal(sealed_for(key, kid.as_str(), issuer), pair.pkcs8(), random)?;
        sqlx::query("UPDATE signing_keys SET sealed_private = $2, master_key_id = $3 WHERE kid = $1")
            .bind(kid.as_str())
            .bind(sealed)
            .bind(sealer.master_key_id().as_str())
            .affects_one(self.connection(), TABLE)
            .await?;
        Ok(())
    }
}

impl StoredKey {
    /// Opens the private half; `None` if it is destroyed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Seal`] if it does not open; [`StoreError::Corrupt`] if it does not belong to the row's
    /// public half.
    pub fn key_pair(&self, issuer: &IssuerUrl, sealer: &Sealer) -> Result<Option<KeyPair>, StoreError> {
        let Some(SealedPrivate { master_key_id, sealed }) = &self.sealed else { return Ok(None) };
        let kid = self.key.kid();
        let pkcs8 = sealer.open(sealed_for(&self.key, kid.as_str(), issuer), master_key_id, sealed)?;
        let pair = KeyPair::from_pkcs8(self.key.algorithm(), pkcs8)
            .map_err(|error| corrupt(TABLE, kid.as_str(), error.to_string()))?;
        if *pair.public() == self.key.public {
            Ok(Some(pair))
        } else {
            Err(corrupt(TABLE, kid.as_str(), "the private key belongs to another public key"))
        }
    }

    /// Opens the private half for signing; `None` if it is destroyed.
    pub fn signer(&self, issuer: &IssuerUrl, sealer: &Sealer) -> Result<Option<Signer>, StoreError> {
        self.key_pair(issuer, sealer)?
            .map(|pair| {
                pair.signer().map_err(|error| corrupt(TABLE, self.key.kid().as_str(), error.to_string()))
            })
            .transpose()
    }
}

fn sealed_for<'a>(key: &SigningKey, kid: &'a str, issuer: &'a IssuerUrl) -> SealedFor<'a> {
    SealedFor {
        purpose: "signing-key",
        name: kid,
        algorithm: key.algorithm().as_str(),
        issuer: issuer.as_str(),
    }
}

impl Row {
    fn new(key: &SigningKey, sealed: Option<(String, String)>, mac: &RowMac) -> Self {
        let (activated_at, retired_at, revoked_at) = match key.stage {
            Stage::Prepared => (None, None, None),
            Stage::Active { activated_at } => (Some(activated_at), None, None),
            Stage::Retired { activated_at, retired_at, .. } => (Some(activated_at), Some(retired_at), None),
            Stage::Revoked { activated_at, revoked_at } => (activated_at, None, Some(revoked_at)),
        };
        let (sealed_private, master_key_id) = sealed.unzip();
        let mut row = Self {
            kid: key.kid().to_string(),
            alg: key.algorithm().to_string(),
            public_jwk: key.public.to_jwk(),
            prepared_at: to_millis(key.prepared_at),
            activated_at: activated_at.map(to_millis),
            retired_at: retired_at.map(to_millis),
            revoked_at: revoked_at.map(to_millis),
            published_until: match key.stage {
                Stage::Retired { published_until, .. } => Some(to_millis(published_until)),
                _ => None,
            },
            longest_lifetime: to_seconds(key.longest_lifetime),
            sealed_private,
            master_key_id,
            mac: String::new(),
        };
        row.mac = row.authenticated(|columns| mac.tag(columns));
        row
    }

    fn stored_key(self, mac: &RowMac) -> Result<StoredKey, StoreError> {
        if !self.authenticated(|columns| mac.verifies(columns, &self.mac)) {
            return Err(SealError::ForgedRow { kid: self.kid.chars().take(64).collect() }.into());
        }
        let time = |millis| from_millis(TABLE, &self.kid, millis);
        let public = PublicKey::from_jwk(&self.public_jwk)
            .map_err(|error| corrupt(TABLE, &self.kid, error.to_string()))?;
        if public.thumbprint().as_str() != self.kid {
            return Err(corrupt(TABLE, &self.kid, "the kid is not the thumbprint of the public key"));
        }
        let optional = |millis: Option<i64>| millis.map(time).transpose();
        let events = (
            optional(self.activated_at)?,
            optional(self.retired_at)?,
            optional(self.revoked_at)?,
            optional(self.published_until)?,
        );
        let stage =
            stage(events).ok_or_else(|| corrupt(TABLE, &self.kid, "its events contradict one another"))?;
        let key = SigningKey {
            public,
            prepared_at: time(self.prepared_at)?,
            published_at: None,
            longest_lifetime: from_seconds(TABLE, &self.kid, self.longest_lifetime)?,
            stage,
        };
        let sealed = self
            .sealed_private
            .zip(self.master_key_id)
            .map(|(sealed, master_key_id)| SealedPrivate { master_key_id, sealed });
        if sealed.is_some() != key.has_private_half() {
            return Err(corrupt(
                TABLE,
                &self.kid,
                "a private key is missing, or exists although the key must not sign",
            ));
        }
        Ok(StoredKey { key, sealed })
    }

    /// Calls `use_columns` with every column under the MAC, in their fixed order.
    fn authenticated<T>(&self, use_columns: impl FnOnce(&[&str]) -> T) -> T {
        let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
        use_columns(&[
            "signing-key-row-1",
            &self.kid,
            &self.alg,
            &self.public_jwk,
            &number(Some(self.prepared_at)),
            &number(self.activated_at),
            &number(self.retired_at),
            &number(self.revoked_at),
            &number(self.published_until),
            &number(Some(self.longest_lifetime)),
        ])
    }
}

type Events = (Option<Timestamp>, Option<Timestamp>, Option<Timestamp>, Option<Timestamp>);

fn stage(events: Events) -> Option<Stage> {
    Some(match events {
        (None, None, None, None) => Stage::Prepared,
        (Some(activated_at), None, None, None) => Stage::Active { activated_at },
        (Some(activated_at), Some(retired_at), None, Some(published_until)) => {
            Stage::Retired { activated_at, retired_at, published_until }
        }
        (activated_at, None, Some(revoked_at), None) => Stage::Revoked { activated_at, revoked_at },
        _ => return None,
    })
}
