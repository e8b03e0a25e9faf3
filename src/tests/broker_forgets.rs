//! When another process removes a feed, a running process drops its cached credentials and its exchanges in
//! progress.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::BrokerError;
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::feed::endpoints::Endpoints;
use crate::feed::scope::Scope;
use crate::feed::{FeedDraft, aws};
use crate::feeds::{Feeds, Sharing};
use crate::oidc::subject::Context;
use crate::store::IfMissing;
use crate::values::actor::Actor;
use crate::values::clock::SystemClock;
use crate::values::random::SecureRandom;
use serde_json::json;
use tokio::net::TcpListener;

#[tokio::test]
async fn a_request_for_a_feed_that_another_process_removes_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let database: crate::store::database_url::DatabaseUrl =
        format!("sqlite:{}", folder.path().join("carnet.db").display()).parse().unwrap();
    let keys = MasterKeySource::Folder(folder.path().join("keys"));
    let config = Config {
        if_missing: IfMissing::Create,
        issuer: Some("http://127.0.0.1:1".parse().unwrap()),
        ..Config::new(database, keys)
    };
    let carnet = Carnet::open(config.clone()).await.unwrap();

    // A provider that accepts the request and never responds.
    let provider = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", provider.local_addr().unwrap());
    let overrides = [format!("sts={url}"), format!("ecr={url}")];
    // Acts as another process would.
    let other = config.open_trusted().await.unwrap();
    let actor = Actor::local("test");
    let feeds = Feeds::new(other, Arc::new(SystemClock::new()), Arc::new(SecureRandom::default()));
    let role = json!({ "type": "aws-ecr", "role_arn": "arn:aws:iam::123456789012:role/pull" });
    let draft = FeedDraft {
        endpoints: Endpoints::from_pairs(aws::ENDPOINT_NAMES, overrides.iter().map(String::as_str)).unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            "localhost:5000".parse().unwrap(),
            serde_json::from_value(role).unwrap(),
        )
    };
    let feed = feeds.add(draft, Sharing::NOTHING, &actor).await.unwrap().feed;

    let broker = carnet.broker().unwrap();
    let (context, scope) = (Context::empty(), Scope::everything());
    let asked = broker.credential(&feed, &context, &scope, None);
    let removed = async {
        let taken = provider.accept().await.unwrap();
        feeds.remove(&feed.path(), &actor).await.unwrap();
        // Kept open: only the broker may end this connection.
        let end = std::future::pending::<()>();
        end.await;
        drop(taken);
    };
    let outcome = tokio::select! {
        outcome = asked => outcome,
        () = removed => unreachable!(),
        () = carnet.run(std::future::pending()) => unreachable!(),
        // Well before the deadline of an exchange, 15 s.
        () = wait(Duration::from_secs(8)) => panic!("the request is still under way"),
    };
    assert!(matches!(outcome, Err(BrokerError::FeedChanged)), "{outcome:?}");
    assert_eq!(broker.remembered(), 0);
}

#[expect(clippy::disallowed_methods, reason = "a limit for a test that hangs, not synchronisation")]
async fn wait(time: Duration) {
    tokio::time::sleep(time).await;
}
