//! Logs: structured, on stderr.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

#[derive(Debug, Args)]
pub(super) struct LoggingOptions {
    /// What to log: error, warn, info, debug, trace, or per module as in `carnet=debug` [default: info for serve, else warn]
    #[arg(long, global = true, env = "CARNET_LOG", value_name = "FILTER", value_parser = filter)]
    log: Option<String>,
    /// How to log
    #[arg(long, global = true, env = "CARNET_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One readable line an event
    Text,
    /// One JSON object an event
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn start(options: &LoggingOptions, default: &str) {
    let filter = EnvFilter::new(options.log.as_deref().unwrap_or(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        Format::Json => builder.json().init(),
    }
}
