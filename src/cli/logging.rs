//! Logs to stderr and, on request, exports traces.

#[cfg(feature = "otlp")]
use std::error::Error;

use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::output::{self, LogStyle};
#[cfg(feature = "otlp")]
use super::traces;

#[derive(Debug, Args)]
#[command(next_help_heading = super::output::COMMON_OPTIONS)]
pub(super) struct LoggingOptions {
    /// The log filter: error, warn, info, debug, trace, or per module as in `carnet=debug` [default: info for
    /// serve, otherwise warn]
    #[arg(long, global = true, env = "CARNET_LOG", value_name = "FILTER", value_parser = filter)]
    log: Option<String>,
    /// The format of log lines
    #[arg(long, global = true, env = "CARNET_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
    #[cfg(feature = "otlp")]
    #[command(flatten)]
    traces: traces::TraceOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One readable line for each event
    Text,
    /// One JSON object for each event
    Json,
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// The running export of traces. It ends when this is dropped, at the end of the process.
#[derive(Debug)]
pub(super) struct Logging {
    #[cfg(feature = "otlp")]
    _traces: Option<traces::Export>,
}

/// Starts logging, and the export of traces if an endpoint for it is given. If the export cannot start, logs
/// a warning and continues, because the command does not depend on it.
pub(super) fn start(options: &LoggingOptions, default: &str) -> Logging {
    let filter = EnvFilter::new(options.log.as_deref().unwrap_or(default));
    let style = match options.log_format {
        Format::Text if output::is_watched() => LogStyle::Coloured,
        Format::Text => LogStyle::Plain,
        Format::Json => LogStyle::Json,
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(style == LogStyle::Coloured)
        .with_writer(output::LogWriter(style));
    let lines = match options.log_format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().boxed(),
    };
    let lines = lines.with_filter(filter).boxed();
    start_with(lines, options)
}

#[cfg(not(feature = "otlp"))]
fn start_with(
    lines: Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>,
    _: &LoggingOptions,
) -> Logging {
    Registry::default().with(lines).init();
    Logging {}
}

#[cfg(feature = "otlp")]
fn start_with(
    lines: Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>,
    options: &LoggingOptions,
) -> Logging {
    let (spans, export, failure) = match traces::start(&options.traces) {
        None => (None, None, None),
        Some(Ok((spans, export))) => (Some(spans), Some(export), None),
        Some(Err(failure)) => (None, None, Some(failure)),
    };
    // The layers are made for the bare registry, so they are registered as one.
    Registry::default().with(std::iter::once(lines).chain(spans).collect::<Vec<_>>()).init();
    if let Some(error) = failure {
        tracing::warn!(error = &error as &dyn Error, "no traces are exported");
    }
    Logging { _traces: export }
}
