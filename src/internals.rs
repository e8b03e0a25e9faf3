//! Internal parts for carnet's own tests and benches. They may change at any time.
//!
//! The types of [`store`] allow what each step of opening a database permits:
//!
//! ```
//! # use carnet::internals::store::{Store, StoreError, Trusted, Unlocked};
//! async fn reads(store: &Store) -> Result<(), StoreError> {
//!     store.feeds(None).await.map(drop)
//! }
//! async fn authenticates(store: &Unlocked) -> Result<(), StoreError> {
//!     store.signing_keys().await.map(drop)
//! }
//! async fn verifies(store: &Unlocked) -> Result<(), StoreError> {
//!     store.verify_audit(&[]).await.map(drop)
//! }
//! async fn changes(store: &Trusted) -> Result<(), StoreError> {
//!     store.write().await?.commit().await
//! }
//! ```
//!
//! The signing keys in a locked database cannot be read:
//!
//! ```compile_fail,E0599
//! # use carnet::internals::store::{Store, StoreError};
//! async fn authenticates(store: &Store) -> Result<(), StoreError> {
//!     store.signing_keys().await.map(drop)
//! }
//! ```
//!
//! Its audit log cannot be verified:
//!
//! ```compile_fail,E0599
//! # use carnet::internals::store::{Store, StoreError};
//! async fn verifies(store: &Store) -> Result<(), StoreError> {
//!     store.verify_audit(&[]).await.map(drop)
//! }
//! ```
//!
//! Nor can it be changed:
//!
//! ```compile_fail,E0599
//! # use carnet::internals::store::{Store, StoreError};
//! async fn changes(store: &Store) -> Result<(), StoreError> {
//!     store.write().await?.commit().await
//! }
//! ```
//!
//! An unlocked database whose state was not checked cannot be changed:
//!
//! ```compile_fail,E0599
//! # use carnet::internals::store::{Unlocked, StoreError};
//! async fn changes(store: &Unlocked) -> Result<(), StoreError> {
//!     store.write().await?.commit().await
//! }
//! ```

#![allow(missing_docs, reason = "each part is documented where it stands")]

use std::sync::Arc;

use crate::audit_log::AuditLog;
use crate::carnet::tasks::audit_log::AuditMaintenance;
use crate::carnet::tasks::maintenance::Maintenance;
use crate::feed::Feed;
use crate::feeds::uploads::Uploads;
use crate::issuer::audited::AuditedIssuer;
use crate::issuer::rotator::Rotator;
use crate::issuer::{Issuer, MintError};
use crate::metrics::Metrics;
use crate::oidc::subject::Context;
use crate::oidc::token::SignedToken;
use crate::store::{Store, Trusted, Unlocked};
use crate::values::clock::Clock;
use crate::{Carnet, Config, OpenError};

macro_rules! door {
    ($room:ident) => {
        pub mod $room {
            pub use crate::$room::*;
        }
    };
}

door!(values);
door!(jose);
door!(oidc);
door!(audit);
door!(diagnosis);
door!(feed);
door!(grant);
door!(metrics);
#[cfg(feature = "server")]
door!(setup);
door!(signing_keys);
door!(states);
door!(store);
door!(access);
door!(audit_log);
door!(broker);
door!(carnet);
door!(clock_watch);
door!(exchange);
door!(feeds);
door!(issuer);
door!(publish);
#[cfg(feature = "server")]
door!(api_types);
#[cfg(feature = "server")]
door!(check);
#[cfg(feature = "cli")]
door!(cli);
#[cfg(feature = "server")]
door!(client);
#[cfg(feature = "cli")]
door!(doctor);
#[cfg(feature = "server")]
door!(http);
#[cfg(feature = "sandbox")]
door!(sandbox);

/// The parts of an open issuer.
pub trait Parts {
    fn store(&self) -> &Trusted;
    fn issuer(&self) -> &Arc<Issuer>;
    fn rotator(&self) -> &Arc<Rotator>;
    fn metrics(&self) -> &Arc<Metrics>;
    fn clock(&self) -> &Arc<dyn Clock>;
    fn actor(&self) -> &crate::Actor;
    fn audit_log(&self) -> &AuditLog;
    fn audited_issuer(&self) -> AuditedIssuer;
    fn uploads(&self) -> Uploads;
    fn maintenance(&self) -> Maintenance;
    fn audit_maintenance(&self) -> AuditMaintenance;
}

impl Parts for Carnet {
    fn store(&self) -> &Trusted {
        self.store()
    }

    fn issuer(&self) -> &Arc<Issuer> {
        self.issuer()
    }

    fn rotator(&self) -> &Arc<Rotator> {
        self.rotator()
    }

    fn metrics(&self) -> &Arc<Metrics> {
        self.metrics()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.clock()
    }

    fn actor(&self) -> &crate::Actor {
        self.actor()
    }

    fn audit_log(&self) -> &AuditLog {
        self.audit_log()
    }

    fn audited_issuer(&self) -> AuditedIssuer {
        self.audited_issuer()
    }

    fn uploads(&self) -> Uploads {
        self.uploads()
    }

    fn maintenance(&self) -> Maintenance {
        self.maintenance()
    }

    fn audit_maintenance(&self) -> AuditMaintenance {
        self.audit_maintenance()
    }
}

/// Minting without a record.
pub trait Mint {
    fn mint(&self, feed: &Feed, context: &Context) -> Result<SignedToken, MintError>;
}

impl Mint for Issuer {
    fn mint(&self, feed: &Feed, context: &Context) -> Result<SignedToken, MintError> {
        self.mint(feed, context)
    }
}

/// Opens a database as its configuration says: the first step. See [`store`].
///
/// # Errors
///
/// [`OpenError`] if there is none.
pub async fn open_store(config: &Config) -> Result<Store, OpenError> {
    config.open_store().await
}

/// Opens the symmetric keys of a database: the second step.
///
/// # Errors
///
/// [`OpenError`] if the master key does not fit.
pub async fn unlock(config: &Config) -> Result<Unlocked, OpenError> {
    config.unlock(&config.open_store().await?).await
}

/// Opens a database for changes: the third step.
///
/// # Errors
///
/// As [`Carnet::open`], except for issuer and keys.
pub async fn open_trusted(config: &Config) -> Result<Trusted, OpenError> {
    config.open_trusted().await
}
