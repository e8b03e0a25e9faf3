//! Stand-ins for the clouds' token endpoints, for demos and offline tests.
//!
//! The sandbox decides like the original where a decision rests on the issuer: it fetches the
//! issuer's discovery document and JWKS over HTTP each time, verifies the signature with a library
//! that did not make it, and checks issuer, audience, subject, times and the role's trust. Its ECR
//! verifies the SigV4 signature of every request; its registry takes the tokens of its Entra only. It
//! shows other faults when its configuration says so.
//!
//! It is no proof of how a real cloud behaves: it knows no accounts, no permissions beyond
//! trust, no session policies, no registry, and its error messages are imitations. It
//! listens on loopback addresses only and keeps everything it issues in memory.

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

/// The stand-ins, trusting one issuer.
#[derive(Debug, Clone)]
pub struct Sandbox {
    aws: Arc<aws::Aws>,
    azure: Arc<azure::Azure>,
    google: Arc<google::Google>,
    faults: Arc<faults::Faults>,
}

/// Why a sandbox stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The listener is open to the network.
    #[error("the sandbox listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The listener failed.
    #[error("the sandbox could not serve")]
    Serve(#[from] io::Error),
}

impl Sandbox {
    /// Stand-ins that trust `issuer`, as `config` narrows it down.
    ///
    /// `ca_pem` is trusted beside the operating system's certificates when the issuer is fetched.
    ///
    /// # Errors
    ///
    /// [`TransportConfigError`] when the HTTP client cannot be made, for example of bad `ca_pem`.
    pub fn new(
        issuer: IssuerUrl,
        config: SandboxConfig,
        ca_pem: Option<Vec<u8>>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, TransportConfigError> {
        // The sandbox itself is on loopback, and so is most often what it stands in for.
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

    /// The routes below `/aws`, `/azure` and `/google`; not to be nested, as paths are signed.
    pub fn router(&self) -> Router {
        aws::router(Arc::clone(&self.aws))
            .merge(azure::router(Arc::clone(&self.azure)))
            .merge(google::router(Arc::clone(&self.google)))
            .layer(DefaultBodyLimit::max(form::MAX_REQUEST))
            .layer(from_fn_with_state(Arc::clone(&self.faults), faults::show))
    }

    /// Serves on `listener` until `shutdown`, then finishes the requests that are under way.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the listener is not on a loopback address, or fails.
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

/// Where the stand-ins are, in the shape that `carnet sandbox` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SandboxEndpoints {
    /// By provider.
    pub endpoints: ProviderEndpoints,
}

/// The endpoints of each provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderEndpoints {
    /// Those of AWS.
    pub aws: AwsEndpoints,
    /// Those of Azure.
    pub azure: AzureEndpoints,
    /// Those of Google.
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
    /// Of a sandbox that serves on this address.
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
