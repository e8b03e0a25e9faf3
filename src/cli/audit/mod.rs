//! `carnet audit`: the audit log.

mod list;
mod verify;

use clap::Subcommand;

use super::failure::Failure;
use super::{opening, output};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List what was done and tried, the latest first
    List(list::List),
    /// Find out whether the log is what was written: exits with 1 and names the row if not
    Verify(verify::Verify),
    /// Print where the log ends, as SEQ:MAC, to keep elsewhere
    ///
    /// `audit verify --anchor` finds with it later whether the end of the log was cut off, or the log was
    /// written again.
    Anchor,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list::run(&opening.open_store_to_read().await?, arguments).await,
        Command::Verify(arguments) => verify::run(&opening.open_store_to_examine().await?, arguments).await,
        Command::Anchor => {
            let end = opening.open_store_to_read().await?.audit_end().await?;
            output::line(&end.to_string())
        }
    }
}
