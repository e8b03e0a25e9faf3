//! No token leaves for a provider before its row is durable, and none leaves if the row cannot be written.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::audit::{EventKind, Outcome, Record};
use crate::broker::{AttemptError, Exchanger as _, MintingExchanger, Request};
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::exchange::transport::{HttpTransport, SendFuture};
use crate::feed::scope::Scope;
use crate::feed::{Feed, FeedDraft};
use crate::jose::Algorithm;
use crate::oidc::subject::Context;
use crate::signing_keys::rotation::RotationRequest;
use crate::store::audit::{AuditFilter, Direction};
use crate::store::{IfMissing, Store};
use crate::values::actor::Actor;
use bytes::Bytes;
use http::Response;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

/// A provider that reads the log, on its own connection, when a token arrives.
struct Witness {
    database: PathBuf,
    /// The status of its response; `None` sends no response.
    status: Option<u16>,
    asked: AtomicUsize,
    /// An action to run while the first token is on its way.
    meanwhile: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Witness")
    }
}

impl HttpTransport for Witness {
    fn send(&self, _: http::Request<Bytes>) -> SendFuture<'_> {
        Box::pin(async move {
            let minted = "SELECT COUNT(*) FROM audit WHERE kind = 'token.mint' AND outcome = 'done'";
            let minted: i64 =
                sqlx::query_scalar(minted).fetch_one(&mut sql(&self.database).await).await.unwrap();
            let asked = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            assert_eq!(minted, asked as i64, "a token arrived before its row was durable");
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile.await;
            }
            let Some(status) = self.status else { return std::future::pending().await };
            let response = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no\u{7}</Message>\
                          </Error><RequestId>1234-abcd</RequestId></ErrorResponse>";
            Ok(Response::builder().status(status).body(Bytes::from(response)).unwrap())
        })
    }
}

async fn sql(database: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(database)).await.unwrap()
}

struct World {
    _folder: TempDir,
    carnet: Carnet,
    witness: Arc<Witness>,
    exchanger: MintingExchanger,
    request: Request,
}

impl World {
    async fn new(status: Option<u16>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("carnet.db");
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            actor: Actor::local("test"),
            ..Config::new(database.clone().into(), MasterKeySource::Folder(folder.path().join("keys")))
        };
        let carnet = Carnet::open(config).await.unwrap();
        let witness =
            Arc::new(Witness { database, status, asked: AtomicUsize::new(0), meanwhile: Mutex::default() });
        let (actor, clock) = (carnet.actor().clone(), Arc::clone(carnet.clock()));
        let exchanger = MintingExchanger::new(carnet.audited_issuer(), actor, witness.clone(), clock);
        let request = Request {
            feed: feed(carnet.clock().now()),
            context: Context::empty(),
            scope: Scope::everything(),
        };
        Self { _folder: folder, carnet, witness, exchanger, request }
    }

    /// Returns the records since the issuer was founded.
    async fn recorded(&self) -> Vec<Record> {
        self.carnet.audit_log().flush().await;
        recorded(self.carnet.store()).await
    }
}

async fn recorded(store: &Store) -> Vec<Record> {
    let records = store.audit(&AuditFilter::default(), Direction::OldestFirst(0), 100).await.unwrap().records;
    records.into_iter().filter(|record| record.event.feed.is_some()).collect()
}

fn feed(now: jiff::Timestamp) -> Feed {
    let settings = r#"{"type":"aws-ecr","role_arn":"arn:aws:iam::123456789012:role/pull"}"#;
    let draft = FeedDraft::new(
        "default/prod".parse().unwrap(),
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse().unwrap(),
        serde_json::from_str(settings).unwrap(),
    );
    Feed::new(draft, uuid::Uuid::from_u128(7), Duration::from_secs(3600), now).unwrap()
}

#[tokio::test]
async fn a_refused_exchange_is_recorded_after_its_mint_with_the_providers_message() {
    let world = World::new(Some(403)).await;
    let error = world.exchanger.exchange(&world.request).await.unwrap_err();
    assert!(matches!(error, AttemptError::Exchange(_)), "{error}");
    let [minted, exchanged] = <[Record; 2]>::try_from(world.recorded().await).unwrap();
    assert_eq!((minted.event.kind, minted.event.outcome), (EventKind::TokenMint, Outcome::Done));
    assert_eq!((exchanged.event.kind, exchanged.event.outcome), (EventKind::Exchange, Outcome::Refused));
    for event in [&minted.event, &exchanged.event] {
        assert_eq!(event.actor.as_str(), "local:test");
        assert_eq!(event.sub.as_deref(), Some("space:default:feed:prod"));
        assert_eq!(event.feed_id, Some(world.request.feed.id));
    }
    assert_eq!(minted.event.jti, exchanged.event.jti);
    assert_eq!(exchanged.event.upstream_request_id.as_deref(), Some("1234-abcd"));
    let detail = exchanged.event.detail.unwrap();
    assert!(detail.contains("AccessDenied") && detail.contains("sts:"), "{detail}");
    assert!(!detail.contains('\u{7}'), "{detail:?}");
}

#[tokio::test]
async fn a_token_refused_because_its_key_was_replaced_is_followed_by_one_of_the_new_key() {
    let world = World::new(Some(403)).await;
    let (rotator, issuer) = (Arc::clone(world.carnet.rotator()), Arc::clone(world.carnet.issuer()));
    *world.witness.meanwhile.lock().unwrap() = Some(Box::pin(async move {
        let seen = issuer.key_set().active_kids();
        let request = RotationRequest { algorithms: Algorithm::ALL.to_vec(), seen, force: true };
        rotator.rotate(&request, &Actor::local("test")).await.unwrap();
        issuer.refresh().await.unwrap();
    }));
    world.exchanger.exchange(&world.request).await.unwrap_err();
    // After a refusal because of the token's claims there is no third attempt.
    assert_eq!(world.witness.asked.load(Ordering::Relaxed), 2);
    let kids: Vec<_> = world.recorded().await.into_iter().map(|record| record.event.kid.unwrap()).collect();
    assert!(kids.len() == 4 && kids[0] != kids[2], "{kids:?}");
    world.exchanger.exchange(&world.request).await.unwrap_err();
    assert_eq!(world.witness.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_cancelled_exchange_is_recorded_too() {
    let world = World::new(None).await;
    let exchange = world.exchanger.exchange(&world.request);
    tokio::select! {
        _ = exchange => panic!("an answer"),
        () = async { while world.witness.asked.load(Ordering::Relaxed) == 0 { tokio::task::yield_now().await } } => {}
    }
    let records = world.recorded().await;
    let outcomes: Vec<_> = records.iter().map(|record| (record.event.kind, record.event.outcome)).collect();
    assert_eq!(outcomes, [(EventKind::TokenMint, Outcome::Done), (EventKind::Exchange, Outcome::Failed)]);
    assert!(records[1].event.detail.as_ref().unwrap().contains("cancelled"));
}

#[tokio::test]
async fn a_mint_that_cannot_be_recorded_is_not_exchanged() {
    let world = World::new(Some(403)).await;
    let hide = sqlx::query("ALTER TABLE audit RENAME TO hidden");
    hide.execute(&mut sql(&world.witness.database).await).await.unwrap();
    let error = world.exchanger.exchange(&world.request).await.unwrap_err();
    assert!(matches!(error, AttemptError::Audit(_)), "{error}");
    assert!(!error.is_transient());
    assert_eq!(world.witness.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_mint_that_is_refused_is_recorded_with_the_reason() {
    let mut world = World::new(Some(403)).await;
    let mut feed = world.request.feed.clone();
    feed.subject_keys = "space,tenant".parse().unwrap();
    world.request.feed = feed;
    let error = world.exchanger.exchange(&world.request).await.unwrap_err();
    assert!(matches!(error, AttemptError::Mint(_)), "{error}");
    let [refused] = <[Record; 1]>::try_from(world.recorded().await).unwrap();
    assert_eq!((refused.event.kind, refused.event.outcome), (EventKind::TokenMint, Outcome::Refused));
    assert!(refused.event.detail.unwrap().contains("tenant"));
    assert_eq!(world.witness.asked.load(Ordering::Relaxed), 0);
}
