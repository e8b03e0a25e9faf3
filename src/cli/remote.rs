//! The server that deployment commands use instead of a local database.

use clap::ArgMatches;
use clap::Args;
use clap::parser::ValueSource;

use super::failure::CommandFailure;
use crate::client::{ApiClient, ServerUrl};
use crate::values::secret::SecretString;

/// The variable that holds the grant's token. There is no flag for it, because other users can list
/// arguments.
const TOKEN: &str = "CARNET_TOKEN";

/// An optional server.
#[derive(Debug, Args)]
pub(super) struct ServerOption {
    /// The server to use, https://HOST or unix:/PATH, with the grant's token in `CARNET_TOKEN`. Without it,
    /// the command uses the local database
    #[arg(long, env = "CARNET_URL", value_name = "URL", hide_env_values = true)]
    server: Option<ServerUrl>,
}

/// The flags that only apply to a local database: clap's ID, and the flag as users write it.
const LOCAL_FLAGS: [(&str, &str); 9] = [
    ("database", "--database"),
    ("keys_dir", "--keys-dir"),
    ("master_key_file", "--master-key-file"),
    ("next_master_key_file", "--next-master-key-file"),
    ("state_file", "--state-file"),
    ("state_at_least", "--state-at-least"),
    ("issuer", "--issuer"),
    ("proxy", "--proxy"),
    ("allow_loopback_endpoints", "--allow-loopback-endpoints"),
];

/// Returns the first local-only flag on the command line.
///
/// Environment variables do not count, because they apply to many commands.
pub(super) fn local_flag(matches: &ArgMatches) -> Option<&'static str> {
    let mut command = matches;
    while let Some((_, below)) = command.subcommand() {
        command = below;
    }
    let is_given = |name: &str| {
        command.ids().any(|id| id == name) && command.value_source(name) == Some(ValueSource::CommandLine)
    };
    LOCAL_FLAGS.into_iter().find(|(name, _)| is_given(name)).map(|(_, flag)| flag)
}

impl ServerOption {
    /// Returns a client of the server, if one is named. Fails with a usage error if there is no token for it,
    /// or if `local_flag` is given.
    pub(super) fn client(
        self,
        local_flag: Option<&'static str>,
        ca_pem: Option<&[u8]>,
    ) -> Result<Option<ApiClient>, CommandFailure> {
        let Some(server) = self.server else { return Ok(None) };
        if let Some(flag) = local_flag {
            return Err(CommandFailure::usage(format!(
                "{flag}: this command sends its request to the server {server}, which has its own"
            ))
            .hint(format!(
                "leave {flag} off; or leave --server off and CARNET_URL unset, to work on a local database"
            )));
        }
        let token = token().ok_or_else(|| {
            CommandFailure::usage(format!("{TOKEN} is not set, and the server {server} requires a grant"))
                .hint("`carnet grant create --role deployer` on the server's host makes a grant and prints its token")
        })?;
        check_form(&token)?;
        ApiClient::new(server, &token, ca_pem).map(Some).map_err(|error| CommandFailure::client(&error))
    }
}

/// Refuses a token that no server can have issued, before it is sent.
fn check_form(token: &SecretString) -> Result<(), CommandFailure> {
    if token.reveal().starts_with(['"', '\'']) {
        return Err(CommandFailure::usage(format!("{TOKEN} is in quotes; no request was sent"))
            .hint("leave the quotes off: in env files and secrets they are part of the value"));
    }
    if !token.reveal().starts_with("carnet_") {
        return Err(CommandFailure::usage(format!(
            "{TOKEN} does not begin with carnet_, as every grant's token does; no request was sent"
        ))
        .hint("set it to the token that `carnet grant create` printed on stdout, without “Bearer”"));
    }
    Ok(())
}

/// Returns the grant's token, or `None` if the variable is empty. Trims the line feeds that files and secrets
/// add.
fn token() -> Option<SecretString> {
    let text = SecretString::new(std::env::var(TOKEN).ok()?);
    let trimmed = text.reveal().trim_ascii();
    (!trimmed.is_empty()).then(|| SecretString::new(trimmed.to_owned()))
}

/// Returns true if a token is set. The caller has found no server for it.
pub(super) fn has_token_alone() -> bool {
    token().is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Args as _, Command, CommandFactory as _};

    use super::*;
    use crate::cli::{Arguments, logging, opening};

    /// The IDs of the options of commands with `--server` that apply there as well.
    const WITH_A_SERVER: [&str; 10] = [
        "action",
        "ca_file",
        "context",
        "feed",
        "format",
        "help",
        "min_remaining",
        "repository",
        "secret_name",
        "server",
    ];

    fn ids(command: &Command) -> BTreeSet<String> {
        command.get_arguments().map(|argument| argument.get_id().to_string()).collect()
    }

    fn check(command: &Command, path: &str, checked: &mut Vec<String>) {
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            check(below, &format!("{path} {}", below.get_name()), checked);
        }
        if !ids(command).contains("server") {
            return;
        }
        checked.push(path.to_owned());
        let opening = ids(&opening::OpeningOptions::augment_args(Command::new("")));
        let logging = ids(&logging::LoggingOptions::augment_args(Command::new("")));
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "version") {
            let id = argument.get_id().as_str();
            let flag = argument.get_long().map(|long| format!("--{long}"));
            let is_refused =
                LOCAL_FLAGS.iter().any(|(name, text)| *name == id && flag.as_deref() == Some(text));
            // An option that selects the local issuer never applies beside a server.
            let applies = !opening.contains(id) && (WITH_A_SERVER.contains(&id) || logging.contains(id));
            assert_ne!(is_refused, applies, "{path}: {id} is {}", if applies { "both" } else { "ignored" });
        }
    }

    #[test]
    fn every_option_beside_a_server_applies_there_or_is_refused() {
        let (mut command, mut checked) = (Arguments::command(), Vec::new());
        command.build();
        check(&command, "carnet", &mut checked);
        assert_eq!(checked, ["carnet feed credentials"]);
    }

    #[test]
    fn a_local_flag_is_found_before_and_after_the_command() {
        for arguments in [
            ["carnet", "--state-file=x", "feed", "credentials", "a/b"],
            ["carnet", "feed", "credentials", "--state-file=x", "a/b"],
        ] {
            let matches = Arguments::command().try_get_matches_from(arguments).unwrap();
            assert_eq!(local_flag(&matches), Some("--state-file"), "{arguments:?}");
        }
        let matches = Arguments::command().try_get_matches_from(["carnet", "feed", "credentials", "a/b"]);
        assert_eq!(local_flag(&matches.unwrap()), None);
    }
}
