//! Black-box tests: the real binary and the public interface, each area in a module of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails should fail the test where it stands"
)]

mod api;
mod at_rest;
mod audit_cli;
mod audit_crash;
mod azure_feeds;
mod check_support;
mod client;
mod demo;
mod doctor;
mod documents;
mod feed_check;
mod feed_credentials;
mod feed_credentials_server;
mod feed_setup;
mod first_start;
mod floods;
mod google_feeds;
mod grant_cli;
mod key_cli;
mod key_crash;
mod key_destruction;
mod listeners;
mod metrics;
mod no_secrets;
mod pasted_secrets;
mod proxies;
mod publish;
mod put_back;
mod refusals;
mod rotation;
mod setup_support;
mod several_processes;
mod slow_clients;
mod support;
mod terminal;
mod traces;
mod uploaded_jwks;
