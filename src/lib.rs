//! carnet: an embedded OpenID Connect issuer that turns its own identity into short-lived
//! container registry credentials.

pub mod authority;
pub mod clock;
mod excerpt;
pub mod feed;
pub mod issuer_url;
pub mod oidc;
pub mod random;
pub mod secret;
pub mod slug;
