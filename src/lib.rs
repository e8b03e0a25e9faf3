//! carnet: an embedded OpenID Connect issuer that turns its own identity into short-lived
//! container registry credentials.

// Floor 0: values.
pub mod clock;
pub mod random;
pub mod secret;
// Floor 1: the standards' own vocabulary, pure.
pub mod jose;
pub mod oidc;
// Floor 2: decisions, pure.
pub mod signing_keys;
