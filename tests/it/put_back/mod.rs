//! An attacker restores an earlier database, complete or row by row; tested with the binary on the command
//! line.

mod accepted;
mod at_the_start;
mod published_copy;
mod state_file;
mod under_a_server;

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::carnet::{Announced, Carnet, Output};
use crate::support::http::{Connection, HttpResponse};
use crate::support::keys;
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns an issuer with its first keys and two feeds, without a server.
fn founded() -> Carnet {
    let carnet = Carnet::new();
    stop(keys::serve(&carnet));
    keys::add_feeds(&carnet, &[]);
    carnet
}

fn stop(mut server: Announced) {
    server.process.ask_to_stop();
    assert!(server.process.wait_for_end(PATIENCE).expect("the server does not stop").success());
}

/// A copy of a carnet's database, made while nothing uses it.
struct Copy(TempDir);

impl Copy {
    fn of(carnet: &Carnet) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(carnet.home(), folder.path());
        Self(folder)
    }

    /// Restores the copy over the current database, as from a backup.
    fn put_back(&self, carnet: &Carnet) {
        for file in ["carnet.db-wal", "carnet.db-shm"] {
            let _ = fs::remove_file(carnet.home().join(file));
        }
        copy(self.0.path(), carnet.home());
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("carnet.db")
    }
}

fn copy(from: &Path, to: &Path) {
    for file in ["carnet.db", "carnet.db-wal", "carnet.db-shm"] {
        if from.join(file).exists() {
            fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

/// A grant's id and token.
struct Grant {
    id: String,
    token: String,
}

fn grant(carnet: &Carnet, more: &[&str]) -> Grant {
    let made = carnet.ok(&[&["grant", "create", "--role=admin", "--output=json"], more].concat());
    let made: Value = serde_json::from_str(&made).unwrap();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Grant { id: text("id"), token: text("token") }
}

fn revoke_grant(carnet: &Carnet, grant: &Grant) {
    carnet.ok(&["grant", "revoke", &grant.id, "--yes"]);
}

/// Returns the active ES256 key.
fn active(carnet: &Carnet) -> String {
    keys::the(&keys::list(carnet), "ES256", "active").to_owned()
}

fn revoke_key(carnet: &Carnet, kid: &str) {
    carnet.ok(&["key", "revoke", kid, "--yes"]);
}

/// Calls the API with a grant's token.
fn get(server: &Announced, grant: &Grant, path: &str) -> HttpResponse {
    let header = format!("Authorization: Bearer {}\r\n", grant.token);
    Connection::to(server.announced("/listening"), None).request("GET", path, &header)
}

fn readyz(server: &Announced) -> HttpResponse {
    Connection::to(server.announced("/listening"), None).get("/readyz")
}

/// Waits until `/readyz` has this status.
#[track_caller]
fn wait_until_ready_is(server: &Announced, status: u16) -> HttpResponse {
    let found = crate::support::process::wait_until(PATIENCE, || {
        Some(readyz(server)).filter(|found| found.status == status)
    });
    found.unwrap_or_else(|| panic!("/readyz does not become {status}: {:?}", readyz(server)))
}

/// Asserts that every command that relies on the database refuses it with these words.
#[track_caller]
fn assert_refused(carnet: &Carnet, words: &str) {
    let commands: [&[&str]; 5] = [
        &["serve", "--issuer", keys::ISSUER, "--listen=127.0.0.1:0"],
        &["key", "list"],
        &["token", "mint", "default/es256"],
        &["grant", "list"],
        &["grant", "create", "--role=admin"],
    ];
    for command in commands {
        let Output { status, stdout, stderr } = carnet.run(command);
        assert_eq!((status, stdout.as_str()), (1, ""), "{command:?}: {stderr}");
        assert!(stderr.contains(words), "{command:?} should say {words:?}:\n{stderr}");
        assert!(stderr.contains("hint: "), "{command:?}:\n{stderr}");
    }
}

/// Asserts that a start succeeds without a warning about a missing state file.
#[track_caller]
fn assert_starts(carnet: &Carnet) {
    let server = keys::serve(carnet);
    assert!(!server.process.stderr().contains("nothing outside the database"), "{}", server.process.stderr());
    stop(server);
}
