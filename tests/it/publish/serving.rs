//! `carnet serve --publish`: the copy follows the keys, and keys wait for it.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::publish::{DISCOVERY, ISSUER, JWKS, Publisher};
use crate::support::carnet::{Announced, Carnet};
use crate::support::http::Connection;
use crate::support::keys;
use crate::support::process::wait_until;

/// Much longer than needed, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl Publisher {
    /// Returns a carnet that has never run.
    pub(crate) fn never_started() -> Self {
        let carnet = Carnet::new();
        Self { folder: carnet.home().join("www"), carnet }
    }

    pub(crate) fn serve(&self) -> Announced {
        let target = self.folder.to_str().unwrap();
        let served = self.carnet.serve(ISSUER, "127.0.0.1:0", &["--publish", target]);
        served.unwrap_or_else(|failure| panic!("{failure}"))
    }
}

fn readiness(server: &Announced) -> Value {
    Connection::to(server.announced("/listening"), None).get("/readyz").json()
}

/// Waits until the copy and `server` show the keys that are published according to the database.
///
/// Equal documents alone prove nothing: for a moment after a change, both are from before it.
#[track_caller]
pub(crate) fn follows(publisher: &Publisher, server: &Announced) {
    let listed = keys::list(&publisher.carnet);
    let is_published =
        |key: &&Value| matches!(key["state"].as_str(), Some("prepared" | "active" | "retired"));
    let expected: BTreeSet<&str> =
        listed.iter().filter(is_published).map(|key| key["kid"].as_str().unwrap()).collect();
    let mut connection = Connection::to(server.announced("/listening"), None);
    let done = wait_until(PATIENCE, || {
        let mut same =
            |document: &str| connection.get(&format!("/{document}")).body == publisher.read(document);
        let copied = publisher.kids();
        (same(JWKS)
            && same(DISCOVERY)
            && copied.iter().map(String::as_str).collect::<BTreeSet<_>>() == expected)
            .then_some(())
    });
    assert!(done.is_some(), "{}", server.process.stderr());
}

#[test]
fn a_first_start_publishes_before_it_announces_itself_and_then_follows_every_change() {
    let publisher = Publisher::never_started();
    let server = publisher.serve();
    // The server has just announced itself.
    let first = publisher.kids();
    let mut connection = Connection::to(server.announced("/listening"), None);
    assert_eq!(connection.get(&format!("/{JWKS}")).body, publisher.read(JWKS));
    let checks = readiness(&server);
    let publication = &checks["checks"]["publications"][0];
    assert_eq!(publication["target"], publisher.folder.to_str().unwrap(), "{checks}");
    assert_eq!(publication["current"], true, "{checks}");

    let listed = keys::list(&publisher.carnet);
    let revoked = keys::the(&listed, "ES256", "active").to_string();
    assert!(first.contains(&revoked));
    publisher.carnet.ok(&["key", "revoke", &revoked, "--yes"]);
    let gone = wait_until(PATIENCE, || (!publisher.kids().contains(&revoked)).then_some(()));
    assert!(gone.is_some(), "{}", server.process.stderr());
    follows(&publisher, &server);
}

#[test]
fn keys_wait_for_a_copy_that_cannot_be_written_and_every_status_shows_it() {
    let publisher = Publisher::never_started();
    let server = publisher.serve();
    let well_known = publisher.folder.join(".well-known");
    fs::rename(&well_known, publisher.folder.join("away")).unwrap();
    fs::write(&well_known, "in the way").unwrap();

    let listed = keys::list(&publisher.carnet);
    let revoked = keys::the(&listed, "RS256", "active").to_string();
    let said = publisher.carnet.run(&["key", "revoke", &revoked, "--yes"]);
    assert_eq!(said.status, 0, "{said:?}");
    let target = publisher.folder.to_str().unwrap();
    assert!(said.stderr.contains(&format!("Still published at {target}")), "{said:?}");

    let error = wait_until(PATIENCE, || {
        let checks = readiness(&server);
        let publication = &checks["checks"]["publications"][0];
        let still = publication["still_published"][0] == revoked.as_str();
        (still && publication["error"].is_string() && publication["current"] == false).then_some(())
    });
    assert!(error.is_some(), "{}\n{}", readiness(&server), server.process.stderr());
    let listed = keys::list(&publisher.carnet);
    let named = |kid: &str, member: &str| {
        let key = listed.iter().find(|key| key["kid"] == kid).unwrap();
        key[member][0] == target
    };
    assert!(named(&revoked, "still_published_at"), "{listed:?}");
    assert!(named(keys::the(&listed, "RS256", "prepared"), "waits_for"), "{listed:?}");
    let table = publisher.carnet.ok(&["key", "list"]);
    for words in ["still published at", "waits for "] {
        assert!(table.contains(words), "{table}");
    }
    let refused = publisher.carnet.run(&["key", "rotate", "--alg", "RS256"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("is not yet published everywhere"), "{refused:?}");

    fs::remove_file(&well_known).unwrap();
    fs::rename(publisher.folder.join("away"), &well_known).unwrap();
    follows(&publisher, &server);
    let works = wait_until(PATIENCE, || {
        let checks = readiness(&server);
        let publication = &checks["checks"]["publications"][0];
        (publication["current"] == true && publication["error"].is_null()).then_some(())
    });
    assert!(works.is_some(), "{}", readiness(&server));
    assert!(!publisher.kids().contains(&revoked));
}

#[test]
fn a_new_target_that_cannot_be_written_stops_the_start_and_no_key_waits_for_it() {
    let publisher = Publisher::new();
    fs::create_dir(&publisher.folder).unwrap();
    fs::write(publisher.folder.join(".well-known"), "in the way").unwrap();
    let target = publisher.folder.to_str().unwrap();
    let refused =
        publisher.carnet.run(&["serve", "--issuer", ISSUER, "--listen", "127.0.0.1:0", "--publish", target]);
    assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
    assert!(refused.stderr.contains(target), "{refused:?}");
    fs::remove_file(publisher.folder.join(".well-known")).unwrap();
    assert_eq!(publisher.ok(&["--once"]).0["registered"], false);
}

#[test]
fn a_server_without_the_flag_warns_that_keys_wait_for_a_target() {
    let publisher = Publisher::new();
    publisher.ok(&[]);
    let server =
        publisher.carnet.serve(ISSUER, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
    let said =
        wait_until(PATIENCE, || server.process.stderr().contains("does not publish there").then_some(()));
    assert!(said.is_some(), "{}", server.process.stderr());
    assert_eq!(
        fs::metadata(publisher.folder.join(JWKS)).unwrap().permissions(),
        Permissions::from_mode(0o100_644)
    );
}
