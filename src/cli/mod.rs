//! The command line. Data goes to stdout, notes to stderr. The exit code is 0 for success, 1 for failure, 2
//! for wrong usage.

mod audit;
mod confirm;
mod database;
mod demo;
mod doctor;
mod failure;
mod feed;
mod feed_fields;
mod files;
mod grant;
mod key;
mod logging;
mod memory;
mod misplaced;
mod opening;
mod output;
mod own_flags;
mod proxy;
mod publish;
mod remote;
mod sandbox;
mod serve;
mod times;
mod token;
#[cfg(feature = "otlp")]
mod traces;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::failure::CommandFailure;
use crate::values::excerpt::excerpt;
use crate::values::visible;

/// An OpenID Connect issuer that turns its own identity into short-lived container registry credentials.
#[derive(Debug, Parser)]
#[command(name = "carnet", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    opening: opening::OpeningOptions,
    #[command(flatten)]
    logging: logging::LoggingOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole chain on this machine: issuer, sandbox cloud, credential, rotation, credential again
    Demo(demo::DemoArguments),
    /// Serve the public documents and the API, and rotate the signing keys
    Serve(serve::ServeArguments),
    /// List, rotate and revoke signing keys
    #[command(subcommand)]
    Key(key::Command),
    /// Show the database's state, or accept a database that is not trusted
    #[command(subcommand)]
    Database(database::Command),
    /// Manage feeds, and get credentials for them
    #[command(subcommand)]
    Feed(Box<feed::Command>),
    /// Manage grants, which give access to the API
    #[command(subcommand)]
    Grant(Box<grant::Command>),
    /// Mint a token to inspect, or decode and verify one
    #[command(subcommand)]
    Token(token::Command),
    /// Read and verify the audit log
    #[command(subcommand)]
    Audit(Box<audit::Command>),
    /// Check the public URL as the clouds see it, and the keys, clock, files, database, feeds and grants
    Doctor(doctor::DoctorArguments),
    /// Publish the documents to a folder or an object store, for an issuer that clouds cannot reach
    ///
    /// After the first publication, no key signs before the target has shown it for the policy's propagation
    /// time. With --once, keys do not wait.
    Publish(publish::PublishArguments),
    /// Stand in for the clouds' token endpoints, on loopback
    ///
    /// The sandbox fetches the issuer's discovery and JWKS and verifies every token. It trusts any subject and
    /// audience of the issuer, unless --config limits them.
    Sandbox(sandbox::SandboxArguments),
}

/// Runs the command in the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    output::report_panics();
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    let serves = matches!(arguments.command, Command::Serve(_));
    // Held until the end of `main`: dropping it exports the last traces.
    let _logging = logging::start(&arguments.logging, if serves { "info" } else { "warn" });
    memory::keep_private();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&CommandFailure::from(error)),
    };
    let outcome = runtime.block_on(run(arguments));
    // The command is done. A key generation or name resolution that is still running must not delay the exit.
    runtime.shutdown_timeout(serve::BLOCKING_TASKS_WITHIN);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output::failure(&failure),
    }
}

/// Returns the command line with every command and option, for tests that try each.
#[must_use]
pub fn command_line() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// Parses the arguments. Records the local-only flag that was given, if any. Without arguments to run, prints
/// why and returns the exit code.
fn parse() -> Result<Arguments, ExitCode> {
    let mut command = Arguments::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os()).map_err(|error| not_run(&error))?;
    misplaced::refuse_secrets(&command, &matches).map_err(|failure| output::failure(&failure))?;
    let mut arguments = Arguments::from_arg_matches(&matches).map_err(|error| not_run(&error))?;
    arguments.opening.local_flag = remote::local_flag(&matches);
    Ok(arguments)
}

/// Prints help, the version, or the error in the arguments.
///
/// clap quotes a refused value unchanged. The value's own error, printed instead, quotes an excerpt without
/// passwords.
fn not_run(error: &clap::Error) -> ExitCode {
    if error.kind() == ErrorKind::ValueValidation
        && let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg)
        && let Some(rule) = std::error::Error::source(error)
    {
        return output::failure(&CommandFailure::usage(format!("{argument}: {rule}")));
    }
    let is_hidden = |argument: &String| argument.contains(visible::is_hidden);
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    if let Some(argument) = arguments.skip(1).find(is_hidden).filter(|_| error.use_stderr()) {
        // clap would quote the argument, and text after a line feed in it would look like carnet's own.
        return output::failure(&CommandFailure::usage(format!("{}: {}", error.kind(), excerpt(&argument))));
    }
    output::usage(error);
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn run(arguments: Arguments) -> Result<(), CommandFailure> {
    let opening = arguments.opening;
    match arguments.command {
        Command::Demo(arguments) => Box::pin(demo::run(arguments)).await,
        Command::Serve(arguments) => Box::pin(serve::run(opening, arguments)).await,
        Command::Key(command) => Box::pin(key::run(opening, command)).await,
        Command::Database(command) => Box::pin(database::run(opening, command)).await,
        Command::Feed(command) => Box::pin(feed::run(opening, *command)).await,
        Command::Grant(command) => Box::pin(grant::run(opening, *command)).await,
        Command::Token(command) => Box::pin(token::run(opening, command)).await,
        Command::Audit(command) => Box::pin(audit::run(opening, *command)).await,
        Command::Doctor(arguments) => Box::pin(doctor::run(opening, arguments)).await,
        Command::Publish(arguments) => Box::pin(publish::run(opening, arguments)).await,
        Command::Sandbox(arguments) => Box::pin(sandbox::run(opening, arguments)).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// A command's own options come first, and the options of every command follow under their own heading.
    #[test]
    fn help_shows_a_commands_own_options_before_those_of_every_command() {
        fn check(command: &mut clap::Command, path: &str) {
            for argument in command.get_arguments() {
                let expected = argument.is_global_set().then_some(crate::cli::output::COMMON_OPTIONS);
                assert_eq!(argument.get_help_heading(), expected, "{path} {}", argument.get_id());
            }
            let help = command.render_long_help().to_string();
            let (own, common) = (help.find("\nOptions:\n"), help.find("\nOptions of every command:\n"));
            assert!(own.is_some() && own < common, "{path}:\n{help}");
            for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
                let path = format!("{path} {}", below.get_name());
                check(below, &path);
            }
        }
        let mut command = super::Arguments::command();
        command.build();
        check(&mut command, "carnet");
    }

    #[test]
    fn help_tells_the_rules_that_no_option_shows() {
        let mut command = super::Arguments::command();
        command.build();
        for (path, words) in [
            ("key policy", "or have a unit (10m, 1h, 30d)"),
            ("key rewrap", "a thief of the database and the master key"),
            ("key clock", "compares this machine's clock with the database"),
            ("publish", "no key signs before the target has shown it"),
            ("sandbox", "verifies every token"),
        ] {
            let names = path.split(' ');
            let found = names.fold(&mut command, |command, name| command.find_subcommand_mut(name).unwrap());
            let help = found.render_long_help().to_string();
            let shown: Vec<&str> = help.split_whitespace().collect();
            assert!(shown.join(" ").contains(words), "{path}:\n{help}");
        }
        let key = command.find_subcommand_mut("key").unwrap().render_help().to_string();
        assert!(key.contains("after a leak, use --leaked"), "{key}");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
