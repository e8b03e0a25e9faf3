//! Values that stand on nothing else of carnet: time, randomness, names, secrets, addresses.

pub mod actor;
pub mod authority;
pub mod clock;
pub mod duration;
pub(crate) mod excerpt;
pub mod issuer_url;
pub(crate) mod network;
pub(crate) mod pasted;
pub mod random;
pub(crate) mod regular_file;
pub mod secret;
pub mod shares;
pub(crate) mod shell;
pub mod slug;
pub mod target_url;
pub mod tls_failure;
#[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "only the command line has a terminal"))]
pub(crate) mod visible;
pub mod x509;
