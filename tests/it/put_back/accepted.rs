//! `carnet database accept`: the operator accepts an older database, and none of its keys and grants is
//! honoured.

use std::fs;

use crate::put_back::{
    Copy, active, assert_refused, assert_starts, founded, get, grant, revoke_grant, revoke_key, stop,
};
use crate::support::carnet::Carnet;
use crate::support::keys;

#[test]
fn an_accepted_database_has_new_keys_and_no_grants_and_replaces_the_earlier_one() {
    let carnet = founded();
    let (held, revoked) = (grant(&carnet, &[]), grant(&carnet, &[]));
    let kid = active(&carnet);
    let published = keys::kids(&keys::list(&carnet));
    let before = Copy::of(&carnet);
    revoke_grant(&carnet, &revoked);
    revoke_key(&carnet, &kid);
    let lost = Copy::of(&carnet);
    before.put_back(&carnet);
    assert_refused(&carnet, "an older database");
    // Without a terminal or --yes nothing happens.
    let asked = carnet.run(&["database", "accept"]);
    assert_eq!(asked.status, 2, "{}", asked.stderr);
    assert_refused(&carnet, "an older database");

    let accepted = carnet.run(&["database", "accept", "--yes"]);
    assert_eq!(accepted.status, 0, "{}", accepted.stderr);
    for words in ["grants are revoked", "every signing key"] {
        assert!(accepted.stderr.contains(words), "should tell {words:?}: {}", accepted.stderr);
    }
    let server = keys::serve(&carnet);
    for grant in [&held, &revoked] {
        assert_eq!(get(&server, grant, "/api/v1/signing-keys").status, 401);
    }
    let jwks = keys::jwks(&server);
    assert!(!jwks.contains(&kid), "{jwks}");
    assert!(keys::published(&jwks).is_disjoint(&published));
    stop(server);
    let audited = carnet.ok(&["audit", "list", "--kind=database.accept", "--output=json"]);
    assert!(audited.contains("database.accept"), "{audited}");
    carnet.ok(&["audit", "verify"]);

    // Both the lost database and another copy of the accepted one are refused.
    let now = Copy::of(&carnet);
    before.put_back(&carnet);
    assert_refused(&carnet, "an older database");
    lost.put_back(&carnet);
    assert_refused(&carnet, "an older database");
    now.put_back(&carnet);
    assert_starts(&carnet);
}

#[test]
fn inserted_rows_do_not_outlive_an_acceptance() {
    let carnet = founded();
    let held = grant(&carnet, &[]);
    crate::support::database::execute(
        &carnet.database(),
        "INSERT INTO grants SELECT 'forged', name, token_hash, role, spaces, feeds, context, scope, created_at, \
         created_by, expires_at, revoked_at, last_used_at, mac FROM grants",
    );
    assert_refused(&carnet, "restored, inserted");
    carnet.ok(&["database", "accept", "--yes"]);
    let rows = crate::support::database::texts(&carnet.database(), "SELECT id FROM grants");
    assert_eq!(rows, [held.id]);
    assert_starts(&carnet);
}

#[test]
fn a_rejected_state_file_is_moved_aside_and_kept() {
    let carnet = founded();
    let file = carnet.keys_dir().join("state");
    fs::write(&file, "nonsense\n").unwrap();
    assert_refused(&carnet, "the state file");
    carnet.ok(&["database", "accept", "--yes"]);
    assert_eq!(fs::read_to_string(carnet.keys_dir().join("state.refused")).unwrap(), "nonsense\n");
    assert_starts(&carnet);
}

#[test]
fn a_recovery_from_a_leak_makes_the_old_file_and_its_rows_invalid() {
    let carnet = founded();
    drop(grant(&carnet, &[]));
    let before = Copy::of(&carnet);
    let new_key = carnet.home().join("recovered.key");
    let flag = format!("--new-key-file={}", new_key.display());
    carnet.ok(&["key", "rewrap", "--leaked", &flag, "--yes"]);
    let now = Copy::of(&carnet);

    before.put_back(&carnet);
    let refused = carnet.run(&["key", "list"]);
    assert!(refused.status == 1 && refused.stderr.contains("master key"), "{}", refused.stderr);
    for rows in ["grants", "signing_keys", "states"] {
        now.put_back(&carnet);
        let statement = format!(
            "ATTACH '{}' AS old; DELETE FROM {rows}; INSERT INTO {rows} SELECT * FROM old.{rows}",
            before.file().display()
        );
        crate::put_back::at_the_start::run(&carnet, &statement);
        let refused = carnet.run(&["key", "list"]);
        assert_eq!(refused.status, 1, "{rows}: {}", refused.stdout);
    }
    now.put_back(&carnet);
    assert_starts(&carnet);
}

#[test]
fn a_recovery_adopts_a_given_issuer_if_the_database_has_none() {
    for leaked in [false, true] {
        let carnet = Carnet::new();
        let held = grant(&carnet, &[]);
        let new_key = format!("--new-key-file={}", carnet.home().join("recovered.key").display());
        let command: &[&str] = match leaked {
            false => &["database", "accept", "--yes"],
            true => &["key", "rewrap", "--leaked", &new_key, "--yes", "--no-nudge"],
        };
        let refused = carnet.run(command);
        assert!(refused.status == 1 && refused.stderr.contains("has no issuer yet"), "{}", refused.stderr);
        carnet.ok(&[command, &["--issuer", keys::ISSUER]].concat());
        let audited = carnet.ok(&["audit", "list", "--kind=issuer.change", "--output=json"]);
        assert!(audited.contains(keys::ISSUER), "{audited}");
        carnet.ok(&["audit", "verify"]);

        let published = keys::kids(&keys::list(&carnet));
        let server = keys::serve(&carnet);
        assert_eq!(get(&server, &held, "/api/v1/signing-keys").status, 401);
        assert_eq!(keys::published(&keys::jwks(&server)), published);
        stop(server);
        let other = carnet.run(&[command, &["--issuer=https://other.example"]].concat());
        assert!(other.status == 1 && other.stderr.contains(keys::ISSUER), "{}", other.stderr);
    }
}

/// The changes to a schema that make writes to keys, grants and the log do nothing, without an error.
const HOLLOW: [&str; 4] = [
    "CREATE TRIGGER hollow_1 BEFORE UPDATE ON signing_keys BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER hollow_2 BEFORE INSERT ON signing_keys BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER hollow_3 BEFORE DELETE ON signing_keys BEGIN SELECT RAISE(IGNORE); END",
    "CREATE TRIGGER hollow_4 BEFORE INSERT ON audit WHEN NEW.kind = 'credential' BEGIN SELECT RAISE(IGNORE); END",
];

#[test]
fn a_recovery_says_that_triggers_would_have_kept_what_it_replaces() {
    let carnet = founded();
    let new_key = format!("--new-key-file={}", carnet.home().join("recovered.key").display());
    let published = keys::kids(&keys::list(&carnet));
    crate::support::database::run_all(&carnet.database(), &HOLLOW);
    let commands: [&[&str]; 4] = [
        &["database", "accept", "--yes"],
        &["key", "rewrap", "--leaked", &new_key, "--yes"],
        &["key", "revoke", "--all", "--yes"],
        &["audit", "verify"],
    ];
    for command in commands {
        let refused = carnet.run(command);
        assert_eq!(
            refused.status, 1,
            "{command:?} believed the schema: {}{}",
            refused.stdout, refused.stderr
        );
        for words in ["the trigger \"hollow_1\" was added", "DROP TRIGGER"] {
            assert!(refused.stderr.contains(words), "{command:?} should tell {words:?}: {}", refused.stderr);
        }
    }
    let drops = ["1", "2", "3", "4"].map(|number| format!("DROP TRIGGER hollow_{number}"));
    crate::support::database::run_all(&carnet.database(), &drops.each_ref().map(String::as_str));
    carnet.ok(&["database", "accept", "--yes"]);
    let server = keys::serve(&carnet);
    assert!(keys::published(&keys::jwks(&server)).is_disjoint(&published));
    stop(server);
}

#[test]
fn a_recovery_says_that_an_index_would_have_hidden_rows_from_it() {
    let carnet = founded();
    let new_key = format!("--new-key-file={}", carnet.home().join("recovered.key").display());
    let published = keys::kids(&keys::list(&carnet));
    let assert_refused = |command: &[&str], words: &[&str]| {
        let refused = carnet.run(command);
        assert_eq!(refused.status, 1, "{command:?} trusted it: {}{}", refused.stdout, refused.stderr);
        for words in words {
            assert!(refused.stderr.contains(words), "{command:?} should tell {words:?}: {}", refused.stderr);
        }
    };
    let recoveries: [&[&str]; 3] = [
        &["database", "accept", "--yes"],
        &["key", "rewrap", "--leaked", &new_key, "--yes"],
        &["key", "revoke", "--all", "--yes"],
    ];
    // A large table is not checked at every start.
    crate::support::database::empty_index(&carnet.database(), "feeds_by_alg");
    carnet.ok(&["key", "list"]);
    for command in recoveries {
        assert_refused(command, &["the table `feeds`", "feeds_by_alg", "REINDEX"]);
    }
    carnet.ok(&["audit", "verify"]);
    crate::support::database::empty_index(&carnet.database(), "audit_by_actor");
    assert_refused(&["audit", "verify"], &["the indexes of the log do not have all of its rows"]);
    crate::support::database::empty_index(&carnet.database(), "sqlite_autoindex_signing_keys_1");
    for command in recoveries {
        assert_refused(command, &["the table `signing_keys`", "REINDEX"]);
    }
    assert_refused(&["key", "list"], &["the table `signing_keys`"]);
    crate::put_back::at_the_start::run(&carnet, "REINDEX");
    carnet.ok(&["audit", "verify"]);
    carnet.ok(&["database", "accept", "--yes"]);
    let server = keys::serve(&carnet);
    assert!(keys::published(&keys::jwks(&server)).is_disjoint(&published));
    stop(server);
}
