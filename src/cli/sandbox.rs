//! `carnet sandbox`: stand-ins for the clouds' token endpoints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::net::TcpListener;

use super::failure::CommandFailure;
use super::files::{read_certificates, read_file};
use super::serve::{shutdown_signal, stopped};
use super::{opening, output};
use crate::sandbox::{Sandbox, SandboxConfig, SandboxEndpoints};
use crate::values::clock::SystemClock;
use crate::values::random::SecureRandom;

#[derive(Debug, Args)]
pub(super) struct SandboxArguments {
    /// The loopback address to listen on; port 0 selects a free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A TOML file of roles with their trust, passwords and faults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A PEM file of certificates to trust, in addition to the operating system's, when fetching from the
    /// issuer
    #[arg(long, env = "CARNET_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(super) async fn run(
    opening: opening::OpeningOptions,
    arguments: SandboxArguments,
) -> Result<(), CommandFailure> {
    let Some(issuer) = opening.issuer else {
        return Err(CommandFailure::usage("--issuer is missing: the URL of the issuer to trust"));
    };
    let config = match &arguments.config {
        None => SandboxConfig::default(),
        Some(path) => {
            let refused =
                |reason: String| CommandFailure::usage(format!("--config {}: {reason}", path.display()));
            let text = String::from_utf8(read_file("--config")(path)?)
                .map_err(|_| refused("it is not UTF-8 text".to_owned()))?;
            text.parse().map_err(|error| {
                refused(format!("{:#}", anyhow::Error::new::<crate::sandbox::SandboxConfigError>(error)))
            })?
        }
    };
    let ca_pem = arguments.ca_file.as_deref().map(read_certificates("--ca-file")).transpose()?;
    let random = Arc::new(SecureRandom::default());
    let sandbox = Sandbox::new(issuer, config, ca_pem, Arc::new(SystemClock::new()), random)
        .map_err(anyhow::Error::new)?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .map_err(|error| anyhow::Error::new(error).context(format!("--listen {}", arguments.listen)))?;
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        return Err(CommandFailure::usage(format!(
            "--listen {address}: the sandbox listens on loopback only"
        )));
    }
    let shutdown = shutdown_signal()?;
    output::json_lines(&[SandboxEndpoints::at(address)])?;
    sandbox.serve(listener, stopped(shutdown)).await.map_err(anyhow::Error::new)?;
    Ok(())
}
