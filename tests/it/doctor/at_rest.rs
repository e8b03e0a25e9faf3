//! Findings that need only the database and the files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use crate::doctor::{Found, founded};
use crate::support::carnet::Carnet;
use crate::support::database::{execute, texts};

/// An issuer whose documents are not fetched, because connecting to its address is not allowed.
fn unreachable() -> Carnet {
    let carnet = Carnet::new();
    crate::doctor::stop(carnet.serve("https://10.1.2.3", "127.0.0.1:0", &[]).unwrap());
    carnet
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn files_that_others_may_read_or_write_are_found() {
    let carnet = unreachable();
    set_mode(&carnet.database(), 0o644);
    Found::of(&carnet, &[]).assert("database-files", "warning", "carnet.db has mode 0644");
    set_mode(&carnet.database(), 0o606);
    Found::of(&carnet, &[]).assert("database-files", "failed", "carnet.db has mode 0606");
    set_mode(&carnet.database(), 0o600);

    set_mode(&carnet.keys_dir(), 0o777);
    Found::of(&carnet, &[]).assert("keys-folder", "failed", "keys has mode 0777");
    set_mode(&carnet.keys_dir(), 0o700);

    set_mode(&carnet.keys_dir().join("master.key"), 0o644);
    let found = Found::of(&carnet, &[]);
    found.assert("master-key-file", "failed", "master.key has mode 0644");
    let hint = found.get("master-key-file").unwrap()["hint"].as_str().unwrap().to_owned();
    assert!(hint.starts_with("chmod 0600 ") && hint.ends_with("master.key"), "{hint}");
    // No command takes such a key.
    found.assert("master-key", "failed", "were not checked");
}

#[test]
fn checks_that_need_no_master_key_run_without_one() {
    let carnet = unreachable();
    fs::remove_file(carnet.keys_dir().join("master.key")).unwrap();
    let found = Found::of(&carnet, &[]);
    found.assert("master-key", "failed", "needs the master key");
    found.assert("database-integrity", "ok", "sound");
    found.assert("discovery", "failed", "10.1.2.3");
    for id in ["audit-log", "key-rows", "grant-rows", "rotation"] {
        assert_eq!(found.get(id), None, "{id}");
    }
}

#[test]
fn a_broken_page_is_found() {
    let carnet = unreachable();
    let page = texts(
        &carnet.database(),
        "SELECT CAST(rootpage AS TEXT) FROM sqlite_schema WHERE name = 'jwks_clients'",
    );
    let page: u64 = page[0].parse().unwrap();
    let size: u64 =
        texts(&carnet.database(), "SELECT CAST(page_size AS TEXT) FROM pragma_page_size")[0].parse().unwrap();
    let file = fs::File::options().write(true).open(carnet.database()).unwrap();
    file.write_all_at(&[0x5a; 64], (page - 1) * size).unwrap();
    Found::of(&carnet, &[]).assert("database-integrity", "failed", "SQLite finds the file broken");
}

#[test]
fn a_file_that_is_not_a_database_is_found() {
    let carnet = unreachable();
    fs::write(carnet.database(), [0x5a; 8192]).unwrap();
    let found = Found::of(&carnet, &[]);
    found.assert("database", "failed", "cannot be opened");
    found.assert("database-files", "ok", "no other user can");
}

#[test]
fn rows_that_carnet_did_not_write_are_found() {
    let carnet = unreachable();
    carnet.ok(&["grant", "create", "--role=deployer", "--name=CI", "--space=default", "--feed=*"]);
    execute(&carnet.database(), "UPDATE grants SET role = 'admin', spaces = NULL, feeds = NULL");
    Found::of(&carnet, &[]).assert("grant-rows", "failed", "carnet did not write 1 row");

    execute(&carnet.database(), "UPDATE audit SET actor = 'nobody' WHERE seq = 2");
    Found::of(&carnet, &[]).assert("audit-log", "failed", "row 2 was changed");

    execute(&carnet.database(), "UPDATE signing_keys SET prepared_at = prepared_at - 1");
    let found = Found::of(&carnet, &[]);
    found.assert("key-rows", "failed", "MAC");
    assert_eq!(found.get("rotation"), None);
}

#[test]
fn a_rotation_that_is_overdue_or_fails_is_found() {
    let mut carnet = founded("-31d");
    Found::of(&carnet, &[]).assert("rotation", "ok", "due: RS256 at ");
    carnet.turn_clock("+0");
    Found::of(&carnet, &[]).assert("rotation", "failed", "overdue since: RS256 at ");
    execute(
        &carnet.database(),
        "UPDATE key_state SET rotation_failures = 3, rotation_failed_at = 1700000000000, rotation_error = 'disk full'",
    );
    let found = Found::of(&carnet, &[]);
    found.assert("rotation", "failed", "the scheduled rotation has failed 3 times");
    found.assert("rotation", "failed", "disk full");
}

#[test]
fn a_pending_erasure_is_found() {
    let carnet = unreachable();
    execute(&carnet.database(), "UPDATE key_state SET erasure_pending = 1");
    Found::of(&carnet, &[]).assert("erasure", "warning", "erasure: pending");
}

#[test]
fn grants_that_end_soon_or_are_unused_are_found() {
    let mut carnet = founded("-40d");
    let create = |carnet: &Carnet, name: &str, life: &str| {
        let [name, life] = [format!("--name={name}"), format!("--expires-in={life}")];
        carnet.ok(&["grant", "create", "--role=deployer", &name, "--space=default", "--feed=*", &life]);
    };
    create(&carnet, "forgotten", "365d");
    create(&carnet, "over", "1d");
    carnet.turn_clock("+0");
    // The database was not used for more than a rotation period.
    carnet.ok(&["key", "clock", "--accept", "--yes"]);
    create(&carnet, "fresh", "90d");
    let found = Found::of(&carnet, &[]);
    found.assert("grant-expiry", "ok", "none of 2 valid grants");
    found.assert("grant-use", "warning", "forgotten");
    create(&carnet, "brief", "13d");
    let found = Found::of(&carnet, &[]);
    found.assert("grant-expiry", "warning", "brief");
    let detail = found.get("grant-expiry").unwrap()["detail"].as_str().unwrap();
    assert!(!detail.contains("fresh") && !detail.contains("over"), "{detail}");
}

#[test]
fn feeds_that_cannot_work_are_found() {
    let carnet = unreachable();
    let name = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";
    carnet.ok(&[
        "feed",
        "add",
        "google-artifact-registry",
        "--space=default",
        "--slug=long",
        "--registry=europe-west1-docker.pkg.dev",
        &format!("--workload-identity-provider={name}"),
        "--subject-keys=space,project,environment,feed",
        "--token-lifetime=1h",
    ]);
    let found = Found::of(&carnet, &[]);
    found.assert("feed-lifetime", "ok", "1 feed within");
    found.assert("feed-subject", "warning", "default/long: up to ");
    carnet.ok(&["key", "policy", "--max-token-lifetime=30m"]);
    Found::of(&carnet, &[]).assert("feed-lifetime", "failed", "default/long uses 3600 s");
}

#[test]
fn an_older_database_is_found_and_a_missing_state_file_is_a_warning() {
    let carnet = unreachable();
    Found::of(&carnet, &[]).assert("database-state", "ok", "as its state file records");
    let files =
        || ["carnet.db", "carnet.db-wal"].map(|name| fs::read(carnet.home().join(name)).unwrap_or_default());
    let put_back = |[database, log]: [Vec<u8>; 2]| {
        let _ = fs::remove_file(carnet.home().join("carnet.db-shm"));
        fs::write(carnet.database(), database).unwrap();
        fs::write(carnet.home().join("carnet.db-wal"), log).unwrap();
    };
    let before = files();
    carnet.ok(&["grant", "create", "--role=viewer"]);
    let now = files();

    put_back(before);
    Found::of(&carnet, &[]).assert("database-state", "failed", "an older database");
    put_back(now);

    let file = carnet.keys_dir().join("state");
    let known = fs::read(&file).unwrap();
    fs::write(&file, "nonsense").unwrap();
    Found::of(&carnet, &[]).assert("database-state", "failed", "is damaged");
    fs::remove_file(&file).unwrap();
    Found::of(&carnet, &[]).assert("database-state", "warning", "nothing outside the database proves");
    assert!(!file.exists(), "doctor made the file");
    fs::write(&file, known).unwrap();
    Found::of(&carnet, &[]).assert("database-state", "ok", "is at state");
}
