//! carnet: an embedded OpenID Connect issuer that turns its own identity into short-lived
//! container registry credentials.

pub mod clock;
mod excerpt;
pub mod random;
pub mod secret;
pub mod slug;
