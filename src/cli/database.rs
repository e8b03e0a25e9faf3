//! `carnet database`: the state of the database, and the state remembered outside it.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::confirm;
use super::failure::CommandFailure;
use super::key::account;
use super::opening::{OpeningOptions, actor};
use super::output::{self, Format};
use crate::carnet::accepting::{Acceptance, Accepted};
use crate::states::StatePoint;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the database's ID and last state, to keep elsewhere
    Show(Show),
    /// Accept an older or altered database but trust none of its content: new signing keys, no grants
    Accept(Accept),
}

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Debug, Args)]
pub(super) struct Accept {
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

pub(super) async fn run(opening: OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Show(arguments) => show(opening, arguments).await,
        Command::Accept(arguments) => accept(opening, arguments).await,
    }
}

#[derive(Serialize)]
struct Shown {
    database: String,
    id: Option<String>,
    /// `N:HEAD`, as `--state-at-least` accepts it.
    state: Option<StatePoint>,
    state_file: Option<String>,
    /// True if the state is remembered outside the database.
    remembered: bool,
}

async fn show(opening: OpeningOptions, Show { output }: Show) -> Result<(), CommandFailure> {
    let config = opening.config();
    let witnesses = config.witnesses();
    let store = config.unlock(&config.open_store().await?).await?;
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

/// The word to type as confirmation.
const WORD: &str = "accept";

const CONSEQUENCE: &str = "\
An older database in its place brings back whatever it held then. carnet therefore accepts none of that, in one \
transaction:
  - every signing key leaves the JWKS and is replaced by one that no verifier has seen; verifiers refuse new tokens \
until they fetch again, and a key that was revoked is never published again
  - every grant is revoked; their holders get 401 until they have a new one
  - upload confirmations are deleted; keys wait for them again
  - rows that fail their MAC are deleted
Feeds carry no MAC: compare them with what you set up (`carnet feed list`). If the master key may have leaked as \
well, this is not enough: `carnet key rewrap --leaked` does all of this and also replaces every symmetric key.";

async fn accept(opening: OpeningOptions, Accept { confirm }: Accept) -> Result<(), CommandFailure> {
    let acceptance = Acceptance::open(&opening.config()).await?;
    let text = format!("{}\n{CONSEQUENCE}", acceptance.found());
    confirm.confirm_by_typing(&text, WORD)?;
    let Accepted { changes, grants, confirmations, forged, moved, state } =
        acceptance.accept(&actor()).await?;
    for change in &changes {
        output::note(&account(change));
    }
    output::note(&format!("{grants} grants are revoked and {confirmations} upload confirmations deleted."));
    for row in &forged {
        output::note(&format!("{row}. It is deleted."));
    }
    if let Some(file) = moved {
        output::note(&format!("The rejected state file is kept as {}.", file.display()));
    }
    if let Some(state) = state {
        output::note(&format!("The database is at state {state} now. Every server can be started again."));
    }
    Ok(())
}
