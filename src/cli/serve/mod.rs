//! `carnet serve`: the server.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::CommandFailure;
use super::proxy::ProxyOption;
use super::publish::{label_refused, not_opened, not_published};
use super::{opening, output};
use crate::carnet::tasks::audit_log::MIN_RETENTION;
use crate::carnet::{Carnet, Config};
use crate::exchange::address::Loopback;
use crate::http::api::{Api, ApiLimits, Rate};
use crate::http::limits;
use crate::http::public::{Detail, PublicDocuments};
use crate::http::server::Served;
use crate::publish::{self, BeginError, Publisher, TargetOptions};
use crate::store::IfMissing;
use crate::values::actor::Actor;
use crate::values::duration;
use crate::values::target_url::TargetUrl;

mod listening;

/// The time limit for the last writes after the last request.
const FINISHED_WITHIN: Duration = Duration::from_millis(1500);

/// The time limit for closing the database.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// The time limit for tasks that cannot be cancelled.
pub(super) const BLOCKING_TASKS_WITHIN: Duration = Duration::from_millis(100);

/// The maximum time from SIGTERM to the end of the process, in addition to the operator's `--shutdown-delay`.
/// Each step of the shutdown has a time limit of its own.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

const _: () = {
    let steps = [limits::DRAIN, FINISHED_WITHIN, CLOSED_WITHIN, BLOCKING_TASKS_WITHIN];
    let (mut all, mut step) = (Duration::ZERO, 0);
    while step < steps.len() {
        all = all.saturating_add(steps[step]);
        step += 1;
    }
    assert!(all.as_millis() < ENDED_WITHIN.as_millis());
};

#[derive(Debug, Args)]
pub(super) struct ServeArguments {
    #[command(flatten)]
    listening: listening::ListenArguments,
    /// Let --issuer replace the issuer URL of an existing database: every cloud's trust must be set up anew
    #[arg(long, requires = "issuer")]
    change_issuer: bool,
    /// Keep a copy of the public documents at this target: a folder, s3://BUCKET, gs://BUCKET or
    /// az://CONTAINER; no key signs before the target has shown it for long enough. Repeatable
    #[arg(long, env = "CARNET_PUBLISH", value_name = "TARGET")]
    publish: Vec<TargetUrl>,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    proxy: ProxyOption,
    /// A PEM file of certificates to trust in addition to the operating system's, for private endpoints
    #[arg(long, env = "CARNET_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Permit endpoints on this machine; always permitted if the issuer is on this machine
    #[arg(long)]
    allow_loopback_endpoints: bool,
    /// Delete audit records that are older than this, minimum 1d; the log stays verifiable [default: keep all
    /// records]
    #[arg(long, env = "CARNET_AUDIT_RETENTION", value_name = "DURATION", value_parser = retention)]
    audit_retention: Option<Duration>,
}

/// The rate limits of the API.
#[derive(Debug, Args)]
struct LimitArguments {
    /// Requests per second of each grant
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_grant.per_second)]
    grant_rate: NonZeroU32,
    /// The burst of requests of each grant, after a pause
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_grant.burst)]
    grant_burst: NonZeroU32,
    /// Requests per second of each client address, across all grants
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_address.per_second)]
    address_rate: NonZeroU32,
    /// The burst of requests of each client address, after a pause
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_address.burst)]
    address_burst: NonZeroU32,
}

impl LimitArguments {
    fn limits(&self) -> ApiLimits {
        ApiLimits {
            per_grant: Rate { per_second: self.grant_rate, burst: self.grant_burst },
            per_address: Rate { per_second: self.address_rate, burst: self.address_burst },
            ..ApiLimits::default()
        }
    }
}

fn retention(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(retention) if retention < MIN_RETENTION => Err("the minimum is 1d".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

pub(super) async fn run(
    opening: opening::OpeningOptions,
    arguments: ServeArguments,
) -> Result<(), CommandFailure> {
    let listening = arguments.listening.bind().await?;
    // Installed before the announcement, so that a signal from then on stops the server cleanly.
    let shutdown = shutdown_signal()?;

    let config = opening.config();
    let change_issuer = arguments.change_issuer;
    let (actor, audit_retention) = (Actor::server(), arguments.audit_retention);
    let config = Config { if_missing: IfMissing::Create, change_issuer, actor, audit_retention, ..config };
    let mut config = config;
    config.transport.proxy = arguments.proxy.proxy()?;
    config.transport.extra_ca_pem =
        arguments.ca_file.as_deref().map(super::files::read_certificates("--ca-file")).transpose()?;
    if arguments.allow_loopback_endpoints {
        config.transport.loopback = Loopback::Allow;
    }
    let target_options = TargetOptions {
        extra_ca_pem: config.transport.extra_ca_pem.clone(),
        proxy: config.transport.proxy.clone(),
    };
    // Migrating a large database may take long. A stop request must not wait for it.
    let opening = async {
        let carnet = Arc::new(Carnet::open(config).await?);
        // A new issuer's keys must be published before they sign, so this comes before the announcement.
        let publishers = publishers(&carnet, arguments.publish, &target_options).await?;
        Ok::<_, CommandFailure>((carnet, publishers))
    };
    let opened = tokio::select! {
        biased;
        () = stopped(shutdown.clone()) => None,
        opened = opening => Some(opened?),
    };
    let Some((carnet, publishers)) = opened else {
        tracing::info!("stopped before it served");
        return Ok(());
    };
    let issuer = carnet.issuer();
    if let Some(port) = issuer.url().explicit_port() {
        tracing::warn!(port, "the issuer URL names a port: AWS refuses such an identity provider");
    }
    let announcement = listening.announcement(issuer.url())?;
    tracing::info!(%announcement, database = %carnet.store().url(), "serving");
    output::line(&announcement.to_string())?;

    let documents =
        |detail| PublicDocuments::new(Arc::clone(issuer), detail).with_status(Arc::clone(listening.status()));
    let api = Api::new(Arc::clone(&carnet), arguments.limits.limits()).map_err(anyhow::Error::new)?;
    let everything = Served { documents: documents(Detail::Full), router: api.router() };
    let public = Served::documents_only(documents(Detail::StatusOnly));
    let (ended, has_ended) = watch::channel(false);
    let serving = async {
        listening.serve(everything, public, carnet.clock(), carnet.metrics(), shutdown).await;
        carnet.store().stop_reading();
        ended.send_replace(true);
    };
    // Maintenance must outlive the requests in progress, which may need a key.
    let keeping = carnet.run_publishing(publishers, stopped(has_ended.clone()));
    let too_long = async {
        stopped(has_ended).await;
        carnet.clock().sleep_until(carnet.clock().monotonic() + FINISHED_WITHIN).await;
    };
    tokio::select! {
        _ = async { tokio::join!(serving, keeping) } => {}
        () = too_long => tracing::warn!("the last records could not be written to the database"),
    }
    // If the timeout ends first, the end of the process closes the database. The next process finds it
    // intact.
    let _ = tokio::time::timeout(CLOSED_WITHIN, carnet.store().close()).await;
    tracing::info!("stopped");
    Ok(())
}

/// Creates the publishers of the given targets. Warns about every other target that keys wait for.
async fn publishers(
    carnet: &Carnet,
    urls: Vec<TargetUrl>,
    options: &TargetOptions,
) -> Result<Vec<Publisher>, CommandFailure> {
    let mut publishers = Vec::new();
    for url in &urls {
        let target = publish::open(url, options).map_err(|error| not_opened(url, error))?;
        let publisher = carnet.publisher(target).await.map_err(|error| match error {
            BeginError::Publish { source, .. } => not_published(url, source),
            BeginError::Store(error) => label_refused(url, error),
        });
        publishers.push(publisher?);
    }
    for known in carnet.publications().targets().await? {
        if !urls.contains(&known.target) {
            tracing::warn!(
                target = %known.target,
                "keys wait to be published there, and this server does not publish there: make sure that \
                 another one does, or run `carnet publish {} --forget`",
                known.target,
            );
        }
    }
    Ok(publishers)
}

/// Returns a receiver that turns true when the process receives SIGINT or SIGTERM.
pub(super) fn shutdown_signal() -> Result<watch::Receiver<bool>, CommandFailure> {
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

/// Completes when `shutdown` turns true.
pub(super) async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // The sender is dropped only after it has sent.
    let _ = shutdown.wait_for(|stop| *stop).await;
}
