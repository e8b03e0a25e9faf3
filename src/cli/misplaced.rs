//! Refuses arguments and variables that hold a grant's token or a master key.
//!
//! No argument takes one: a token is in `CARNET_TOKEN`, a master key in a file. Used as a path it would become
//! a file's name, and used as a name it would be stored and listed.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::failure::CommandFailure;
use crate::values::pasted::secret_in;

/// Refuses the first value in `matches`, of any option of `command` or of the subcommand that was given, that
/// holds a secret. The error names the option or the variable and does not repeat the value.
pub(super) fn refuse_secrets(command: &Command, matches: &ArgMatches) -> Result<(), CommandFailure> {
    let holds_secret = |id: &str| {
        let mut values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        values.any(|value| secret_in(&value.to_string_lossy()).is_some())
    };
    if let Some(argument) = command.get_arguments().find(|argument| holds_secret(argument.get_id().as_str()))
    {
        let name = shown_name(argument, matches.value_source(argument.get_id().as_str()));
        return Err(CommandFailure::usage(format!(
            "{name}: the value holds a grant's token or a master key and was not used"
        ))
        .hint(
            "a token belongs in CARNET_TOKEN, and a master key in the file that --keys-dir or --master-key-file \
             names; replace the secret if a log or another user may have seen it",
        ));
    }
    match matches.subcommand() {
        Some((name, below)) => {
            command.find_subcommand(name).map_or(Ok(()), |command| refuse_secrets(command, below))
        }
        None => Ok(()),
    }
}

fn shown_name(argument: &Arg, source: Option<ValueSource>) -> String {
    match (source, argument.get_env(), argument.get_long()) {
        (Some(ValueSource::EnvVariable), Some(variable), _) => variable.to_string_lossy().into_owned(),
        (_, _, Some(long)) => format!("--{long}"),
        _ => argument.get_id().to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    fn refusal(arguments: &[&str]) -> Option<String> {
        let mut command = Arguments::command();
        let matches = command.try_get_matches_from_mut([&["carnet"], arguments].concat()).unwrap();
        refuse_secrets(&command, &matches).err().map(|failure| failure.text())
    }

    #[test]
    fn a_secret_is_refused_by_the_name_of_its_option_wherever_the_option_stands() {
        let token = format!("carnet_{}", "0aZ".repeat(24));
        let key = format!("x/carnet-master-key-1:{}", "0aZ".repeat(14));
        for secret in [&token, &key] {
            for (arguments, name) in [
                (vec!["--keys-dir", secret, "key", "list"], "--keys-dir"),
                (vec!["key", "list", "--state-file", secret], "--state-file"),
                (vec!["key", "rewrap", "--new-key-file", secret], "--new-key-file"),
                (vec!["serve", "--publish", secret], "--publish"),
                (vec!["publish", secret], "TARGET"),
            ] {
                let text = refusal(&arguments).unwrap_or_default();
                assert!(text.contains(&format!("{name}: the value holds")), "{arguments:?}: {text}");
                assert!(!text.contains("0aZ"), "{text}");
            }
        }
        assert_eq!(refusal(&["--keys-dir", "carnet_keys", "key", "list"]), None);
    }
}
