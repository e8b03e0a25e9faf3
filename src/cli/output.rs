//! All terminal output: data on stdout, as tables for people and JSON for programs; notes, errors, progress
//! and logs on stderr.
//!
//! Output often contains text from outside: claims of a token, names, responses of registries and servers.
//! Hidden characters in it are escaped before it reaches the terminal. Cursor movements and colours come from
//! this module or the log formatter, never from data. Grants' tokens and master keys are removed, wherever they
//! were pasted: only [`secret_line`] and [`secret_json`] print one. `clippy.toml` forbids `stdout` and `stderr`
//! in the rest of the code.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use tracing_subscriber::fmt::MakeWriter;

use super::failure::CommandFailure;
use crate::values::{pasted, visible};

/// The help heading of the options that every command has.
pub(super) const COMMON_OPTIONS: &str = "Options of every command";

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputOptions {
    /// The output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Writes a failure to stderr and returns the process's exit code.
pub(super) fn failure(failure: &CommandFailure) -> ExitCode {
    note(&failure.text());
    failure.exit_code()
}

/// Writes `text`, which may have several lines, and a line feed. Parts from outside that may contain line
/// feeds must go through [`visible::line`] first.
pub(super) fn line(text: &str) -> Result<(), CommandFailure> {
    to_stdout(&visible::lines(text))
}

/// Writes `value` as indented JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), CommandFailure> {
    to_stdout(&visible::json(&serde_json::to_string_pretty(value)?))
}

/// Writes lines as [`line`] does, with the secrets that the command was asked for.
pub(super) fn secret_line(text: &str) -> Result<(), CommandFailure> {
    to_stdout_unchanged(&visible::lines(text))
}

/// Writes JSON as [`json`] does, with the secrets that the command was asked for.
pub(super) fn secret_json(value: &impl Serialize) -> Result<(), CommandFailure> {
    to_stdout_unchanged(&visible::json(&serde_json::to_string_pretty(value)?))
}

/// Writes each of `values` as JSON on one line.
pub(super) fn json_lines(values: &[impl Serialize]) -> Result<(), CommandFailure> {
    let lines = values.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    to_stdout(&visible::json(&lines.join("\n")))
}

/// Writes a table of rows with headings.
pub(super) fn table(
    headings: &[&str],
    rows: impl IntoIterator<Item = Vec<String>>,
) -> Result<(), CommandFailure> {
    line(&table_text(headings, rows))
}

/// Returns the lines of [`table`], with hidden characters escaped.
pub(super) fn table_text(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row.iter().map(|cell| visible::line(cell)));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Writes names and values, one pair a line.
pub(super) fn pairs(pairs: &[(&str, String)]) -> Result<(), CommandFailure> {
    let shown = pairs.iter().map(|(name, value)| (visible::line(name), visible::line(value)));
    let shown: Vec<_> = shown.collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> = shown.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    to_stdout(&lines.join("\n"))
}

/// Writes a note for the person at the terminal.
pub(super) fn note(text: &str) {
    to_stderr(&format!("{}\n", visible::lines(text)));
}

/// Returns true if stderr is a terminal.
pub(super) fn is_watched() -> bool {
    stderr().is_terminal()
}

/// Writes `text` without a line feed. [`progress_ended`] replaces it.
pub(super) fn progress_began(text: &str) {
    to_stderr(&visible::line(text));
}

/// Replaces the text of [`progress_began`] by `text` and a line feed.
pub(super) fn progress_ended(text: &str) {
    to_stderr(&format!("\r\u{1b}[2K{}\n", visible::line(text)));
}

/// Writes help, the version, or an error in the arguments, which the error quotes.
pub(super) fn usage(error: &clap::Error) {
    let text = error.render().to_string();
    if visible::lines(&text) != text {
        // The hidden characters come from a variable, and line feeds in it are as suspect.
        note(&visible::line(text.trim_end()));
    } else if pasted::secret_in(&text).is_none() {
        #[expect(clippy::disallowed_methods, reason = "nothing hidden is in it but clap's own colours")]
        // This fails only if nobody reads the stream any more.
        let _ = error.print();
    } else if error.use_stderr() {
        note(text.trim_end());
    } else {
        // Help shows the values of variables. This fails only if nobody reads the stream any more.
        let _ = line(text.trim_end());
    }
}

/// Writes panics as notes, because their messages may contain data.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        note(&format!("panicked at {place}: {}", visible::line(message)));
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            note(&backtrace.to_string());
        }
    }));
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogStyle {
    Plain,
    /// With the colours of the log formatter.
    Coloured,
    Json,
}

/// Writes log events to stderr, each on one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogWriter(pub(super) LogStyle);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl io::Write for LogWriter {
    /// Writes one whole event, as the formatter passes it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let shown = shown_event(self.0, &String::from_utf8_lossy(event));
        stderr().write_all(format!("{shown}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}

/// Returns the line of an event, without secrets and hidden characters.
fn shown_event(style: LogStyle, event: &str) -> String {
    let text = &pasted::cleared(event.trim_end_matches('\n'));
    match style {
        LogStyle::Plain => visible::line(text).into_owned(),
        LogStyle::Coloured => coloured(text),
        LogStyle::Json => visible::json(text).into_owned(),
    }
}

/// The log formatter's own colours. The formatter escapes those in data. None of them hides text.
const COLOURS: [&str; 9] = [
    "\u{1b}[0m",
    "\u{1b}[1m",
    "\u{1b}[2m",
    "\u{1b}[3m",
    "\u{1b}[31m",
    "\u{1b}[32m",
    "\u{1b}[33m",
    "\u{1b}[34m",
    "\u{1b}[35m",
];

fn coloured(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        let (before, from) = rest.split_at(at);
        shown.push_str(&visible::line(before));
        let kept = COLOURS.iter().find(|colour| from.starts_with(**colour));
        match kept {
            Some(colour) => shown.push_str(colour),
            None => shown.push_str(&visible::line("\u{1b}")),
        }
        rest = &from[kept.map_or(1, |colour| colour.len())..];
    }
    shown.push_str(&visible::line(rest));
    shown
}

fn to_stdout(text: &str) -> Result<(), CommandFailure> {
    to_stdout_unchanged(&pasted::cleared(text))
}

fn to_stdout_unchanged(text: &str) -> Result<(), CommandFailure> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(CommandFailure::from)
}

fn to_stderr(text: &str) {
    let mut stderr = stderr().lock();
    // This fails only if nobody reads stderr any more.
    let _ = stderr.write_all(pasted::cleared(text).as_bytes()).and_then(|()| stderr.flush());
}

#[expect(clippy::disallowed_methods, reason = "this is the door")]
fn stderr() -> io::Stderr {
    io::stderr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_hold_no_token_and_no_master_key() {
        for prefix in ["carnet_", "carnet-master-key-1:"] {
            let event = format!("{{\"path\":\"/{prefix}{}/x\"}}\n", "0aZ".repeat(14));
            for style in [LogStyle::Plain, LogStyle::Coloured, LogStyle::Json] {
                assert_eq!(shown_event(style, &event), format!("{{\"path\":\"/{prefix}…/x\"}}"));
            }
        }
    }

    #[test]
    fn log_lines_keep_the_formatters_colours_and_nothing_else_of_an_escape() {
        let text = "\u{1b}[2m12:00\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m said\n\u{1b}[8mhidden\u{1b}[2J\u{202e}";
        assert_eq!(
            coloured(text),
            "\u{1b}[2m12:00\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m said\\n\\u{1b}[8mhidden\\u{1b}[2J\\u{202e}"
        );
    }
}
