//! carnet is an embedded OpenID Connect issuer. It turns its own identity into short-lived container registry
//! credentials.
//!
//! carnet signs a token about *one feed in one space*. The cloud behind the feed's registry fetches carnet's
//! public keys, verifies the token, and returns a credential that expires soon. No static cloud secret is stored
//! anywhere.
//!
//! # In an application
//!
//! [`Carnet::open`] opens the database and the keys. [`Carnet::run`] rotates the keys; without it, minting stops after
//! five seconds. [`Carnet::public_router`] and [`Carnet::api_router`] are axum routers with the public documents and
//! the API. [`Carnet::feeds`] and [`Carnet::grants`] change what the database holds, [`Carnet::broker`] returns
//! registry credentials, and [`Carnet::mint`] returns a token. The example `embed` shows them together.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use carnet::{Carnet, Config, IfMissing, MasterKeySource};
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let carnet = Arc::new(
//!     Carnet::open(Config {
//!         if_missing: IfMissing::Create,
//!         issuer: Some("https://carnet.example.com".parse()?),
//!         ..Config::new("carnet.db".parse()?, MasterKeySource::Folder("keys".into()))
//!     })
//!     .await?,
//! );
//! # Ok(())
//! # }
//! ```
//!
//! # From another program
//!
//! `ApiClient` asks a carnet server over HTTP.

// Without the command line, some of the library has no user.
#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unused_imports, reason = "checked with the default features, which use all of it")
)]

// Floor 0: values.
mod values;
// Floor 1: the standards' own vocabulary, pure.
mod jose;
mod oidc;
// Floor 2: decisions, pure: `now` is an argument and nothing is async.
mod audit;
mod diagnosis;
mod feed;
mod grant;
mod metrics;
#[cfg(feature = "server")]
mod setup;
mod signing_keys;
mod states;
// Floor 3: storage.
mod store;
// Floor 4: services.
mod access;
mod audit_log;
mod broker;
mod carnet;
mod clock_watch;
mod exchange;
mod feeds;
mod issuer;
mod nudging;
mod publish;
// Floor 5: edges.
#[cfg(feature = "server")]
mod api_types;
#[cfg(feature = "server")]
mod check;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "server")]
mod client;
#[cfg(feature = "cli")]
mod doctor;
#[cfg(feature = "server")]
mod http;
#[cfg(feature = "sandbox")]
mod sandbox;

#[cfg(feature = "test-internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(test)]
#[cfg(feature = "cli")]
mod tests;

pub use crate::access::grants::{Grants, GrantsError};
#[cfg(feature = "server")]
pub use crate::api_types::credentials::CredentialRequest;
pub use crate::broker::{Broker, BrokerError, Served};
pub use crate::carnet::{Carnet, Config, MasterKeySource, OpenError};
#[cfg(feature = "server")]
pub use crate::client::{ApiClient, ClientError, ServerUrl};
pub use crate::exchange::Credential;
pub use crate::exchange::transport::{TransportConfig, TransportConfigError};
pub use crate::feed::aws::AssumedRole;
pub use crate::feed::azure::AzureAcr;
pub use crate::feed::google::GoogleArtifactRegistry;
pub use crate::feed::registry_host::RegistryHost;
pub use crate::feed::scope::Scope;
pub use crate::feed::{Feed, FeedDraft, FeedPath, Provider};
pub use crate::feeds::{Feeds, FeedsError, Sharing};
pub use crate::grant::GrantDraft;
#[cfg(feature = "server")]
pub use crate::http::client_address::ClientAddress;
pub use crate::issuer::audited::AuditedMintError as MintError;
pub use crate::jose::Algorithm;
pub use crate::oidc::subject::Context;
pub use crate::oidc::token::{Presented, SignedToken};
pub use crate::store::IfMissing;
pub use crate::store::database_url::DatabaseUrl;
pub use crate::values::actor::Actor;
pub use crate::values::issuer_url::IssuerUrl;
pub use crate::values::secret::SecretString;

/// Runs the `carnet` command, for the binary alone.
#[cfg(feature = "cli")]
#[doc(hidden)]
#[must_use]
pub fn run_command() -> std::process::ExitCode {
    cli::main()
}
