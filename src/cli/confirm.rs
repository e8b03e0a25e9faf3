//! Asks for confirmation before a destructive action.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::Args;

use super::failure::CommandFailure;
use super::output;

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Confirmation {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// Asks as [`Confirmation::confirm`] does. The person at the terminal must type `word`.
    pub(super) fn confirm_by_typing(self, consequence: &str, word: &str) -> Result<(), CommandFailure> {
        self.ask(consequence, &format!("Type “{word}” to go on."), &[word])
    }

    /// Continues if `--yes` was given or the person at the terminal agrees. Otherwise fails.
    ///
    /// `consequence` is printed in both cases, so that the log of a script shows it.
    pub(super) fn confirm(self, consequence: &str) -> Result<(), CommandFailure> {
        self.ask(consequence, "Go on? [y/N]", &["y", "Y", "yes"])
    }

    fn ask(self, consequence: &str, question: &str, responses: &[&str]) -> Result<(), CommandFailure> {
        output::note(consequence);
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(CommandFailure::usage("this needs a confirmation, and stdin is not a terminal")
                .hint("--yes confirms"));
        }
        output::note(question);
        let mut response = String::new();
        io::stdin().lock().read_line(&mut response)?;
        if responses.contains(&response.trim()) {
            Ok(())
        } else {
            Err(CommandFailure::message("nothing was changed"))
        }
    }
}
