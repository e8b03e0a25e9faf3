//! The flags for addresses, TLS and proxies, and the listeners made from them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::stopped;
use crate::cli::failure::CommandFailure;
use crate::http::client_address::TrustedProxies;
use crate::http::limits::Limits;
use crate::http::listen_address::{ListenAddress, SocketMode};
use crate::http::listener::Listener;
use crate::http::server::{Served, Settings, serve};
use crate::http::server_status::ServerStatus;
use crate::http::tls::Certificate;
use crate::metrics::{Listener as Shown, Metrics};
use crate::values::clock::Clock;
use crate::values::duration;
use crate::values::issuer_url::IssuerUrl;

/// The files that a server needs in addition to its connections: the database, connections to the clouds, and
/// its own.
const OTHER_FILES: usize = 256;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListenArguments {
    /// The address of the API and the public documents; port 0 selects a free port
    #[arg(
        long,
        env = "CARNET_LISTEN",
        value_name = "ADDRESS:PORT|unix:PATH",
        default_value = "127.0.0.1:8080"
    )]
    listen: ListenAddress,
    /// The permissions of the socket file of --listen unix:PATH
    #[arg(long, env = "CARNET_LISTEN_MODE", value_name = "OCTAL", default_value_t)]
    listen_mode: SocketMode,
    /// The address of a listener that serves only the public documents, for the internet
    #[arg(long, env = "CARNET_PUBLIC_LISTEN", value_name = "ADDRESS:PORT")]
    public_listen: Option<ListenAddress>,
    /// Listen beyond loopback without TLS, for example behind a proxy that adds it
    #[arg(long)]
    insecure_listen: bool,
    /// The certificate chain in PEM; reloaded when it changes, and on SIGHUP
    #[arg(long, env = "CARNET_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, env = "CARNET_TLS_KEY", value_name = "FILE", requires = "tls_cert", hide_env_values = true)]
    tls_key: Option<PathBuf>,
    /// The proxies whose X-Forwarded-For is trusted: addresses, networks, `unix`
    #[arg(
        long,
        env = "CARNET_TRUSTED_PROXIES",
        value_name = "CIDR,…",
        default_value = "",
        hide_default_value = true
    )]
    trusted_proxies: TrustedProxies,
    /// The maximum number of connections on each listener; one address gets a quarter of them
    #[arg(
        long,
        env = "CARNET_MAX_CONNECTIONS",
        value_name = "N",
        default_value_t = Limits::default().connections,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000)
    )]
    max_connections: usize,
    /// The time to accept connections after a stop request, while /readyz reports the shutdown
    #[arg(long, env = "CARNET_SHUTDOWN_DELAY", value_name = "DURATION", default_value = "0", value_parser = duration::parse)]
    shutdown_delay: Duration,
}

/// The bound listeners and their settings.
#[derive(Debug)]
pub(super) struct Listening {
    everything: Listener,
    public: Option<Listener>,
    certificate: Option<Arc<Certificate>>,
    /// The listeners that serve the certificate.
    shown_by: Vec<Shown>,
    status: Arc<ServerStatus>,
    settings: Settings,
    shutdown_delay: Duration,
    /// SIGHUP triggers a check for a new certificate.
    hangup: Signal,
}

impl ListenArguments {
    /// Binds every socket.
    pub(super) async fn bind(self) -> Result<Listening, CommandFailure> {
        let addresses = [("--listen", Some(&self.listen)), ("--public-listen", self.public_listen.as_ref())];
        let addresses = addresses.into_iter().filter_map(|(flag, address)| Some((flag, address?)));
        if let Some(ListenAddress::Unix(_)) = self.public_listen {
            return Err(CommandFailure::usage("--public-listen needs a TCP address, not a Unix socket")
                .hint("give an IP address and a port, such as 0.0.0.0:443"));
        }
        let files = self.tls_cert.as_ref().zip(self.tls_key.as_ref());
        for (flag, address) in addresses.clone().filter(|_| files.is_none() && !self.insecure_listen) {
            if address.is_beyond_loopback() {
                return Err(CommandFailure::usage(format!(
                    "{flag} {address}: the address is not loopback and has no TLS"
                ))
                .hint("give --tls-cert and --tls-key, or --insecure-listen if a proxy in front adds TLS"));
            }
        }
        if files.is_some() && addresses.clone().all(|(_, address)| matches!(address, ListenAddress::Unix(_)))
        {
            return Err(CommandFailure::usage("--tls-cert and --tls-key: a Unix socket has no TLS")
                .hint("leave them out, or give --public-listen"));
        }
        let certificate = files.map(|(certificate, key)| Certificate::load(certificate, key)).transpose();
        let certificate = certificate
            .map_err(|error| anyhow::Error::new(error).context("--tls-cert and --tls-key"))?
            .map(Arc::new);
        let shown_by = [(Shown::Main, Some(&self.listen)), (Shown::Public, self.public_listen.as_ref())]
            .into_iter()
            .filter(|(_, address)| matches!(address, Some(ListenAddress::Tcp(_))) && certificate.is_some())
            .map(|(shown, _)| shown)
            .collect();
        let mut bound = Vec::new();
        for (flag, address) in addresses {
            let listener = Listener::bind(address, certificate.clone(), self.listen_mode).await;
            let context = format!("{flag} {address}");
            bound.push(listener.map_err(|error| anyhow::Error::new(error).context(context))?);
        }
        let connections = affordable(self.max_connections, bound.len());
        let mut bound = bound.into_iter();
        let (Some(everything), public) = (bound.next(), bound.next()) else {
            return Err(CommandFailure::message("nothing to listen on"));
        };
        Ok(Listening {
            everything,
            public,
            status: Arc::new(ServerStatus::new(certificate.clone())),
            certificate,
            shown_by,
            settings: Settings {
                limits: Limits::with_connections(connections),
                trusted_proxies: self.trusted_proxies,
            },
            shutdown_delay: self.shutdown_delay,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl Listening {
    /// Returns the status that `/readyz` reports.
    pub(super) fn status(&self) -> &Arc<ServerStatus> {
        &self.status
    }

    /// Returns the line that `serve` prints once it listens.
    pub(super) fn announcement(&self, issuer: &IssuerUrl) -> Result<Value, CommandFailure> {
        let mut announcement = json!({ "listening": self.everything.url()?, "issuer": issuer });
        if let Some(public) = &self.public {
            announcement["public_listening"] = public.url()?.into();
        }
        Ok(announcement)
    }

    /// Serves both listeners until `shutdown`, and then until the requests in progress have ended.
    pub(super) async fn serve(
        self,
        everything: Served,
        public: Served,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        shutdown: watch::Receiver<bool>,
    ) {
        let (close, closed) = watch::channel(false);
        let closing = async {
            stopped(shutdown).await;
            self.status.drain();
            clock.sleep_until(clock.monotonic() + self.shutdown_delay).await;
            close.send_replace(true);
        };
        let run = |listener, served| {
            serve(listener, served, self.settings.clone(), Arc::clone(clock), stopped(closed.clone()))
        };
        let public = async {
            if let Some(listener) = self.public {
                run(listener, public).await;
            }
        };
        let mut hangup = self.hangup;
        let reloading = async {
            match self.certificate {
                Some(certificate) => {
                    let report = report(metrics, self.shown_by);
                    certificate.keep_current(&**clock, async || hangup.recv().await, report).await;
                }
                None => std::future::pending().await,
            }
        };
        let serving = async { tokio::join!(closing, run(self.everything, everything), public) };
        tokio::select! {
            _ = serving => {}
            () = reloading => {}
        }
    }
}

/// Returns a callback that reports the served certificate to `metrics`, and counts each failed reload once.
fn report(metrics: &Metrics, shown_by: Vec<Shown>) -> impl FnMut(&Certificate) {
    let mut reported = None;
    move |certificate| {
        let failure = certificate.reload_error();
        let is_new = failure.is_some() && failure != reported;
        reported = failure;
        for listener in &shown_by {
            if let Some(expires_at) = certificate.expires_at() {
                metrics.server.certificate_served(*listener, expires_at);
            }
            if is_new {
                metrics.server.reload_failed(*listener);
            }
        }
    }
}

/// Returns the number of connections for each listener: `wanted`, or fewer if the limit of open files
/// requires it.
fn affordable(wanted: usize, listeners: usize) -> usize {
    let Some(files) = open_files() else { return wanted };
    let possible = (files.saturating_sub(OTHER_FILES) / listeners.max(1)).max(1);
    if possible < wanted {
        let message = "the limit of open files (ulimit -n, LimitNOFILE=) allows fewer connections";
        if wanted == Limits::default().connections {
            tracing::info!(files, connections = possible, message);
        } else {
            tracing::warn!(files, connections = possible, wanted, message);
        }
    }
    wanted.min(possible)
}

/// Returns the maximum number of open files of this process. `None` on systems other than Linux.
fn open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
