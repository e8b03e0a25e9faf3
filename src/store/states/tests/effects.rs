//! A statement that does not do what it says fails its transaction, and a state vouches for no row that its
//! transaction did not write.
//!
//! Something other than carnet interferes inside a transaction, after the check of the schema: with a trigger of
//! the connection alone, or with an index that points to another one.

use jiff::Timestamp;
use uuid::Uuid;

use super::{World, grant, key};
use crate::jose::Algorithm;
use crate::jose::key_pair::{KeyPair, RsaBits};
use crate::signing_keys::policy::{PolicyDurations, RotationPolicy};
use crate::signing_keys::{SigningKey, Stage};
use crate::store::grants::{GrantRow, StoredGrant};
use crate::store::states::{StateError, Witnesses};
use crate::store::{StoreError, Transaction, Trusted};
use crate::values::actor::Actor;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::SecureRandom;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn issuer() -> IssuerUrl {
    "https://issuer.example".parse().unwrap()
}

fn pair() -> KeyPair {
    KeyPair::generate(Algorithm::Es256, RsaBits::Rsa2048, &SecureRandom::default()).unwrap()
}

fn revoked(pair: &KeyPair) -> SigningKey {
    key(pair, Stage::Revoked { activated_at: None, revoked_at: NOW })
}

fn child_of(maker: &StoredGrant, id: u128) -> StoredGrant {
    let mut child = grant(id, None);
    child.grant.created_by = Actor::grant(maker.grant.id).to_string();
    child
}

async fn execute(write: &mut Transaction, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    sqlx::query(statement).execute(write.connection()).await.unwrap();
}

/// Makes `act` happen with every `cause`, as in `AFTER UPDATE ON grants`, on the connection that writes.
async fn interfere(write: &mut Transaction, cause: &str, act: &str) {
    execute(write, &format!("CREATE TEMP TRIGGER interferes {cause} BEGIN {act}; END")).await;
}

/// Points an index to an empty one: statements that use it find no row.
async fn empty_index(write: &mut Transaction, index: &str) {
    execute(write, "CREATE TABLE other (a TEXT PRIMARY KEY)").await;
    execute(write, "CREATE INDEX other_index ON other (a)").await;
    let own = if index.starts_with("sqlite_") { "sqlite_autoindex_other_1" } else { "other_index" };
    execute(write, "PRAGMA writable_schema = ON").await;
    execute(
        write,
        &format!(
            "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema WHERE name = '{own}') \
             WHERE name = '{index}'"
        ),
    )
    .await;
    execute(write, "PRAGMA writable_schema = RESET").await;
}

/// A database with two active grants, of which the second was made by the first, and a prepared key.
async fn world() -> (World, KeyPair) {
    let (world, pair) = (World::new().await, pair());
    let mut write = world.store.write().await.unwrap();
    write.set_issuer_url(&issuer(), NOW).await.unwrap();
    let random = SecureRandom::default();
    write.insert_signing_key(&key(&pair, Stage::Prepared), &pair, &issuer(), &random).await.unwrap();
    write.insert_grant(&grant(1, None)).await.unwrap();
    write.insert_grant(&child_of(&grant(1, None), 2)).await.unwrap();
    write.commit().await.unwrap();
    (world, pair)
}

async fn recovery(world: &World) -> Trusted {
    let store = world.other().await.unwrap().unlocked.clone();
    let store = crate::store::Unlocked { guard: None, ..store };
    store.tolerate_state(&Witnesses::default()).unwrap().0
}

fn is_ineffective(outcome: &Result<(), StoreError>, of: &str) -> bool {
    matches!(outcome, Err(StoreError::State(StateError::Ineffective { table, .. })) if *table == of)
}

#[tokio::test]
async fn an_ignored_statement_fails_its_transaction() {
    let (world, pair) = world().await;
    let policy = RotationPolicy::default();
    for (table, cause) in [
        ("signing_keys", "BEFORE UPDATE ON signing_keys"),
        ("grants", "BEFORE UPDATE ON grants"),
        ("grants", "BEFORE INSERT ON grants"),
        ("grants", "BEFORE DELETE ON grants"),
        ("key_state", "BEFORE UPDATE ON key_state"),
        ("audit", "BEFORE INSERT ON audit"),
        ("states", "BEFORE INSERT ON states"),
    ] {
        let mut write = world.store.write().await.unwrap();
        interfere(&mut write, cause, "SELECT RAISE(IGNORE)").await;
        let outcome = async {
            write.update_signing_key(&revoked(&pair)).await?;
            let mut ended = grant(1, None);
            ended.grant.revoked_at = Some(NOW);
            write.update_grant_times(&ended).await?;
            write.insert_grant(&grant(3, None)).await?;
            write.revoke_all_grants(NOW).await?;
            write.set_key_settings(&policy, RsaBits::Rsa3072).await?;
            write
                .append_audit(
                    NOW,
                    &[crate::audit::Event::new(
                        crate::audit::EventKind::GrantRevoke,
                        crate::audit::Outcome::Done,
                        &Actor::server(),
                    )],
                )
                .await?;
            write.commit().await
        };
        let outcome = outcome.await;
        assert!(is_ineffective(&outcome, table), "{cause}: {outcome:?}");
        assert_eq!(world.n(), 2, "{cause}");
    }
}

#[tokio::test]
async fn an_index_without_its_rows_makes_no_revocation_pass() {
    let (world, pair) = world().await;
    let mut write = world.store.write().await.unwrap();
    empty_index(&mut write, "sqlite_autoindex_signing_keys_1").await;
    let outcome = write.update_signing_key(&revoked(&pair)).await;
    assert!(is_ineffective(&outcome, "signing_keys"), "{outcome:?}");
    drop(write);

    let mut write = world.store.write().await.unwrap();
    empty_index(&mut write, "sqlite_autoindex_grants_1").await;
    let outcome = write.update_grant_times(&grant(1, None)).await;
    assert!(is_ineffective(&outcome, "grants"), "{outcome:?}");
}

#[tokio::test]
async fn the_grants_that_a_grant_made_are_found_without_an_index() {
    let (world, _) = world().await;
    let mut write = world.store.write().await.unwrap();
    empty_index(&mut write, "grants_by_maker").await;
    let made = write.grants_made_by(Uuid::from_u128(1)).await.unwrap();
    let [GrantRow::Authentic(made)] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(made.grant.id, Uuid::from_u128(2));
}

#[tokio::test]
async fn a_maker_stays_as_long_as_a_grant_that_it_made_whatever_an_index_says() {
    let world = World::new().await;
    let later = Timestamp::from_second(1).unwrap();
    let mut write = world.store.write().await.unwrap();
    write.insert_grant(&grant(1, Some(NOW))).await.unwrap();
    write.insert_grant(&child_of(&grant(1, None), 2)).await.unwrap();
    write.commit().await.unwrap();
    let mut write = world.store.write().await.unwrap();
    empty_index(&mut write, "grants_by_maker").await;
    write.remove_grants_ended_before(later).await.unwrap();
    assert_eq!(write.grants().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_row_that_is_not_as_its_transaction_wrote_it_fails_the_commit() {
    let (world, pair) = world().await;
    for (cause, act, table) in [
        ("AFTER UPDATE ON grants", "UPDATE grants SET mac = '' WHERE id = NEW.id", "grants"),
        ("AFTER UPDATE ON grants", "DELETE FROM grants WHERE id = NEW.id", "grants"),
        ("AFTER UPDATE ON signing_keys", "DELETE FROM signing_keys WHERE kid = NEW.kid", "signing_keys"),
        ("AFTER UPDATE ON key_state", "UPDATE key_state SET leeway = 0 WHERE id = 1", "policy"),
    ] {
        let mut write = world.store.write().await.unwrap();
        interfere(&mut write, cause, act).await;
        let mut ended = grant(1, None);
        ended.grant.revoked_at = Some(NOW);
        write.update_grant_times(&ended).await.unwrap();
        write.update_signing_key(&revoked(&pair)).await.unwrap();
        let policy = PolicyDurations { leeway: std::time::Duration::from_secs(7), ..durations() };
        let policy = RotationPolicy::new(policy).unwrap();
        write.set_key_settings(&policy, RsaBits::Rsa3072).await.unwrap();
        let refused = write.commit().await.unwrap_err();
        let is_named =
            matches!(&refused, StoreError::State(StateError::NotVouched { table: of, .. }) if *of == table);
        assert!(is_named, "{cause}: {refused}");
        assert_eq!(world.n(), 2, "{cause}");
    }
}

fn durations() -> PolicyDurations {
    let policy = RotationPolicy::default();
    PolicyDurations {
        rotate_every: policy.rotate_every(),
        propagation: policy.propagation(),
        max_token_lifetime: policy.max_token_lifetime(),
        leeway: policy.leeway(),
        jwks_max_age: policy.jwks_max_age(),
    }
}

#[tokio::test]
async fn a_recovery_vouches_only_for_rows_that_it_wrote_or_kept() {
    let (world, pair) = world().await;
    // It keeps the key and says nothing of the grants.
    let store = recovery(&world).await;
    let mut write = store.write().await.unwrap();
    write.keep_authentic_signing_keys().await.unwrap();
    let refused = write.commit().await.unwrap_err();
    assert!(
        matches!(refused, StoreError::State(StateError::NotVouched { table: "grants", .. })),
        "{refused}"
    );

    // A revoked key is put back, by a trigger or because an index hid it.
    let store = recovery(&world).await;
    let mut write = store.write().await.unwrap();
    let back = "UPDATE signing_keys SET mac = OLD.mac WHERE kid = NEW.kid";
    interfere(&mut write, "AFTER UPDATE ON signing_keys", back).await;
    write.keep_authentic_signing_keys().await.unwrap();
    write.update_signing_key(&revoked(&pair)).await.unwrap();
    write.revoke_all_grants(NOW).await.unwrap();
    let refused = write.commit().await.unwrap_err();
    assert!(
        matches!(refused, StoreError::State(StateError::NotVouched { table: "signing_keys", .. })),
        "{refused}"
    );

    // Without interference, the same recovery succeeds, and another process accepts its result.
    let store = recovery(&world).await;
    let mut write = store.write().await.unwrap();
    write.keep_authentic_signing_keys().await.unwrap();
    write.update_signing_key(&revoked(&pair)).await.unwrap();
    write.revoke_all_grants(NOW).await.unwrap();
    write.commit().await.unwrap();
    let other = world.other().await.unwrap();
    assert_eq!(other.state_status().unwrap().state, store.state_status().unwrap().state);
}

#[tokio::test]
async fn a_row_that_exists_twice_is_not_loaded() {
    let (world, _) = world().await;
    let mut write = world.store.write().await.unwrap();
    empty_index(&mut write, "sqlite_autoindex_grants_1").await;
    let columns = "id, name, token_hash, role, spaces, feeds, context, scope, created_at, created_by, expires_at, \
                   revoked_at, last_used_at, mac";
    let again = format!("INSERT INTO grants ({columns}) SELECT {columns} FROM grants NOT INDEXED LIMIT 1");
    execute(&mut write, &again).await;
    let refused = write.contents().await.unwrap_err();
    assert!(
        matches!(refused, StoreError::State(StateError::NotVouched { table: "grants", .. })),
        "{refused}"
    );
}
