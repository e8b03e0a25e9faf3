//! When the log cannot be written, callers get a retryable error, and no credential leaves.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tokio::runtime::Runtime;

use crate::audit_crash::clients::{ask, whole_body};
use crate::audit_crash::world::{FEEDS, World, address};
use crate::support::carnet::Announced;
use crate::support::database;
use crate::support::process::{Process, clean_command, wait_until};
use crate::support::system_peer;

const SOON: Duration = Duration::from_secs(60);
const CREDENTIALS: &str = "SELECT request_id FROM audit WHERE kind = 'credential' ORDER BY request_id";

/// A server, and the grant of its caller.
struct Asking {
    world: World,
    server: Announced,
    grant: String,
}

impl Asking {
    /// Requests `tenant`'s credential of the first feed.
    fn ask(&self, request: &str, tenant: &str) -> (u16, Value) {
        let path = format!("/api/v1/spaces/{}/credentials", FEEDS[0]);
        let body = format!(r#"{{"context":{{"tenant":"{tenant}"}}}}"#);
        let arrived = ask(&address(&self.server), &path, &self.grant, request, &body).unwrap();
        let arrived = String::from_utf8(arrived).unwrap();
        let status = arrived.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(whole_body(&arrived).unwrap()).unwrap())
    }

    /// Asserts that neither a cached credential nor one that needs a new token is handed out.
    #[track_caller]
    fn assert_nothing_leaves(&self) {
        // At once, before the key state is too old to mint at all.
        let responses = std::thread::scope(|scope| {
            let asking = [("refused-1", "known"), ("refused-2", "unknown")];
            let asking = asking.map(|(request, tenant)| scope.spawn(move || self.ask(request, tenant)));
            asking.map(|asking| asking.join().unwrap())
        });
        for (status, problem) in responses {
            let expected = json!("urn:carnet:problem:storage-unavailable");
            assert_eq!((status, &problem["type"]), (503, &expected), "{problem}");
            for member in ["password", "registry_token", "username", "jti"] {
                assert!(problem.get(member).is_none(), "{problem}");
            }
        }
    }

    /// Asserts that the credential is handed out again soon, after a time in which the key state could not be
    /// confirmed.
    fn assert_given_soon(&self, request: &str, tenant: &str) {
        let given = wait_until(SOON, || (self.ask(request, tenant).0 == 200).then_some(()));
        given.unwrap_or_else(|| panic!("the server does not recover: {:?}", self.ask(request, tenant)));
    }

    #[track_caller]
    fn assert_given(&self, request: &str, tenant: &str, source: &str) {
        let (status, response) = self.ask(request, tenant);
        assert_eq!((status, &response["source"]), (200, &source.into()), "{response}");
    }

    /// Returns the requests with a `credential` row.
    fn recorded(&self) -> Vec<String> {
        database::texts(&self.world.carnet.database(), CREDENTIALS)
    }

    /// Returns the number of tokens that the sandbox received.
    fn sessions(&self) -> usize {
        self.world.sandbox.process.stderr().matches("issued").count()
    }
}

#[test]
fn while_another_one_holds_the_database_no_credential_leaves() {
    let (world, server) = World::new();
    let asking = Asking { grant: world.deployer(), world, server };
    asking.assert_given("before", "known", "exchange");
    let sessions = asking.sessions();
    {
        let _held = Held::of(&asking.world.carnet.database());
        asking.assert_nothing_leaves();
    }
    assert_eq!(asking.sessions(), sessions, "a token left that could not be recorded");
    // The caller's error says that a row may be missing; the row may come late, but no credential with it.
    asking.assert_given_soon("after-1", "known");
    asking.assert_given_soon("after-2", "unknown");
    let recorded = asking.recorded();
    for request in ["before", "after-1", "after-2"] {
        assert_eq!(recorded.iter().filter(|row| *row == request).count(), 1, "{request}: {recorded:?}");
    }
    asking.world.carnet.ok(&["audit", "verify"]);
}

#[test]
fn on_a_full_disk_no_credential_leaves() {
    let (world, first) = World::new();
    drop(first);
    // Exceeding the file size limit is then an error, like a full disk, and not a signal.
    let arguments = world.serve_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let carnet = world.carnet.command(&arguments);
    let mut shell = clean_command("sh");
    shell.current_dir(world.carnet.home()).args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    shell.arg(carnet.get_program()).args(carnet.get_args());
    let server = Announced::of("carnet serve", &mut shell);
    let asking = Asking { grant: world.deployer(), world, server };
    asking.assert_given("before", "known", "exchange");
    let sessions = asking.sessions();

    // No file may grow by a single byte, including the server's own log.
    limit_files(&asking.server.process, "1");
    asking.assert_nothing_leaves();
    assert_eq!(asking.sessions(), sessions, "a token left that could not be recorded");
    assert_eq!(asking.recorded(), ["before"]);

    limit_files(&asking.server.process, "unlimited");
    asking.assert_given_soon("after-1", "known");
    asking.assert_given_soon("after-2", "unknown");
    assert_eq!(asking.recorded(), ["after-1", "after-2", "before"]);
    asking.world.carnet.ok(&["audit", "verify"]);
}

fn limit_files(process: &Process, bytes: &str) {
    let limited = Command::new(system_peer("prlimit"))
        .args(["--pid", &process.id().to_string(), &format!("--fsize={bytes}:unlimited")])
        .status()
        .unwrap();
    assert!(limited.success());
}

/// A write transaction of another process that does not end.
struct Held {
    runtime: Runtime,
    connection: Option<SqliteConnection>,
}

impl Held {
    fn of(database: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new().filename(database).busy_timeout(SOON);
        let connection = runtime.block_on(async {
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
            connection
        });
        Self { runtime, connection: Some(connection) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Closing ends the transaction.
            let _ = self.runtime.block_on(connection.close());
        }
    }
}
