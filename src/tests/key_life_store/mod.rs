//! The life of a key with the real code: rotator, maintenance task, issuer and store of several processes on
//! one SQLite file, with a simulated clock and prepared keys.

mod answers;
mod clock;
mod copy;
mod failures;
mod forged;
mod histories;
mod nudges;
mod published;
pub(crate) mod world;
