//! Data on stdout: tables for people, JSON for programs.

use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::failure::Failure;

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputOptions {
    /// How to print
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

/// Writes `text` and a line's end.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(Failure::from)
}

/// Writes `value` as JSON on lines of its own.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Writes rows under their headings.
pub(super) fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(headings);
    for row in rows {
        table.add_row(row);
    }
    let text = table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    line(&text)
}

/// Writes names and values, one pair a line.
pub(super) fn pairs(pairs: &[(&str, String)]) -> Result<(), Failure> {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines: Vec<_> = pairs.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    line(&lines.join("\n"))
}

/// Writes a note for the person at the terminal.
pub(super) fn note(text: &str) {
    // Nobody reads stderr any more if this fails.
    let _ = writeln!(io::stderr(), "{text}");
}
