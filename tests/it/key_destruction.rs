//! A destroyed private half leaves the files as soon as no database reader holds it there; until then, every
//! output reports the erasure as pending.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::carnet::Carnet;
use crate::support::keys::ISSUER;
use crate::support::needles::Needles;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use carnet::internals::Parts as _;
use carnet::internals::carnet::tasks::maintenance::Maintenance;
use carnet::internals::carnet::{Config, MasterKeySource};
use carnet::internals::http::public::{Detail, PublicDocuments};
use carnet::internals::issuer::rotator::Rotation;
use carnet::internals::jose::Algorithm;
use carnet::internals::signing_keys::rotation::RotationRequest;
use carnet::internals::signing_keys::{self, State};
use carnet::internals::store::IfMissing;
use carnet::internals::values::actor::Actor;
use carnet::internals::values::clock::SimulatedClock;
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};

/// A server that refreshed less often would stop minting.
const LOOKS_WITHIN: Duration = Duration::from_secs(3);
/// Longer than the pause before the next attempt at an erasure.
const NEXT_TRY: Duration = Duration::from_secs(2);

/// An issuer opened in this process, in the home of a `carnet` binary that observes it from outside.
struct Issuer {
    binary: Carnet,
    clock: Arc<SimulatedClock>,
    carnet: carnet::internals::carnet::Carnet,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the binary looks at the same database by this machine's clock"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

impl Issuer {
    async fn new() -> Self {
        let (binary, clock) = (Carnet::new(), Arc::new(SimulatedClock::at(now())));
        let carnet = open(&binary, &clock).await;
        Self { binary, clock, carnet }
    }

    /// Closes and reopens the issuer, as a restart does.
    async fn restarted(self) -> Self {
        self.carnet.store().close().await;
        let carnet = open(&self.binary, &self.clock).await;
        Self { carnet, ..self }
    }

    async fn rotate(&self) -> Rotation {
        let seen = self.carnet.issuer().key_set().active_kids();
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force: true };
        self.carnet.rotator().rotate(&request, &Actor::local("test")).await.unwrap()
    }

    /// Returns the sealed private halves that `connection` sees.
    async fn sealed(&self, connection: &mut SqliteConnection) -> Vec<String> {
        sqlx::query_scalar("SELECT sealed_private FROM signing_keys WHERE sealed_private IS NOT NULL")
            .fetch_all(connection)
            .await
            .unwrap()
    }

    /// Opens an independent connection to the database.
    async fn connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.binary.database());
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    /// Returns a connection inside a read transaction, and the halves that it reads.
    async fn reader(&self) -> (SqliteConnection, Vec<String>) {
        let mut reader = self.connection().await;
        sqlx::query("BEGIN").execute(&mut reader).await.unwrap();
        let sealed = self.sealed(&mut reader).await;
        (reader, sealed)
    }

    async fn is_pending(&self) -> bool {
        self.carnet.store().key_pulse().await.unwrap().erasure_pending
    }

    /// Returns whether `/readyz` reports a pending erasure after `maintenance` has run.
    async fn readyz_says_pending(&self, maintenance: &mut Maintenance) -> bool {
        let ticked = tokio::time::timeout(LOOKS_WITHIN, maintenance.tick()).await;
        ticked.expect("the maintenance waits for the reader, and sees no change of keys meanwhile");
        let documents = PublicDocuments::new(Arc::clone(self.carnet.issuer()), Detail::Full);
        let response = documents.response(&Method::GET, "/readyz", &HeaderMap::new()).unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["status"], "ready", "a pending erasure is no reason to be taken out of service");
        body["checks"]["erasure_pending"].as_bool().unwrap()
    }

    /// Returns whether `key list`, in its own process, reports a pending erasure.
    fn list_says_pending(&self) -> bool {
        let output = self.binary.run(&["key", "list"]);
        assert_eq!(output.status, 0, "{}", output.stderr);
        output.stderr.contains("erasure: pending")
    }

    /// Returns those of `sealed` that are in the database, its log, its index or anywhere else in the home,
    /// including free pages.
    ///
    /// The search uses a copy made by another process: opening and closing the files in this one would drop
    /// SQLite's locks on them.
    fn found(&self, sealed: &[String]) -> Vec<String> {
        let mut needles = Needles::default();
        for sealed in sealed {
            needles.add_text("sealed", sealed);
            needles.add("sealed", &STANDARD_NO_PAD.decode(sealed).unwrap());
        }
        let folder = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-r").arg(self.binary.home()).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        needles.found_below(folder.path())
    }

    fn log(&self) -> PathBuf {
        self.binary.home().join("carnet.db-wal")
    }
}

async fn open(binary: &Carnet, clock: &Arc<SimulatedClock>) -> carnet::internals::carnet::Carnet {
    let folder = MasterKeySource::Folder(binary.keys_dir());
    carnet::internals::carnet::Carnet::open(Config {
        if_missing: IfMissing::Create,
        issuer: Some(ISSUER.parse().unwrap()),
        clock: clock.clone(),
        ..Config::new(binary.database().into(), folder)
    })
    .await
    .unwrap()
}

/// Returns those of `before` that are not in `after`.
fn destroyed(before: Vec<String>, after: &[String]) -> Vec<String> {
    before.into_iter().filter(|sealed| !after.contains(sealed)).collect()
}

#[tokio::test]
async fn a_reader_delays_the_erasure_and_a_server_finishes_it_afterwards() {
    let issuer = Issuer::new().await;
    let mut maintenance = issuer.carnet.maintenance();
    assert!(!issuer.is_pending().await && !issuer.list_says_pending());
    let (mut reader, before) = issuer.reader().await;
    let rotation = issuer.rotate().await;
    assert_eq!((rotation.changes.len(), rotation.erased), (2, false));

    assert!(issuer.is_pending().await);
    assert!(issuer.list_says_pending());
    for _ in 0..2 {
        assert!(issuer.readyz_says_pending(&mut maintenance).await);
        issuer.clock.advance(NEXT_TRY);
    }
    let mut other = issuer.connection().await;
    let destroyed = destroyed(before.clone(), &issuer.sealed(&mut other).await);
    assert_eq!(destroyed.len(), 2, "the private halves of the retired keys are still there for all to read");
    assert_eq!(issuer.sealed(&mut reader).await, before, "the reader does not see what it saw");
    assert!(!issuer.found(&destroyed).is_empty(), "nothing is pending: the bytes are gone already");

    // A second destruction during the wait joins the first.
    issuer.carnet.issuer().refresh().await.unwrap();
    let also = issuer.sealed(&mut other).await;
    assert!(!issuer.rotate().await.erased);
    reader.close().await.unwrap();
    issuer.clock.advance(NEXT_TRY);
    maintenance.tick().await;
    assert!(!issuer.is_pending().await, "the maintenance has not finished the erasure");
    let destroyed = [destroyed, self::destroyed(also, &issuer.sealed(&mut other).await)].concat();
    assert_eq!(destroyed.len(), 4);
    assert_eq!(issuer.found(&destroyed), Vec::<String>::new());
    assert!(!issuer.readyz_says_pending(&mut maintenance).await);
    assert!(!issuer.list_says_pending());
    assert!(issuer.log().exists(), "the log was not searched");
    other.close().await.unwrap();
}

#[tokio::test]
async fn an_erasure_that_a_process_left_pending_is_finished_by_the_next_start() {
    let issuer = Issuer::new().await;
    let (mut reader, before) = issuer.reader().await;
    assert!(!issuer.rotate().await.erased);
    // A start while the reader is active works, and cannot erase either.
    let issuer = issuer.restarted().await;
    assert!(issuer.is_pending().await);
    let destroyed = destroyed(before, &{
        let mut other = issuer.connection().await;
        issuer.sealed(&mut other).await
    });
    assert_eq!(destroyed.len(), 2);
    assert!(!issuer.found(&destroyed).is_empty(), "nothing is pending: the bytes are gone already");
    sqlx::query("COMMIT").execute(&mut reader).await.unwrap();

    let issuer = issuer.restarted().await;
    assert!(!issuer.is_pending().await);
    assert_eq!(issuer.found(&destroyed), Vec::<String>::new());
    reader.close().await.unwrap();
}

#[tokio::test]
async fn every_way_to_destroy_a_key_takes_its_sealed_bytes_out_of_the_files() {
    let issuer = Issuer::new().await;
    let (rotator, by) = (issuer.carnet.rotator(), Actor::local("test"));
    let mut other = issuer.connection().await;
    for (way, count) in
        [("rotation", 2), ("revocation, active", 1), ("revocation, prepared", 1), ("revocation of all", 4)]
    {
        let before = issuer.sealed(&mut other).await;
        let key_set = issuer.carnet.issuer().key_set();
        let kid = |state: State| {
            let mut keys = key_set.keys.iter().filter(|key| key.state(now()) == state);
            keys.next().map(signing_keys::SigningKey::kid).unwrap()
        };
        let rotation = match way {
            "rotation" => issuer.rotate().await,
            "revocation, active" => rotator.revoke(&kid(State::Active), &by).await.unwrap(),
            "revocation, prepared" => rotator.revoke(&kid(State::Prepared), &by).await.unwrap(),
            _ => rotator.revoke_all(&key_set.active_kids(), &by).await.unwrap(),
        };
        assert!(rotation.erased, "{way}: something holds the log");
        let destroyed = destroyed(before, &issuer.sealed(&mut other).await);
        assert_eq!(destroyed.len(), count, "{way}");
        assert_eq!(issuer.found(&destroyed), Vec::<String>::new(), "{way}");
        assert!(!issuer.is_pending().await);
        issuer.carnet.issuer().refresh().await.unwrap();
    }
    other.close().await.unwrap();
}

/// Proves that the searches find the bytes that an ordinary deletion leaves behind.
#[tokio::test]
async fn without_secure_deletion_the_sealed_bytes_would_be_found() {
    let issuer = Issuer::new().await;
    let mut careless = issuer.connection().await;
    let before = issuer.sealed(&mut careless).await;
    for statement in [
        "PRAGMA secure_delete = OFF",
        "UPDATE signing_keys SET retired_at = 1, sealed_private = NULL, master_key_id = NULL WHERE activated_at > 0",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        sqlx::query(statement).fetch_all(&mut careless).await.unwrap();
    }
    let destroyed = destroyed(before, &issuer.sealed(&mut careless).await);
    assert_eq!(destroyed.len(), 2);
    let found = issuer.found(&destroyed);
    assert!(found.iter().any(|found| found.contains("carnet.db:")), "{found:?}");
    careless.close().await.unwrap();
}
