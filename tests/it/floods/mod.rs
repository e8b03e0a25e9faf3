//! Floods: callers send as many requests as they can, beside a deployer with ordinary requests and an admin
//! who revokes a key. The tests use the real binary and the sandbox's clouds.
//!
//! None of the deployer's requests may fail, and a revoked key is gone from the JWKS within a second of the
//! revocation's response. Each flood lasts 20 seconds; `CARNET_TEST_LONG=1` makes it a minute.

mod beside;
mod callers;
mod readers;
