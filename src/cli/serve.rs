//! `carnet serve`: the server.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::{opening, output};
use crate::carnet::{Carnet, Config};
use crate::http::public::{Detail, PublicDocuments};
use crate::http::server::Served;
use crate::store::IfMissing;

mod listening;

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    listening: listening::ListenArguments,
    /// Let --issuer replace the issuer URL of an existing database: every cloud's trust must be set up anew
    #[arg(long, requires = "issuer")]
    change_issuer: bool,
}

pub(super) async fn run(opening: opening::OpeningOptions, arguments: ServeArguments) -> Result<(), Failure> {
    let listening = arguments.listening.bind().await?;
    // Before anything is announced: a signal from here on stops the server in order.
    let shutdown = shutdown_signal()?;

    let config = opening.config();
    let change_issuer = arguments.change_issuer;
    let carnet = Carnet::open(Config { if_missing: IfMissing::Create, change_issuer, ..config }).await?;
    let issuer = carnet.issuer();
    if let Some(port) = issuer.url().explicit_port() {
        tracing::warn!(port, "the issuer URL names a port: AWS refuses such an identity provider");
    }
    let announcement = listening.announcement(issuer.url())?;
    tracing::info!(%announcement, database = %carnet.store().url(), "serving");
    output::line(&announcement.to_string())?;

    let documents = |detail| {
        PublicDocuments::new(Arc::clone(issuer), detail).in_condition(Arc::clone(listening.condition()))
    };
    let everything = Served::documents_only(documents(Detail::Full));
    let public = Served::documents_only(documents(Detail::StatusOnly));
    let (ended, has_ended) = watch::channel(false);
    tokio::join!(
        async {
            listening.serve(everything, public, carnet.clock(), shutdown).await;
            ended.send_replace(true);
        },
        // Longer than the requests under way, which may need a key.
        carnet.run(stopped(has_ended)),
    );
    carnet.store().close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Turns true when the process is asked to stop.
pub(super) fn shutdown_signal() -> Result<watch::Receiver<bool>, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        sender.send_replace(true);
    });
    Ok(receiver)
}

/// Completes when the process is asked to stop.
pub(super) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // The sender is dropped only after it has sent.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
