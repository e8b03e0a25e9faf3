//! `carnet serve`: the server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::{opening, output};
use crate::actor::Actor;
use crate::audit_log::LEAST_RETENTION;
use crate::carnet::{Carnet, Config};
use crate::duration;
use crate::http::public::{Detail, PublicDocuments};
use crate::http::server::{Served, serve};
use crate::http::tls;
use crate::store::IfMissing;

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    /// Where to listen; port 0 picks a free one
    #[arg(long, env = "CARNET_LISTEN", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Listen beyond loopback without TLS, as behind a proxy that adds it
    #[arg(long)]
    insecure_listen: bool,
    /// The certificate chain in PEM
    #[arg(long, env = "CARNET_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, env = "CARNET_TLS_KEY", value_name = "FILE", requires = "tls_cert", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// Let --issuer replace the issuer URL of an existing database: every cloud's trust must be set up anew
    #[arg(long, requires = "issuer")]
    change_issuer: bool,
    /// Remove audit records that are older, at least 1d; the log stays provable [default: keep them for ever]
    #[arg(long, env = "CARNET_AUDIT_RETENTION", value_name = "DURATION", value_parser = retention)]
    audit_retention: Option<Duration>,
}

fn retention(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(retention) if retention < LEAST_RETENTION => Err("the least is 1d".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

pub(super) async fn run(opening: opening::OpeningOptions, arguments: ServeArguments) -> Result<(), Failure> {
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificate), Some(key)) => Some(
            tls::acceptor(certificate, key)
                .map_err(|error| anyhow::Error::new(error).context("--tls-cert and --tls-key"))?,
        ),
        _ => None,
    };
    if tls.is_none() && !arguments.listen.ip().is_loopback() && !arguments.insecure_listen {
        return Err(Failure::usage(format!("--listen {}: not loopback, and without TLS", arguments.listen))
            .hint("give --tls-cert and --tls-key, or --insecure-listen if a proxy in front adds TLS"));
    }
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| anyhow::Error::new(error).context(format!("--listen {}", arguments.listen)))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listening = format!("{scheme}://{}", listener.local_addr()?);
    // Before anything is announced: a signal from here on stops the server in order.
    let shutdown = shutdown_signal()?;

    let config = opening.config();
    let change_issuer = arguments.change_issuer;
    let (actor, audit_retention) = (Actor::server(), arguments.audit_retention);
    let config = Config { if_missing: IfMissing::Create, change_issuer, actor, audit_retention, ..config };
    let carnet = Carnet::open(config).await?;
    let issuer = carnet.issuer();
    if let Some(port) = issuer.url().explicit_port() {
        tracing::warn!(port, "the issuer URL names a port: AWS refuses such an identity provider");
    }
    tracing::info!(issuer = %issuer.url(), %listening, database = %carnet.store().url(), "serving");
    output::line(&json!({ "listening": listening, "issuer": issuer.url() }).to_string())?;

    let documents = PublicDocuments::new(Arc::clone(issuer), Detail::Full);
    let served = Served { router: documents.clone().router(), documents };
    let clock = Arc::clone(carnet.clock());
    tokio::join!(
        serve(listener, tls, served, clock, stopped(shutdown.clone())),
        carnet.run(stopped(shutdown)),
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
