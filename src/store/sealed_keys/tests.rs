use std::collections::BTreeMap;

use jiff::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::grant::{Grant, Permissions, TokenHash};
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::master_key::{MasterKey, MasterKeySource};
use crate::store::states::Witnesses;
use crate::store::vault::Vault;
use crate::store::{IfMissing, Trusted};
use crate::values::actor::Actor;
use crate::values::random::SecureRandom;

struct Database {
    folder: TempDir,
    master_key: MasterKey,
    random: SecureRandom,
}

impl Database {
    fn new() -> Self {
        let random = SecureRandom::default();
        let master_key = MasterKey::generate(&random).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), master_key, random }
    }

    async fn open(&self) -> Store {
        let url = self.folder.path().join("carnet.db").into();
        Store::open(&url, IfMissing::Create).await.unwrap()
    }

    async fn set_up(&self) -> Trusted {
        self.open().await.set_up_new(&self.master_key).await
    }

    /// Unlocks the database as a process with `next` as the file of its next master key.
    async fn unlock(&self, with: &MasterKey) -> Result<Unlocked, StoreError> {
        let store = self.open().await;
        let usual = MasterKeySource::Folder(self.folder.path().join("keys"));
        let keys = MasterKeys { usual, next: Some(self.next_file()) };
        store.unlock(keys, Arc::new(Sealer::new(with).unwrap()), &self.random).await
    }

    fn next_file(&self) -> std::path::PathBuf {
        self.folder.path().join("next.key")
    }

    async fn rewrap(&self, store: &Trusted) -> MasterKey {
        let vault = Vault::new(
            store.clone(),
            "https://issuer.example".parse().unwrap(),
            Arc::new(crate::values::clock::SystemClock::new()),
            Arc::new(SecureRandom::default()),
        );
        let next = MasterKey::generate(&self.random).unwrap();
        let failed = vault.rewrap(&next, &Actor::local("test"), Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(failed, Some(Vec::new()));
        next
    }
}

async fn execute(store: &Store, sql: &'static str) {
    sqlx::query(sql).execute(&*store.writer).await.unwrap();
}

async fn sealed(store: &Store) -> BTreeMap<String, (String, String)> {
    let rows: Vec<(String, String, String)> =
        sqlx::query_as("SELECT name, master_key_id, sealed FROM sealed_keys")
            .fetch_all(&store.readers.lists)
            .await
            .unwrap();
    rows.into_iter().map(|(name, id, sealed)| (name, (id, sealed))).collect()
}

fn names() -> Vec<&'static str> {
    let mut names = Purpose::ALL.map(Purpose::name).to_vec();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn every_symmetric_key_is_of_the_list_and_made_at_the_first_start() {
    let database = Database::new();
    let store = database.set_up().await;
    let found = sealed(&store).await;
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), names());
    let keyring = store.keyring();
    let tags: std::collections::BTreeSet<_> =
        Purpose::ALL.into_iter().map(|purpose| keyring.mac(purpose).tag(&["same"])).collect();
    assert_eq!(tags.len(), Purpose::ALL.len(), "two purposes share a key");
}

#[tokio::test]
async fn a_rewrap_makes_every_key_of_the_list_anew() {
    let database = Database::new();
    let store = database.set_up().await;
    let (before, rows_before) = (store.keyring(), sealed(&store).await);
    let next = database.rewrap(&store).await;
    let (after, rows_after) = (store.keyring(), sealed(&store).await);
    assert_eq!((before.epoch(), after.epoch()), (1, 2));
    assert_eq!(rows_after.keys().map(String::as_str).collect::<Vec<_>>(), names());
    for purpose in Purpose::ALL {
        assert_ne!(before.mac(purpose).tag(&["row"]), after.mac(purpose).tag(&["row"]), "{purpose}");
        let (before, after) = (&rows_before[purpose.name()], &rows_after[purpose.name()]);
        assert_eq!(
            (before.0.as_str(), after.0.as_str()),
            (database.master_key.id().as_str(), next.id().as_str())
        );
    }
    assert!(matches!(
        database.unlock(&database.master_key).await,
        Err(StoreError::Seal(crate::store::SealError::OtherMasterKey { .. }))
    ));
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
    assert!(database.unlock(&next).await.unwrap().verify_audit(&[]).await.unwrap().is_clean());
}

#[tokio::test]
async fn a_key_that_is_gone_is_never_made_again() {
    for purpose in Purpose::ALL {
        let database = Database::new();
        let store = database.set_up().await;
        let mut write = store.write().await.unwrap();
        sqlx::query("DELETE FROM sealed_keys WHERE name = $1")
            .bind(purpose.name())
            .execute(write.connection())
            .await
            .unwrap();
        write.commit().await.unwrap();
        let error = database.unlock(&database.master_key).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { table: "sealed_keys", .. }), "{purpose}: {error}");
    }
}

#[tokio::test]
async fn a_process_follows_an_epoch_once_it_can_open_it() {
    let database = Database::new();
    let store = database.set_up().await;
    let other = database.unlock(&database.master_key).await.unwrap();
    let other = other.establish_state(&Witnesses::default()).await.unwrap();
    let next = database.rewrap(&store).await;
    let stuck = other.write().await.unwrap_err();
    assert!(matches!(stuck, StoreError::OtherEpoch { epoch: 2, in_use: 1, .. }), "{stuck}");
    assert!(matches!(other.signing_keys().await, Err(StoreError::OtherEpoch { .. })));
    assert!(matches!(other.grants().await, Err(StoreError::OtherEpoch { .. })));
    next.write_new(&database.next_file()).unwrap();
    other.write().await.unwrap();
    assert_eq!(other.keyring().epoch(), 2);
    // An earlier epoch means an older copy of the database.
    execute(&other, "UPDATE key_state SET epoch = 1").await;
    assert!(matches!(other.write().await, Err(StoreError::OtherEpoch { .. })));
}

fn a_grant() -> StoredGrant {
    let grant = Grant {
        id: Uuid::from_u128(1),
        name: "one".parse().unwrap(),
        permissions: Permissions::unlimited_admin(),
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "local:test".to_owned(),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    StoredGrant { grant, token_hash: TokenHash::of_nothing() }
}

/// Returns the database to version 0, in which one key authenticated signing keys and grants.
async fn before_the_list(store: &Trusted) {
    let mut write = store.write().await.unwrap();
    write.insert_grant(&a_grant()).await.unwrap();
    let keyring = write.keyring();
    let (grants, signing_keys) = (keyring.mac(Purpose::Grants), keyring.mac(Purpose::SigningKeys));
    assert!(write.renew_grant_macs(grants, signing_keys).await.unwrap().is_empty());
    write.commit().await.unwrap();
    execute(store, "DELETE FROM sealed_keys WHERE name NOT IN ('signing-key-rows', 'audit-chain')").await;
    execute(store, "UPDATE key_state SET purposes = 0").await;
    execute(store, "DELETE FROM states").await;
}

#[tokio::test]
async fn a_database_from_before_the_list_is_completed_and_its_grants_stay() {
    let database = Database::new();
    before_the_list(&database.set_up().await).await;
    let store = database.unlock(&database.master_key).await.unwrap();
    assert_eq!(sealed(&store).await.keys().map(String::as_str).collect::<Vec<_>>(), names());
    assert!(matches!(store.grants().await.unwrap()[..], [GrantRow::Authentic(_)]));
    assert!(store.verify_audit(&[]).await.unwrap().is_clean());
}

#[tokio::test]
async fn completing_a_database_makes_no_forged_grant_good() {
    let database = Database::new();
    let store = database.set_up().await;
    before_the_list(&store).await;
    execute(&store, "UPDATE grants SET created_by = 'other'").await;
    let store = database.unlock(&database.master_key).await.unwrap();
    assert!(matches!(store.grants().await.unwrap()[..], [GrantRow::Forged { .. }]));
}

#[tokio::test]
async fn a_database_with_states_is_not_completed_as_one_from_before_the_list() {
    let database = Database::new();
    let store = database.set_up().await;
    execute(&store, "UPDATE key_state SET purposes = 0").await;
    let error = database.unlock(&database.master_key).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { table: "key_state", .. }), "{error}");
}
