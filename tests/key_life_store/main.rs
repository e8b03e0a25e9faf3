//! The life of a key on the real thing: rotator, keeper, issuer and store of several processes on one
//! SQLite file, with a simulated clock and keys made beforehand.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails should fail the test where it stands")]

mod answers;
mod clock;
mod copy;
mod failures;
mod forged;
mod histories;
mod nudges;
mod published;
mod world;

#[path = "../key_life/crowd.rs"]
#[allow(dead_code, reason = "the model counts more")]
mod crowd;
#[path = "../key_life/history.rs"]
#[allow(dead_code, reason = "the model does more with a history")]
mod history;
#[path = "../key_life/rules.rs"]
#[allow(dead_code, reason = "the model breaks more rules")]
mod rules;
