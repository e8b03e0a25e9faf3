//! carnet inside an axum application, which serves carnet's public documents and API beside a route of its own.
//!
//! ```text
//! cargo run --example embed -- target/embedded
//! curl http://127.0.0.1:8080/carnet/.well-known/openid-configuration
//! curl http://127.0.0.1:8080/subject
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use carnet::{
    Actor, AssumedRole, Carnet, Config, Context, FeedDraft, IfMissing, MasterKeySource, Provider, Sharing,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("name a folder for database and keys")?);
    std::fs::create_dir_all(&folder)?;
    let keys = MasterKeySource::Folder(folder.join("keys"));
    let config = Config::new(folder.join("carnet.db").into(), keys);
    // Clouds find the documents below this path. A real URL is https and public.
    let issuer = Some("http://127.0.0.1:8080/carnet".parse()?);
    let carnet = Arc::new(Carnet::open(Config { if_missing: IfMissing::Create, issuer, ..config }).await?);

    // The audit log names the actor of every change and every token.
    let application = Actor::local("application");
    let path = "default/prod".parse()?;
    let feed = match carnet.feeds().get(&path).await? {
        Some(feed) => feed,
        None => {
            let provider =
                Provider::AwsEcr(AssumedRole::new("arn:aws:iam::123456789012:role/carnet-pull".parse()?));
            let draft =
                FeedDraft::new(path, "123456789012.dkr.ecr.eu-central-1.amazonaws.com".parse()?, provider);
            carnet.feeds().add(draft, Sharing::NOTHING, &application).await?.feed
        }
    };

    let minter = Arc::clone(&carnet);
    let subject = async move || match minter.mint(&feed, &Context::empty(), &application).await {
        Ok(token) => Ok(Json(token.presented)),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    };
    // The public router knows the issuer's path, so it is merged at the root.
    let router = Router::new()
        .route("/subject", get(subject))
        .merge(carnet.public_router())
        .merge(carnet.api_router()?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    let ended = async || drop(tokio::signal::ctrl_c().await);
    // `run` rotates the keys and confirms them: without it, minting stops after 5 s.
    let served = axum::serve(listener, router).with_graceful_shutdown(ended());
    let (served, ()) = tokio::join!(served.into_future(), carnet.run(ended()));
    carnet.close().await;
    Ok(served?)
}
