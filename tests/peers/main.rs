//! carnet against third-party programs. `scripts/test` installs them; a test whose program is missing fails
//! and says so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "set-up that fails should fail the test where it stands; what was measured is shown"
)]

#[path = "../it/support/mod.rs"]
mod support;

#[path = "../it/check_support/mod.rs"]
mod check_support;

#[path = "../it/setup_support/mod.rs"]
mod setup_support;

mod api_schema;
mod azure_clients;
mod check_registry;
mod check_sts;
mod documents;
mod ecr_public;
mod google_client;
mod image_pull;
mod key_rotation_live;
mod nudge;
mod prometheus;
mod publish;
mod setup_aws;
mod setup_formats;
mod sts_trust;
mod token_verifiers;
