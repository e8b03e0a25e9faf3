//! Stand-ins for the clouds' token endpoints, for demos and offline tests.
//!
//! The sandbox decides as the cloud does wherever a decision depends on the issuer. For each token it fetches
//! the issuer's discovery document and JWKS over HTTP, verifies the signature with a library that did not
//! sign it, and checks issuer, audience, subject, times and the configured trust. Its ECR verifies the SigV4
//! signature of every request. Its registry accepts only tokens from its own Entra. It shows other faults if
//! its configuration lists them.
//!
//! The sandbox does not prove how a real cloud behaves. It has no accounts, no permissions beyond trust, no
//! session policies and no images, and its error messages are imitations. It listens on loopback addresses
//! only and keeps everything that it issues in memory.

mod aws;
mod azure;
mod config;
mod faults;
mod form;
mod google;
mod identity;
mod recent;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use tokio::net::TcpListener;

pub use config::{SandboxConfig, SandboxConfigError};

use crate::exchange::address::Loopback;
use crate::exchange::transport::{ReqwestTransport, TransportConfig, TransportConfigError};
use crate::values::clock::Clock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::Random;

/// The stand-ins, which trust one issuer.
#[derive(Debug, Clone)]
pub struct Sandbox {
    aws: Arc<aws::Aws>,
    azure: Arc<azure::Azure>,
    google: Arc<google::Google>,
    faults: Arc<faults::Faults>,
}

/// The reason why a sandbox stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The listener is not on a loopback address.
    #[error("the sandbox listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The listener failed.
    #[error("the sandbox could not serve")]
    Serve(#[from] io::Error),
}

impl Sandbox {
    /// Creates stand-ins that trust `issuer`, within the limits of `config`.
    ///
    /// Requests to the issuer trust `ca_pem` in addition to the operating system's certificates.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] if the HTTP client cannot be created, for example because `ca_pem` is
    /// invalid.
    pub fn new(
        issuer: IssuerUrl,
        config: SandboxConfig,
        ca_pem: Option<Vec<u8>>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, TransportConfigError> {
        // The issuer is usually on loopback, as the sandbox is.
        let loopback = Loopback::Allow;
        let limits = TransportConfig { extra_ca_pem: ca_pem, loopback, ..TransportConfig::default() };
        let transport = ReqwestTransport::new(limits)?;
        let verifier = identity::Verifier::new(issuer, Arc::new(transport), Arc::clone(&clock));
        let (now, bytes) = (|| Arc::clone(&clock), || Arc::clone(&random));
        Ok(Self {
            azure: Arc::new(azure::Azure::new(verifier.clone(), config.azure, now(), bytes())),
            google: Arc::new(google::Google::new(verifier.clone(), config.google, now(), bytes())),
            faults: Arc::new(faults::Faults::new(config.faults, now(), bytes())),
            aws: Arc::new(aws::Aws::new(verifier, config.aws, clock, random)),
        })
    }

    /// Returns the routes below `/aws`, `/azure` and `/google`. They must not be nested, because clients sign
    /// the paths.
    pub fn router(&self) -> Router {
        aws::router(Arc::clone(&self.aws))
            .merge(azure::router(Arc::clone(&self.azure)))
            .merge(google::router(Arc::clone(&self.google)))
            .layer(DefaultBodyLimit::max(form::MAX_REQUEST))
            .layer(from_fn_with_state(Arc::clone(&self.faults), faults::show))
    }

    /// Serves on `listener` until `shutdown`, then completes the requests in progress.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] if the listener is not on a loopback address, or fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), SandboxError> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            return Err(SandboxError::NotLoopback(address));
        }
        axum::serve(listener, self.router()).with_graceful_shutdown(shutdown).await?;
        Ok(())
    }
}

/// The URLs of the stand-ins, in the format that `carnet sandbox` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxEndpoints {
    /// The endpoints by provider.
    pub endpoints: ProviderEndpoints,
}

/// The endpoints of each provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderEndpoints {
    /// The endpoints of AWS.
    pub aws: AwsEndpoints,
    /// The endpoints of Azure.
    pub azure: AzureEndpoints,
    /// The endpoints of Google.
    pub google: GoogleEndpoints,
}

/// The endpoints that an Azure feed overrides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AzureEndpoints {
    /// Entra.
    pub authority: String,
    /// The registry's token endpoints.
    pub registry: String,
}

/// The endpoints that an AWS feed overrides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AwsEndpoints {
    /// AWS STS.
    pub sts: String,
    /// The API of Amazon ECR.
    pub ecr: String,
}

/// The endpoints that a Google feed overrides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GoogleEndpoints {
    /// The Security Token Service.
    pub sts: String,
    /// The IAM Service Account Credentials API.
    pub iamcredentials: String,
}

impl SandboxEndpoints {
    /// Returns the endpoints of a sandbox at this address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let aws = AwsEndpoints {
            sts: format!("http://{address}/aws/sts"),
            ecr: format!("http://{address}/aws/ecr"),
        };
        let azure = AzureEndpoints {
            authority: format!("http://{address}/azure/entra"),
            registry: format!("http://{address}/azure/acr"),
        };
        let google = GoogleEndpoints {
            sts: format!("http://{address}/google/sts"),
            iamcredentials: format!("http://{address}/google/iamcredentials"),
        };
        Self { endpoints: ProviderEndpoints { aws, azure, google } }
    }
}
