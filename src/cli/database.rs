//! `carnet database`: the state of the database, and what is remembered of it outside.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::opening::OpeningOptions;
use super::output::{self, Format};
use crate::carnet::Carnet;
use crate::states::StatePoint;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the database's id and last state, to be kept elsewhere
    Show(Show),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    output: output::OutputOptions,
}

pub(super) async fn run(opening: OpeningOptions, command: Command) -> Result<(), Failure> {
    match command {
        Command::Show(arguments) => show(opening, arguments).await,
    }
}

#[derive(Serialize)]
struct Shown {
    database: String,
    id: Option<String>,
    /// `N:HEAD`, as `--state-at-least` takes it.
    state: Option<StatePoint>,
    state_file: Option<String>,
    /// Whether anything outside the database remembers it.
    remembered: bool,
}

async fn show(opening: OpeningOptions, Show { output }: Show) -> Result<(), Failure> {
    let config = opening.config();
    let (witnesses, store) = (config.witnesses(), Carnet::open_store_to_read(&config).await?);
    Carnet::unlock_store(&store, &config).await?;
    let seen = store.examine_state(&witnesses).await?;
    let shown = Shown {
        database: store.url().to_string(),
        id: seen.as_ref().map(|(id, ..)| id.to_string()),
        state: seen.as_ref().map(|(_, state, _)| *state),
        state_file: witnesses.file.map(|file| file.path().display().to_string()),
        remembered: seen.is_some_and(|(.., is_proved)| is_proved),
    };
    match output.output {
        Format::Json => output::json(&shown),
        Format::Table => {
            let none = || "none yet".to_owned();
            output::pairs(&[
                ("database", shown.database),
                ("id", shown.id.unwrap_or_else(none)),
                ("state", shown.state.map_or_else(none, |state| state.to_string())),
                ("state file", shown.state_file.unwrap_or_else(|| "none".to_owned())),
                ("remembered", if shown.remembered { "yes" } else { "no" }.to_owned()),
            ])
        }
    }
}
