//! Databases that a start refuses.

use crate::put_back::{
    Copy, active, assert_refused, assert_starts, founded, grant, readyz, revoke_grant, revoke_key, stop,
};
use crate::support::database::execute;
use crate::support::keys;

const OLDER: &str = "replaced by an older database";
const ALTERED: &str = "restored, inserted, changed or removed";

#[test]
fn a_restored_older_database_is_refused_after_any_change() {
    let carnet = founded();
    let held = grant(&carnet, &[]);
    type Change = fn(&crate::put_back::Carnet, &crate::put_back::Grant);
    let changes: [Change; 4] = [
        |carnet, _| revoke_key(carnet, &active(carnet)),
        |carnet, held| revoke_grant(carnet, held),
        |carnet, _| drop(grant(carnet, &[])),
        |carnet, _| drop(carnet.ok(&["key", "policy", "--leeway=4m"])),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (before, now) = (Copy::of(&carnet), {
            change(&carnet, &held);
            Copy::of(&carnet)
        });
        before.put_back(&carnet);
        assert_refused(&carnet, OLDER);
        now.put_back(&carnet);
        if number == 0 {
            assert_starts(&carnet);
        }
    }
}

#[test]
fn a_database_that_continued_from_an_older_copy_is_refused() {
    let carnet = founded();
    let (before, elsewhere) = (Copy::of(&carnet), carnet.copy());
    drop(grant(&carnet, &[]));
    // The copy runs elsewhere, without the state file, and has more states than the original.
    for _ in 0..3 {
        drop(grant(&elsewhere, &[]));
    }
    Copy::of(&elsewhere).put_back(&carnet);
    assert_refused(&carnet, "another history");
    before.put_back(&carnet);
    assert_refused(&carnet, OLDER);
}

#[test]
fn a_restored_removed_or_changed_row_stops_every_start() {
    let carnet = founded();
    let (held, other) = (grant(&carnet, &[]), grant(&carnet, &[]));
    let kid = active(&carnet);
    let before = Copy::of(&carnet);
    revoke_grant(&carnet, &held);
    revoke_key(&carnet, &kid);
    let now = Copy::of(&carnet);
    drop(other);
    let attach = format!("ATTACH '{}' AS old; ", before.file().display());
    for (what, statement) in [
        (
            "a revoked grant",
            "REPLACE INTO grants SELECT * FROM old.grants WHERE id IN (SELECT id FROM grants WHERE revoked_at IS NOT NULL)",
        ),
        ("all grants", "DELETE FROM grants; INSERT INTO grants SELECT * FROM old.grants"),
        (
            "the keys",
            "DELETE FROM signing_keys; INSERT INTO signing_keys SELECT * FROM old.signing_keys; UPDATE key_state SET generation = generation + 1",
        ),
        ("a grant removed", "DELETE FROM grants WHERE revoked_at IS NULL"),
        ("a revoked key removed", "DELETE FROM signing_keys WHERE revoked_at IS NOT NULL"),
        ("the policy", "UPDATE key_state SET max_token_lifetime = max_token_lifetime * 2"),
        ("the issuer", "UPDATE issuer SET url = 'https://issuer.example' || '/'"),
    ] {
        now.put_back(&carnet);
        run(&carnet, &format!("{attach}{statement}"));
        let refused = carnet.run(&["key", "list"]);
        assert_eq!(refused.status, 1, "{what}: {}", refused.stdout);
        assert!(refused.stderr.contains(ALTERED) || what == "the issuer", "{what}: {}", refused.stderr);
    }
    now.put_back(&carnet);
    assert_starts(&carnet);
}

#[test]
fn removed_or_restored_states_do_not_make_a_database_new() {
    let carnet = founded();
    let before = Copy::of(&carnet);
    drop(grant(&carnet, &[]));
    let now = Copy::of(&carnet);
    execute(&carnet.database(), "DELETE FROM states");
    assert_refused(&carnet, OLDER);
    now.put_back(&carnet);
    execute(&carnet.database(), "DELETE FROM states WHERE n = (SELECT MAX(n) FROM states)");
    assert_refused(&carnet, ALTERED);
    now.put_back(&carnet);
    execute(&carnet.database(), "UPDATE states SET database_id = '00000000000000000000000000000000'");
    assert_refused(&carnet, "fails its MAC");
    // The current states with the earlier rows.
    before.put_back(&carnet);
    let states = format!(
        "ATTACH '{}' AS new; DELETE FROM states; INSERT INTO states SELECT * FROM new.states",
        now.file().display()
    );
    run(&carnet, &states);
    assert_refused(&carnet, ALTERED);
    // Without the state file, such a database is not taken for a new one either.
    before.put_back(&carnet);
    execute(&carnet.database(), "DELETE FROM states");
    std::fs::remove_file(carnet.keys_dir().join("state")).unwrap();
    for start in 1..=2 {
        let server = keys::serve(&carnet);
        let unproved = &readyz(&server).json()["checks"]["state"]["unproved"];
        assert_eq!(*unproved, true, "start {start}");
        stop(server);
    }
}

#[test]
fn rows_that_do_not_count_may_change() {
    let carnet = founded();
    drop(grant(&carnet, &[]));
    execute(&carnet.database(), "UPDATE grants SET last_used_at = 5");
    execute(
        &carnet.database(),
        "UPDATE key_state SET high_water = high_water + 1, publications = publications + 1",
    );
    assert_starts(&carnet);
}

#[test]
fn a_new_database_at_the_same_path_is_a_new_one() {
    let carnet = founded();
    drop(grant(&carnet, &[]));
    for file in ["carnet.db", "carnet.db-wal", "carnet.db-shm"] {
        let _ = std::fs::remove_file(carnet.home().join(file));
    }
    stop(keys::serve(&carnet));
    assert_starts(&carnet);
}

/// Runs statements in one connection.
pub(crate) fn run(carnet: &crate::put_back::Carnet, statements: &str) {
    use sqlx::Connection as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(carnet.database());
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}
