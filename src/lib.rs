//! carnet: an embedded OpenID Connect issuer that turns its own identity into short-lived
//! container registry credentials.
//!
//! carnet signs a token about *one feed in one space*; the cloud behind the feed's registry fetches
//! carnet's public keys, checks the token, and answers with a credential that soon expires. No
//! static cloud secret is stored anywhere.
//!
//! The modules form floors. A module uses those of its own floor and of lower ones, never of higher
//! ones; `tests/architecture` holds the list and checks it.
//!
//! Start at [`carnet::Carnet::open`].

// Floor 0: values.
pub mod values;
// Floor 1: the standards' own vocabulary, pure.
pub mod jose;
pub mod oidc;
// Floor 2: decisions, pure: `now` is an argument and nothing is async.
pub mod audit;
pub mod diagnosis;
pub mod feed;
pub mod grant;
pub mod metrics;
#[cfg(feature = "server")]
pub mod setup;
pub mod signing_keys;
pub mod states;
// Floor 3: storage.
pub mod store;
// Floor 4: services.
pub mod access;
pub mod audit_log;
pub mod broker;
pub mod carnet;
pub mod clock_watch;
pub mod exchange;
pub mod feeds;
pub mod issuer;
mod nudging;
pub mod publish;
// Floor 5: edges.
#[cfg(feature = "server")]
pub mod api_types;
#[cfg(feature = "server")]
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "server")]
pub mod client;
#[cfg(feature = "cli")]
pub mod doctor;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "sandbox")]
pub mod sandbox;

pub use crate::carnet::Carnet;
