//! `carnet serve`: the server.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::proxy::ProxyOption;
use super::publish::{not_opened, not_published};
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

/// The longest time for closing the database.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// The longest wait for tasks that cannot be cancelled.
pub(super) const BLOCKING_TASKS_WITHIN: Duration = Duration::from_millis(100);

/// The longest time from SIGTERM to the end of the process, besides a `--shutdown-delay` that the operator asks for: each
/// step on the way has a limit of its own.
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
    /// Keep a copy of the public documents there: a folder, s3://BUCKET, gs://BUCKET or az://CONTAINER; no key signs
    /// before it has been shown there for long enough. Repeatable
    #[arg(long, env = "CARNET_PUBLISH", value_name = "TARGET")]
    publish: Vec<TargetUrl>,
    #[command(flatten)]
    limits: LimitArguments,
    #[command(flatten)]
    proxy: ProxyOption,
    /// Certificates in PEM to trust beside the operating system's, for private endpoints
    #[arg(long, env = "CARNET_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Let endpoints be on this machine, as they may be anyway if the issuer is on it
    #[arg(long)]
    allow_loopback_endpoints: bool,
    /// Remove audit records that are older, at least 1d; the log stays provable [default: keep them for ever]
    #[arg(long, env = "CARNET_AUDIT_RETENTION", value_name = "DURATION", value_parser = retention)]
    audit_retention: Option<Duration>,
}

/// How much callers of the API may ask for.
#[derive(Debug, Args)]
struct LimitArguments {
    /// Requests a second of each grant
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_grant.per_second)]
    grant_rate: NonZeroU32,
    /// Requests at once of each grant, after a time of rest
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_grant.burst)]
    grant_burst: NonZeroU32,
    /// Requests a second of each client address, whatever grants it uses
    #[arg(long, value_name = "N", default_value_t = ApiLimits::default().per_address.per_second)]
    address_rate: NonZeroU32,
    /// Requests at once of each client address, after a time of rest
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

pub(super) async fn run(opening: opening::OpeningOptions, arguments: ServeArguments) -> Result<(), Failure> {
    let listening = arguments.listening.bind().await?;
    // Before anything is announced: a signal from here on stops the server in order.
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
    // A large database may take long to bring up to date: who asks this process to stop does not wait for that.
    let opening = async {
        let carnet = Arc::new(Carnet::open(config).await?);
        // Before anything is announced: a new issuer's keys are published before anything signs with them.
        let publishers = publishers(&carnet, arguments.publish, &target_options).await?;
        Ok::<_, Failure>((carnet, publishers))
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
    // Longer than the requests under way, which may need a key.
    let keeping = carnet.run_publishing(publishers, stopped(has_ended.clone()));
    let too_long = async {
        stopped(has_ended).await;
        carnet.clock().sleep_until(carnet.clock().monotonic() + FINISHED_WITHIN).await;
    };
    tokio::select! {
        _ = async { tokio::join!(serving, keeping) } => {}
        () = too_long => tracing::warn!("the database did not take what was left to be written"),
    }
    // What is not closed in time is closed by the end of the process; the next one finds the database whole.
    let _ = tokio::time::timeout(CLOSED_WITHIN, carnet.store().close()).await;
    tracing::info!("stopped");
    Ok(())
}

/// What keeps the copies current that are asked for. Tells of those that keys wait for and nobody asked for.
async fn publishers(
    carnet: &Carnet,
    urls: Vec<TargetUrl>,
    options: &TargetOptions,
) -> Result<Vec<Publisher>, Failure> {
    let mut publishers = Vec::new();
    for url in &urls {
        let target = publish::open(url, options).map_err(|error| not_opened(url, error))?;
        let publisher = carnet.publisher(target).await.map_err(|error| match error {
            BeginError::Publish { source, .. } => not_published(url, source),
            BeginError::Store(error) => error.into(),
        });
        publishers.push(publisher?);
    }
    for known in carnet.publications().targets().await? {
        if !urls.contains(&known.target) {
            tracing::warn!(
                target = %known.target,
                "keys wait to be shown there, and this server does not publish there: see that another one does, or \
                 run `carnet publish {} --forget`",
                known.target,
            );
        }
    }
    Ok(publishers)
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
