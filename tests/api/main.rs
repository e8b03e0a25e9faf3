//! The HTTP API, from the outside: the real binary, grants made on its host, and the sandbox's clouds.
#![cfg(feature = "sandbox")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "set-up that fails should fail the test where it stands"
)]

#[path = "../support/mod.rs"]
mod support;

mod audit;
mod contexts;
mod credentials;
mod document;
mod ended;
mod envelope;
mod grants;
mod hostile;
mod limited;
mod limits;
mod registries;
mod rights;
mod routes;
mod uploaded;
mod world;
