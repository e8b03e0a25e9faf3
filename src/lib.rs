//! carnet: an embedded OpenID Connect issuer that turns its own identity into short-lived
//! container registry credentials.

pub mod clock;
pub mod random;
pub mod secret;
