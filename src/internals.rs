//! Internal parts for carnet's own tests and benches. They may change at any time.

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
use crate::store::Store;
use crate::values::clock::Clock;
use crate::{Carnet, Config, Grants, OpenError};

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
    fn store(&self) -> &Store;
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
    fn store(&self) -> &Store {
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

/// Opens the database alone, for changes.
///
/// # Errors
///
/// As [`Carnet::open`], except for issuer and keys.
pub async fn open_store(config: &Config) -> Result<Store, OpenError> {
    Carnet::open_store(config).await
}

/// Opens an existing database for reading, without the master key.
///
/// # Errors
///
/// [`OpenError`] when there is none.
pub async fn open_store_to_read(config: &Config) -> Result<Store, OpenError> {
    Carnet::open_store_to_read(config).await
}

/// Opens the symmetric keys of a database that was opened for reading.
///
/// # Errors
///
/// [`OpenError`] when the master key does not fit.
pub async fn unlock_store(store: &Store, config: &Config) -> Result<(), OpenError> {
    Carnet::unlock_store(store, config).await
}

/// Opens the database alone, for its grants.
///
/// # Errors
///
/// As [`open_store`].
pub async fn open_grants(config: &Config) -> Result<Grants, OpenError> {
    Carnet::open_grants(config).await
}
