//! Rows of `signing_keys` that an attacker wrote who has the database but not the master key.

use crate::carnet::OpenError;
use crate::jose::Algorithm;
use crate::jose::key_pair::{KeyPair, RsaBits};
use crate::signing_keys::State;
use crate::store::keyring::Purpose;
use crate::store::states::Witnesses;
use crate::values::random::SecureRandom;
use sqlx::SqliteConnection;

use super::world::{Machine, Process, SECOND};

/// Returns an issuer with a retired key of each algorithm, and the kid of the RS256 key. The tests change its
/// row, because the database's own checks allow a change of each of its columns.
async fn with_retired_key(machine: &Machine) -> (Process, String) {
    let mut process = machine.open().await;
    process.rotate(true).await.unwrap();
    machine.clock.advance(SECOND);
    process.maintenance.tick().await;
    let retired = process.in_state(State::Retired);
    let key = retired.iter().find(|key| key.algorithm() == Algorithm::Rs256).unwrap();
    let kid = key.kid().to_string();
    (process, kid)
}

async fn execute(sql: &mut SqliteConnection, statement: &str, kid: &str) {
    let done = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).bind(kid).execute(&mut *sql).await;
    assert_eq!(done.unwrap().rows_affected(), 1, "{statement}");
    sqlx::query("UPDATE key_state SET generation = generation + 1").execute(sql).await.unwrap();
}

/// Asserts that no forged row is published, the running process continues to serve its documents and stops
/// minting, and no process starts.
async fn is_noticed(machine: &Machine, process: &mut Process, forged: &str, what: &str) {
    let served = process.jwks();
    for _ in 0..6 {
        process.maintenance.tick().await;
        assert_eq!(process.jwks(), served, "{what}");
        machine.clock.advance(SECOND);
    }
    assert!(process.mint(Algorithm::Es256).is_err(), "{what}");
    assert!(process.rotate(true).await.is_err(), "{what}");
    let Err(error) = machine.try_open().await else { panic!("{what}: starts") };
    assert!(matches!(error, OpenError::Store(_)) && error.to_string().contains(forged), "{what}: {error}");
}

#[tokio::test]
async fn a_row_with_any_column_changed_is_never_published_and_stops_start_up_with_its_kid() {
    for (column, value) in [
        ("kid", "CASE WHEN kid LIKE 'A%' THEN 'B' ELSE 'A' END || substr(kid, 2)"),
        ("alg", "'ES256'"),
        ("public_jwk", "(SELECT public_jwk FROM signing_keys WHERE alg = 'ES256' LIMIT 1)"),
        ("prepared_at", "prepared_at - 1"),
        ("activated_at", "activated_at + 1"),
        ("retired_at", "retired_at + 1"),
        ("revoked_at", "1"),
        ("published_until", "published_until + 1000000"),
        ("longest_lifetime", "longest_lifetime - 1"),
        ("mac", "(SELECT mac FROM signing_keys WHERE alg = 'ES256' LIMIT 1)"),
    ] {
        let machine = Machine::new();
        let (mut process, kid) = with_retired_key(&machine).await;
        let mut sql = machine.sql().await;
        execute(&mut sql, &format!("UPDATE signing_keys SET {column} = {value} WHERE kid = $1"), &kid).await;
        is_noticed(&machine, &mut process, &kid[1..], column).await;
    }
}

#[tokio::test]
async fn a_revoked_key_cannot_be_brought_back() {
    let machine = Machine::new();
    let (mut process, _) = with_retired_key(&machine).await;
    let active = process.active_kids()[0].clone();
    process.carnet.rotator().revoke(&active, &super::world::somebody()).await.unwrap();
    process.maintenance.tick().await;
    assert!(!process.serves(&active));
    let mut sql = machine.sql().await;
    execute(
        &mut sql,
        "UPDATE signing_keys SET revoked_at = NULL, retired_at = prepared_at WHERE kid = $1",
        active.as_str(),
    )
    .await;
    is_noticed(&machine, &mut process, active.as_str(), "restored").await;
}

#[tokio::test]
async fn an_added_row_is_never_published_and_stops_start_up_with_its_kid() {
    let machine = Machine::new();
    let (mut process, kid) = with_retired_key(&machine).await;
    let theirs = KeyPair::generate(Algorithm::Es256, RsaBits::Rsa2048, &SecureRandom::default()).unwrap();
    let their_kid = theirs.public().thumbprint().to_string();
    let mut sql = machine.sql().await;
    let insert = format!(
        "INSERT INTO signing_keys SELECT '{their_kid}', 'ES256', '{}', prepared_at, activated_at, retired_at, \
         revoked_at, published_until, longest_lifetime, sealed_private, master_key_id, mac FROM signing_keys \
         WHERE kid = $1",
        theirs.public().to_jwk()
    );
    execute(&mut sql, &insert, &kid).await;
    is_noticed(&machine, &mut process, &their_kid, "added").await;
    assert!(!process.serves(&theirs.public().thumbprint()));
}

#[tokio::test]
async fn exchanged_private_keys_sign_nothing() {
    let machine = Machine::new();
    let (process, _) = with_retired_key(&machine).await;
    let active = process.in_state(State::Active);
    let active = active.iter().find(|key| key.algorithm() == Algorithm::Es256).unwrap().kid();
    process.cut_off().await;
    let mut sql = machine.sql().await;
    let swap = "UPDATE signing_keys SET sealed_private = (SELECT sealed_private FROM signing_keys \
                WHERE alg = 'ES256' AND activated_at IS NULL AND revoked_at IS NULL) WHERE kid = $1";
    execute(&mut sql, swap, active.as_str()).await;
    let Err(error) = machine.try_open().await else { panic!("starts") };
    assert!(error.to_string().contains(active.as_str()), "{error}");
}

/// An attacker with the keys that authenticate rows cannot keep a retired key published for ever.
#[tokio::test]
async fn a_retired_key_that_would_stay_for_longer_than_its_tokens_counts_as_forged_though_its_mac_is_right() {
    let machine = Machine::new();
    let (mut process, kid) = with_retired_key(&machine).await;
    let mut sql = machine.sql().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT value FROM signing_keys, json_each(json_array(kid, alg, public_jwk, CAST(prepared_at AS TEXT), \
         CAST(activated_at AS TEXT), CAST(retired_at AS TEXT), '', CAST(published_until + 3600000 AS TEXT), \
         CAST(longest_lifetime AS TEXT))) WHERE kid = $1 ORDER BY key",
    )
    .bind(&kid)
    .fetch_all(&mut sql)
    .await
    .unwrap();
    let columns: Vec<&str> =
        ["signing-key-row-1"].into_iter().chain(columns.iter().map(String::as_str)).collect();
    let keyring = process.carnet.store().keyring();
    let mac = keyring.mac(Purpose::SigningKeys).tag(&columns);
    let change = format!("published_until = published_until + 3600000, mac = '{mac}'");
    execute(&mut sql, &format!("UPDATE signing_keys SET {change} WHERE kid = $1"), &kid).await;
    let other = machine.open_to_examine().await;
    assert!(other.signing_keys().await.is_ok(), "the MAC is wrong");
    // Covers the row by a state, as an attacker with the keys could.
    let (other, _) = other.tolerate_state(&Witnesses::default()).unwrap();
    let mut write = other.write().await.unwrap();
    write.keep_authentic_signing_keys().await.unwrap();
    let settings = write.key_settings().await.unwrap();
    write.set_key_settings(&settings.policy, settings.rsa_bits).await.unwrap();
    write.commit().await.unwrap();
    is_noticed(&machine, &mut process, &kid, "stays for longer").await;
}
