//! Floods: whoever asks as much as they can, beside a deployer that asks for what it needs, and an admin who
//! revokes a key meanwhile. The real binary, and the sandbox's clouds.
//!
//! None of the deployer's requests may fail, and a revoked key is gone from the JWKS within a second of the
//! revocation's answer. Each flood lasts 20 seconds; `CARNET_TEST_LONG=1` makes it a minute.

mod beside;
mod callers;
mod readers;
