//! Each change to a tracked row appends a state. No other change does.

mod effects;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{StateError, Witnesses};
use crate::grant::{Grant, Permissions, TokenHash};
use crate::jose::Algorithm;
use crate::jose::key_pair::{KeyPair, RsaBits};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::{SigningKey, Stage};
use crate::states::{Contents, DatabaseId, State, StatePoint};
use crate::store::grants::StoredGrant;
use crate::store::master_key::{MasterKey, MasterKeySource, MasterKeys};
use crate::store::sealed::Sealer;
use crate::store::state_file::{Known, StateFile};
use crate::store::{IfMissing, Store, StoreError, Transaction, Trusted};
use crate::values::random::SecureRandom;

struct World {
    folder: tempfile::TempDir,
    master_key: MasterKey,
    store: Trusted,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let master_key = MasterKey::generate(&SecureRandom::default()).unwrap();
        let url = folder.path().join("carnet.db").into();
        let store = Store::open(&url, IfMissing::Create).await.unwrap();
        let store = store.set_up_new(&master_key).await;
        Self { folder, master_key, store }
    }

    /// Opens the same database as another process.
    async fn other(&self) -> Result<Trusted, StoreError> {
        let store = Store::open(&self.folder.path().join("carnet.db").into(), IfMissing::Refuse).await?;
        let nowhere = MasterKeys { usual: MasterKeySource::File("/nowhere".into()), next: None };
        let sealer = Arc::new(Sealer::new(&self.master_key).unwrap());
        let store = store.unlock(nowhere, sealer, &SecureRandom::default()).await?;
        store.establish_state(&Witnesses::default()).await
    }

    fn n(&self) -> i64 {
        self.store.state_status().unwrap().state.n
    }

    /// Commits the changes of `change`, and returns the number of states appended. Checks that another
    /// process trusts the result.
    async fn moves(&self, change: impl AsyncFnOnce(&mut Transaction)) -> i64 {
        let before = self.n();
        let mut write = self.store.write().await.unwrap();
        change(&mut write).await;
        write.commit().await.unwrap();
        let other = self.other().await.unwrap();
        assert_eq!(other.state_status().unwrap().state, self.store.state_status().unwrap().state);
        other.signing_keys().await.unwrap();
        self.n() - before
    }
}

fn grant(id: u128, expires_at: Option<Timestamp>) -> StoredGrant {
    let grant = Grant {
        id: Uuid::from_u128(id),
        name: "ci".parse().unwrap(),
        permissions: Permissions::unlimited_admin(),
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "local:tester".to_owned(),
        expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    StoredGrant { grant, token_hash: TokenHash::of_nothing() }
}

fn key(pair: &KeyPair, stage: Stage) -> SigningKey {
    SigningKey {
        public: pair.public().clone(),
        prepared_at: Timestamp::UNIX_EPOCH,
        published_at: None,
        longest_lifetime: Duration::from_secs(60),
        stage,
    }
}

#[tokio::test]
async fn each_change_of_a_row_that_counts_appends_one_state() {
    let world = World::new().await;
    assert_eq!(world.n(), 1);
    let random = SecureRandom::default();
    let pair = KeyPair::generate(Algorithm::Es256, RsaBits::Rsa2048, &random).unwrap();
    let issuer = "https://issuer.example".parse().unwrap();
    let (now, policy) = (Timestamp::UNIX_EPOCH, RotationPolicy::default());
    let revoked = Stage::Revoked { activated_at: None, revoked_at: now };
    let mut held = grant(1, Some(now));
    assert_eq!(world.moves(async |write| write.set_issuer_url(&issuer, now).await.unwrap()).await, 1);
    assert_eq!(
        world.moves(async |write| write.set_key_settings(&policy, RsaBits::Rsa3072).await.unwrap()).await,
        1
    );
    let insert = async |write: &mut Transaction| {
        write.insert_signing_key(&key(&pair, Stage::Prepared), &pair, &issuer, &random).await.unwrap();
    };
    assert_eq!(world.moves(insert).await, 1);
    let update =
        async |write: &mut Transaction| write.update_signing_key(&key(&pair, revoked)).await.unwrap();
    assert_eq!(world.moves(update).await, 1);
    assert_eq!(world.moves(async |write| write.insert_grant(&held).await.unwrap()).await, 1);
    held.grant.revoked_at = Some(now);
    assert_eq!(world.moves(async |write| write.update_grant_times(&held).await.unwrap()).await, 1);
    let later = Timestamp::from_second(1).unwrap();
    assert_eq!(world.moves(async |write| write.remove_grants_ended_before(later).await.unwrap()).await, 1);
    // Two changes in one transaction append one state. No change appends none.
    let two = async |write: &mut Transaction| {
        write.insert_grant(&grant(2, None)).await.unwrap();
        write.insert_grant(&grant(3, None)).await.unwrap();
    };
    assert_eq!(world.moves(two).await, 1);
    assert_eq!(world.moves(async |write| write.remove_grants_ended_before(later).await.unwrap()).await, 0);
    assert_eq!(world.moves(async |write| write.bump_key_generation(true).await.unwrap()).await, 0);
}

#[tokio::test]
async fn a_rolled_back_change_makes_no_state() {
    let world = World::new().await;
    let mut write = world.store.write().await.unwrap();
    write.insert_grant(&grant(1, None)).await.unwrap();
    drop(write);
    assert_eq!(world.n(), 1);
    assert_eq!(world.moves(async |write| write.insert_grant(&grant(2, None)).await.unwrap()).await, 1);
}

#[tokio::test]
async fn a_restored_row_is_not_accepted_with_the_change_of_another_one() {
    let world = World::new().await;
    let mut held = grant(1, None);
    world.moves(async |write| write.insert_grant(&held).await.unwrap()).await;
    let row = "SELECT mac FROM grants WHERE revoked_at IS NULL";
    let old: String = sqlx::query_scalar(row).fetch_one(&*world.store.writer).await.unwrap();
    held.grant.revoked_at = Some(Timestamp::UNIX_EPOCH);
    world.moves(async |write| write.update_grant_times(&held).await.unwrap()).await;
    sqlx::query("UPDATE grants SET revoked_at = NULL, mac = $1")
        .bind(old)
        .execute(&*world.store.writer)
        .await
        .unwrap();

    let mut write = world.store.write().await.unwrap();
    write.insert_grant(&grant(2, None)).await.unwrap();
    write.commit().await.unwrap();
    let found = world.store.grant(held.grant.id).await.unwrap();
    assert!(matches!(found, Some(crate::store::grants::GrantRow::Forged { .. })), "{found:?}");
    let refused = world.other().await.unwrap_err();
    assert!(matches!(refused, StoreError::State(StateError::Altered { n: 4, .. })), "{refused}");
}

#[tokio::test]
async fn a_process_follows_another_one_and_reads_all_rows_only_then() {
    let world = World::new().await;
    let other = world.other().await.unwrap();
    world.moves(async |write| write.insert_grant(&grant(1, None)).await.unwrap()).await;
    assert!(matches!(
        other.grant(Uuid::from_u128(1)).await.unwrap(),
        Some(crate::store::grants::GrantRow::Authentic(_))
    ));
    assert_eq!(other.state_status().unwrap().state.n, 2);
    let pulse = other.key_pulse().await.unwrap();
    other.follow_state(pulse.state).await.unwrap();
    other.follow_state(None).await.unwrap();
}

#[tokio::test]
async fn an_accepted_database_continues_above_every_state_that_a_witness_remembers() {
    let head = State::first(&DatabaseId::of(b"lost"), Contents::default().digest()).head;
    for (in_file, given, expected) in [
        (None, None, 3),
        (None, Some(1), 3),
        (None, Some(2), 3),
        (None, Some(9), 10),
        (Some(7), None, 8),
        (Some(7), Some(9), 10),
        (Some(12), Some(9), 13),
    ] {
        let world = World::new().await;
        world.moves(async |write| write.insert_grant(&grant(1, None)).await.unwrap()).await;
        let id = world.store.state_status().unwrap().database_id;
        let keys = MasterKeys { usual: MasterKeySource::File("/nowhere".into()), next: None };
        let file = StateFile::new(world.folder.path().join("state"), keys);
        let sealer = Arc::new(Sealer::new(&world.master_key).unwrap());
        if let Some(n) = in_file {
            let known =
                Known { state: StatePoint { n, head }, revoked: Vec::new(), unproved: false, accepted: None };
            file.raise(&id, &known, &sealer, None).unwrap();
        }
        let at_least = given.map(|n| StatePoint { n, head });
        let witnesses = Witnesses { file: Some(file), at_least };

        let store =
            Store::open(&world.folder.path().join("carnet.db").into(), IfMissing::Refuse).await.unwrap();
        let nowhere = MasterKeys { usual: MasterKeySource::File("/nowhere".into()), next: None };
        let store = store.unlock(nowhere, sealer, &SecureRandom::default()).await.unwrap();
        let (store, moved) = store.tolerate_state(&witnesses).unwrap();
        assert_eq!(moved, None);
        let mut write = store.write().await.unwrap();
        write.revoke_all_grants(Timestamp::UNIX_EPOCH).await.unwrap();
        write.commit().await.unwrap();
        let state = store.state_status().unwrap().state;
        assert_eq!(state.n, expected, "{in_file:?} {given:?}");
        // The next start takes it, and remembers it.
        let remembered = Witnesses { at_least: Some(state), ..witnesses };
        assert!(store.examine_state(&remembered).await.unwrap().is_some_and(|(.., is_proved)| is_proved));
    }
}

#[tokio::test]
async fn an_older_database_is_described_by_its_own_last_state() {
    let world = World::new().await;
    for id in 1..=3 {
        world.moves(async |write| write.insert_grant(&grant(id, None)).await.unwrap()).await;
    }
    let mut later = world.store.state_status().unwrap().state;
    later.n = 9;
    let witnesses = Witnesses { file: None, at_least: Some(later) };
    let error = world.store.examine_state(&witnesses).await.unwrap_err();
    assert!(matches!(error, StoreError::State(StateError::Older { found: 4, known: 9, .. })), "{error}");
}
