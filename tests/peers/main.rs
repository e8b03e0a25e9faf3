//! carnet against real programs that nobody here wrote. `scripts/test` installs them; a test whose peer is
//! missing fails and says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "set-up that fails should fail the test where it stands"
)]

#[path = "../support/mod.rs"]
mod support;

mod azure_clients;
mod documents;
mod google_client;
mod image_pull;
mod sts_trust;
mod token_verifiers;
