//! Asking before something breaks.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::Args;

use super::failure::Failure;
use super::output;

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Confirmation {
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Confirmation {
    /// As [`Confirmation::confirm`], where the person at the terminal has to type `word`.
    pub(super) fn confirm_by_typing(self, consequence: &str, word: &str) -> Result<(), Failure> {
        self.ask(consequence, &format!("Type “{word}” to go on."), &[word])
    }

    /// Goes on if `--yes` was given or the person at the terminal says so.
    ///
    /// `consequence` is shown in either case: whoever reads a script's log should find it there.
    pub(super) fn confirm(self, consequence: &str) -> Result<(), Failure> {
        self.ask(consequence, "Go on? [y/N]", &["y", "Y", "yes"])
    }

    fn ask(self, consequence: &str, question: &str, answers: &[&str]) -> Result<(), Failure> {
        output::note(consequence);
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage("this needs a confirmation, and stdin is no terminal to ask on")
                .hint("--yes confirms"));
        }
        output::note(question);
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if answers.contains(&answer.trim()) { Ok(()) } else { Err(Failure::message("nothing was changed")) }
    }
}
