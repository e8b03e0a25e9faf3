//! `carnet key`: signing keys.

mod clock;
mod list;
mod nudge;
mod policy;
mod revoke;
mod rewrap;
mod rotate;

use clap::Subcommand;

pub(super) use self::revoke::account;
use super::failure::CommandFailure;
use super::opening;
use super::opening::actor;
use crate::carnet::Carnet;
use crate::signing_keys::publication::KeyLocation;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every key with its state and next event, and the clients that have fetched the keys
    List(list::List),
    /// Promote the prepared key now
    Rotate(rotate::Rotate),
    /// Revoke a key, or all of them, at once: for a key that has leaked
    Revoke(revoke::Revoke),
    /// Show or change the rotation policy: intervals, lifetimes and key size
    ///
    /// Without an option, the command shows the policy. Durations are seconds (600) or have a unit (10m, 1h,
    /// 30d).
    Policy(policy::Policy),
    /// Replace the master key and every symmetric key; after a leak, use --leaked
    ///
    /// Without --leaked, the command is for routine changes: every valid row stays valid, including rows that
    /// a thief of the database and the master key has written. With --leaked, it also revokes and replaces
    /// everything else. Either form can be repeated after a crash and continues from there.
    Rewrap(rewrap::Rewrap),
    /// Show the clock and the latest time known to the database; accept a clock, or set the time back after a
    /// wrong one
    ///
    /// Without an option, the command compares this machine's clock with the database.
    Clock(clock::Clock),
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    // Opening an issuer may fail if the clock is in doubt, so this command opens only the store.
    let command = match command {
        Command::Clock(arguments) => return clock::run(opening, arguments).await,
        command => command,
    };
    if let Command::Rewrap(arguments) = command {
        if arguments.is_recovery() {
            return Box::pin(rewrap::recover(opening.config(), arguments)).await;
        }
        return rewrap::run(&opening.open().await?, arguments).await;
    }
    let carnet = opening.open().await?;
    match command {
        Command::Clock(_) => Ok(()),
        Command::List(arguments) => list::run(&carnet, &arguments).await,
        Command::Rotate(arguments) => rotate::run(&carnet, arguments).await,
        Command::Revoke(arguments) => revoke::run(&carnet, arguments).await,
        Command::Policy(arguments) => policy::run(&carnet, arguments).await,
        Command::Rewrap(arguments) => rewrap::run(&carnet, arguments).await,
    }
}

/// Joins the names of the places.
fn names(locations: &[&KeyLocation]) -> String {
    locations.iter().map(|location| location.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Prints a note if a reader delays an erasure.
async fn report_erasure(carnet: &Carnet) -> Result<(), CommandFailure> {
    if carnet.store().key_pulse().await?.erasure_pending {
        super::output::note(
            "erasure: pending. A reader holds the database's log: the private key is deleted, but its sealed \
             bytes remain in the log until the reader ends; a running server then finishes the erasure.",
        );
    }
    Ok(())
}
