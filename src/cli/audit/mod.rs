//! `carnet audit`: the audit log.

mod list;
mod verify;

use clap::Subcommand;

use super::failure::CommandFailure;
use super::{opening, output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List audit records, newest first
    List(list::List),
    /// Verify the log: exit with 1 and name the altered rows if there are any
    Verify(verify::Verify),
    /// Print the end of the log as SEQ:MAC, to keep elsewhere
    ///
    /// With it, `audit verify --anchor` later detects a log whose end was cut off, or that was written anew.
    Anchor,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::List(arguments) => list::run(&opening.locked().await?, arguments).await,
        Command::Verify(arguments) => verify::run(&opening.unlocked().await?, arguments).await,
        Command::Anchor => {
            let end = opening.locked().await?.audit_end().await?;
            output::line(&end.to_string())
        }
    }
}
