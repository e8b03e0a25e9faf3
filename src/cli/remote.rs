//! The server that commands of deployments ask, in place of a local database.

use clap::ArgMatches;
use clap::Args;
use clap::parser::ValueSource;

use super::failure::Failure;
use crate::client::{ApiClient, ServerUrl};
use crate::values::secret::SecretString;

/// Holds the grant's token. There is no flag for it: others can list arguments.
const TOKEN: &str = "CARNET_TOKEN";

/// Which server to ask, or none.
#[derive(Debug, Args)]
pub(super) struct ServerOption {
    /// The server to ask, https://HOST or unix:/PATH, with the grant's token in `CARNET_TOKEN`. Without it the
    /// local database is worked on
    #[arg(long, env = "CARNET_URL", value_name = "URL", hide_env_values = true)]
    server: Option<ServerUrl>,
}

/// Flags that are for work on a local database: by the name that clap has for them, and as users write them.
const LOCAL_FLAGS: [(&str, &str); 7] = [
    ("database", "--database"),
    ("keys_dir", "--keys-dir"),
    ("master_key_file", "--master-key-file"),
    ("next_master_key_file", "--next-master-key-file"),
    ("issuer", "--issuer"),
    ("proxy", "--proxy"),
    ("allow_loopback_endpoints", "--allow-loopback-endpoints"),
];

/// Of the flags that are for a local database the first that stands on the command line.
///
/// The environment does not count: it is the same for many commands, and says nothing about this one.
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
    /// A client of the server, if one is named.
    ///
    /// # Errors
    ///
    /// A failure of usage when there is no token for it, or when `local_flag` asks for something that only
    /// makes sense without a server.
    pub(super) fn client(
        self,
        local_flag: Option<&'static str>,
        ca_pem: Option<&[u8]>,
    ) -> Result<Option<ApiClient>, Failure> {
        let Some(server) = self.server else { return Ok(None) };
        if let Some(flag) = local_flag {
            return Err(Failure::usage(format!("{flag}: the server {server} is asked, which has its own"))
                .hint(format!("leave {flag} off; or leave --server off and CARNET_URL unset, to work on a local database")));
        }
        let token = token().ok_or_else(|| {
            Failure::usage(format!("{TOKEN} is not set, and the server {server} answers nobody without a grant"))
                .hint("`carnet grant create --role deployer` on the server's host makes a grant and prints its token")
        })?;
        check_form(&token)?;
        ApiClient::new(server, &token, ca_pem).map(Some).map_err(|error| Failure::client(&error))
    }
}

/// Tells a token that no server can know before it is sent anywhere.
fn check_form(token: &SecretString) -> Result<(), Failure> {
    if token.reveal().starts_with(['"', '\'']) {
        return Err(Failure::usage(format!("{TOKEN} stands in quotes, and nothing was sent"))
            .hint("leave them off: in env files and secrets they are part of the value"));
    }
    if !token.reveal().starts_with("carnet_") {
        return Err(Failure::usage(format!(
            "{TOKEN} does not begin with carnet_, as every grant's token does, and nothing was sent"
        ))
        .hint("it is what `carnet grant create` printed on stdout, alone, without “Bearer”"));
    }
    Ok(())
}

/// The grant's token; none if the variable is empty. Ends of lines that files and secrets bring along go.
fn token() -> Option<SecretString> {
    let text = SecretString::new(std::env::var(TOKEN).ok()?);
    let trimmed = text.reveal().trim_ascii();
    (!trimmed.is_empty()).then(|| SecretString::new(trimmed.to_owned()))
}

/// Whether a token waits for a server that nobody names.
pub(super) fn has_token_alone() -> bool {
    token().is_some()
}
