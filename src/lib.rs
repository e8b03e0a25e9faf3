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
pub mod actor;
pub mod authority;
pub mod clock;
pub mod duration;
mod excerpt;
pub mod issuer_url;
mod network;
pub mod random;
mod regular_file;
pub mod secret;
pub mod shares;
pub mod slug;
pub mod target_url;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the command line has a terminal"))]
mod visible;
pub mod x509;
// Floor 1: the standards' own vocabulary, pure.
pub mod jose;
pub mod oidc;
// Floor 2: decisions, pure: `now` is an argument and nothing is async.
pub mod audit;
pub mod feed;
pub mod grant;
pub mod knowledge;
pub mod metrics;
pub mod signing_keys;
pub mod states;
// Floor 3: storage.
pub mod store;
// Floor 4: services.
#[cfg(feature = "server")]
pub mod api;
pub mod audit_log;
pub mod audited_issuer;
pub mod broker;
pub mod carnet;
pub mod clock_watch;
pub mod database_clock;
#[cfg(feature = "cli")]
pub mod doctor;
pub mod evidence;
pub mod exchange;
pub mod feeds;
pub mod grants;
pub mod issuer;
pub mod keeper;
mod nudging;
pub mod principal;
pub mod publication;
pub mod rotator;
#[cfg(feature = "server")]
pub mod trust;
pub mod uploads;
// Floor 5: edges.
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "server")]
pub mod client;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "sandbox")]
pub mod sandbox;

pub use crate::carnet::Carnet;
