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
    /// Goes on if `--yes` was given or the person at the terminal says so.
    ///
    /// `consequence` is shown in either case: whoever reads a script's log should find it there.
    pub(super) fn confirm(self, consequence: &str) -> Result<(), Failure> {
        output::note(consequence);
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::usage("this needs a confirmation, and stdin is no terminal to ask on")
                .hint("--yes confirms"));
        }
        output::note("Go on? [y/N]");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::message("nothing was changed")),
        }
    }
}
