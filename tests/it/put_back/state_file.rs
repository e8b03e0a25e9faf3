//! The state file when it is missing, foreign, broken or behind.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::put_back::{Copy, PATIENCE, assert_refused, assert_starts, founded, grant, readyz, stop};
use crate::support::carnet::{Carnet, Output};
use crate::support::dice::Dice;
use crate::support::keys;
use crate::support::process::{Process, wait_until};

fn file(carnet: &Carnet) -> PathBuf {
    carnet.keys_dir().join("state")
}

/// Returns `N:HEAD` from `database show`.
fn state(carnet: &Carnet) -> String {
    let shown: Value = serde_json::from_str(&carnet.ok(&["database", "show", "--output=json"])).unwrap();
    shown["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_that_does_not_authenticate_is_refused_and_left_as_it_is() {
    let carnet = founded();
    let written = fs::read(file(&carnet)).unwrap();
    let mut changed = written.clone();
    let position = written.windows(2).position(|bytes| bytes == b"\":").unwrap();
    changed[position + 4] ^= 1;
    for broken in [changed, Vec::new(), written[..written.len() - 20].to_vec(), b"nonsense\n".to_vec()] {
        fs::write(file(&carnet), &broken).unwrap();
        assert_refused(&carnet, "the state file");
        assert_eq!(fs::read(file(&carnet)).unwrap(), broken);
    }
    fs::write(file(&carnet), written).unwrap();
    assert_starts(&carnet);
}

#[test]
fn the_file_of_another_issuer_is_refused() {
    let (ours, theirs) = (founded(), founded());
    fs::copy(file(&theirs), file(&ours)).unwrap();
    assert_refused(&ours, "is authenticated with the master key");
}

#[test]
fn a_database_unknown_to_the_state_file_is_refused_unless_its_state_is_given() {
    let carnet = founded();
    let elsewhere = carnet.copy();
    for file in ["carnet.db", "carnet.db-wal", "carnet.db-shm"] {
        let _ = fs::remove_file(carnet.home().join(file));
    }
    let kept = fs::read(file(&carnet)).unwrap();
    fs::remove_file(file(&carnet)).unwrap();
    // Another database under the same master key, and a file that has only that one.
    stop(keys::serve(&carnet));
    Copy::of(&elsewhere).put_back(&carnet);
    assert_refused(&carnet, "does not know the database");
    let said = format!("--state-at-least={}", state(&elsewhere));
    carnet.ok(&["key", "list", &said]);
    assert_starts(&carnet);
    drop(kept);
}

#[test]
fn a_missing_state_file_is_created_with_a_warning_and_a_given_state_replaces_it() {
    let carnet = founded();
    let before = Copy::of(&carnet);
    drop(grant(&carnet, &[]));
    let known = state(&carnet);
    let now = Copy::of(&carnet);

    fs::remove_file(file(&carnet)).unwrap();
    let server = keys::serve(&carnet);
    assert!(server.process.stderr().contains("nothing outside the database"), "{}", server.process.stderr());
    let response = readyz(&server);
    assert_eq!(response.status, 200);
    assert_eq!(response.json()["checks"]["state"]["unproved"], true, "{}", response.body);
    stop(server);
    // The file that this start has made does not make the database a proved one.
    let server = keys::serve(&carnet);
    assert!(server.process.stderr().contains("nothing outside the database"), "{}", server.process.stderr());
    assert_eq!(readyz(&server).json()["checks"]["state"]["unproved"], true);
    stop(server);
    let command = carnet.run(&["key", "list"]);
    assert!(
        command.status == 0 && command.stderr.contains("nothing outside the database"),
        "{}",
        command.stderr
    );
    let shown: Value = serde_json::from_str(&carnet.ok(&["database", "show", "--output=json"])).unwrap();
    assert_eq!(shown["remembered"], false);
    assert!(carnet.run(&["doctor"]).stdout.contains("nothing outside the database proves"));

    // A running server takes over the proof that a command was given.
    let server = keys::serve(&carnet);
    carnet.ok(&["key", "list", &format!("--state-at-least={known}")]);
    let proved = wait_until(PATIENCE, || {
        Some(()).filter(|()| readyz(&server).json()["checks"]["state"]["unproved"] == false)
    });
    assert!(proved.is_some(), "{:?}", readyz(&server));
    stop(server);
    assert_starts(&carnet);

    fs::remove_file(file(&carnet)).unwrap();
    let said = format!("--state-at-least={known}");
    before.put_back(&carnet);
    let refused = carnet.run(&["key", "list", &said]);
    assert!(refused.status == 1 && refused.stderr.contains("--state-at-least"), "{}", refused.stderr);
    assert!(!file(&carnet).exists());
    now.put_back(&carnet);
    let Output { status, stderr, .. } = carnet.run(&["key", "list", &said]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_starts(&carnet);
}

#[test]
fn a_file_that_a_crash_left_behind_the_database_is_raised() {
    let carnet = founded();
    let behind = fs::read(file(&carnet)).unwrap();
    for _ in 0..3 {
        drop(grant(&carnet, &[]));
    }
    let now = fs::read(file(&carnet)).unwrap();
    fs::write(file(&carnet), behind).unwrap();
    assert_starts(&carnet);
    assert_eq!(fs::read(file(&carnet)).unwrap(), now);
}

#[test]
fn another_file_may_be_named_and_without_one_the_folder_of_a_provided_key_is_left_alone() {
    let carnet = founded();
    let named = carnet.home().join("elsewhere");
    let flag = format!("--state-file={}", named.display());
    fs::rename(file(&carnet), &named).unwrap();
    carnet.ok(&["grant", "create", "--role=admin", &flag]);
    assert!(named.exists() && !file(&carnet).exists());
}

#[test]
fn commands_that_are_killed_at_any_time_leave_a_database_that_opens() {
    let carnet = founded();
    let mut dice = Dice::new("put_back");
    for round in 0..20 {
        let mut command = carnet.command(&["grant", "create", "--role=viewer"]);
        let mut process = Process::start("carnet grant create", &mut command);
        process.wait_for_end(dice.up_to(120));
        process.kill();
        let Output { status, stderr, .. } = carnet.run(&["grant", "list"]);
        assert_eq!(status, 0, "round {round}: {stderr}");
    }
    assert_starts(&carnet);
}
