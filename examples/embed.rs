//! carnet inside an axum application: its public documents and its API beside a route of the application's
//! own, its keys rotated by the application, and tokens minted in-process.
//!
//! ```text
//! cargo run --example embed -- target/embedded
//! curl http://127.0.0.1:8080/carnet/.well-known/openid-configuration
//! curl http://127.0.0.1:8080/subject
//! curl http://127.0.0.1:8080/api/v1/openapi.json
//! ```
//!
//! Database and master key are kept in the folder that is named. Ctrl-C ends it.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use carnet::audit::{Event, EventKind, Outcome};
use carnet::carnet::{Carnet, Config, MasterKeySource};
use carnet::feed::aws::AssumedRole;
use carnet::feed::{Feed, FeedDraft, FeedPath, Provider};
use carnet::feeds::{Feeds, Sharing};
use carnet::oidc::subject::Context;
use carnet::oidc::token::Presented;
use carnet::store::IfMissing;
use carnet::values::random::SecureRandom;
use http::StatusCode;
use tokio::net::TcpListener;

/// What the application's own routes need.
#[derive(Clone)]
struct Application {
    carnet: Arc<Carnet>,
    feed: Arc<Feed>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder =
        PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder for database and master key")?);
    std::fs::create_dir_all(&folder)?;

    let carnet = Arc::new(
        Carnet::open(Config {
            if_missing: IfMissing::Create,
            // The path below which clouds find the documents. A real one is https and public.
            issuer: Some("http://127.0.0.1:8080/carnet".parse()?),
            ..Config::new(folder.join("carnet.db").into(), MasterKeySource::Folder(folder.join("keys")))
        })
        .await?,
    );
    let feed = Arc::new(feed(&carnet).await?);

    // The router knows the issuer's path, so that it is merged at the root, not nested.
    let router = Router::new()
        .route("/subject", get(subject))
        .with_state(Application { carnet: Arc::clone(&carnet), feed })
        .merge(carnet.public_router())
        // Below /api/v1, for holders of grants.
        .merge(carnet.api_router()?);

    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let (served, ()) = tokio::join!(
        async { axum::serve(listener, router).with_graceful_shutdown(interrupted()).await },
        // Rotates keys, and keeps this process's view of them current: without it, minting stops after 5 s.
        carnet.run(interrupted()),
    );
    carnet.store().close().await;
    Ok(served?)
}

/// The feed `default/prod`, added at the first start.
async fn feed(carnet: &Carnet) -> Result<Feed, Box<dyn Error>> {
    let path: FeedPath = "default/prod".parse()?;
    if let Some(feed) = carnet.store().feed(&path).await? {
        return Ok(feed);
    }
    let feeds =
        Feeds::new(carnet.store().clone(), Arc::clone(carnet.clock()), Arc::new(SecureRandom::default()));
    let draft = FeedDraft {
        space: path.space,
        slug: path.slug,
        name: None,
        registry: "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse()?,
        provider: Provider::AwsEcr(AssumedRole {
            role_arn: "arn:aws:iam::123456789012:role/carnet-pull".parse()?,
            session_duration: Default::default(),
        }),
        audience: None,
        subject_keys: None,
        alg: None,
        token_lifetime: None,
        endpoints: Default::default(),
    };
    Ok(feeds.add(draft, Sharing::NOTHING, carnet.actor()).await?.feed)
}

/// Mints a token and answers with what a cloud would decide on; the token itself stays here.
///
/// `carnet::exchange::exchange` would trade it for a credential of the feed's registry.
async fn subject(State(application): State<Application>) -> Result<Json<Presented>, StatusCode> {
    let carnet = &application.carnet;
    // Durable in the audit log before the token is here.
    let asked = Event::new(EventKind::TokenMint, Outcome::Done, carnet.actor());
    let token = carnet
        .audited_issuer()
        .mint(&application.feed, &Context::empty(), asked)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(Json(token.presented))
}

async fn interrupted() {
    // Without a signal handler there is nothing to wait for: the process ends by the default action.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
