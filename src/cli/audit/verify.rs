//! `carnet audit verify`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::audit::Anchor;
use crate::audit::verify::{Finding, Report};
use crate::cli::failure::CommandFailure;
use crate::cli::output::{self, Format};
use crate::store::Unlocked;
use crate::store::rewrap::ForgedRow;
use crate::values::visible;

#[derive(Debug, Args)]
pub(in crate::cli) struct Verify {
    /// An earlier end of the log, from `audit anchor` or the server's log; repeatable
    #[arg(long, value_name = "SEQ:MAC")]
    anchor: Vec<Anchor>,
    /// A file of such anchors, one a line
    #[arg(long, value_name = "FILE")]
    anchors_file: Option<PathBuf>,
    #[command(flatten)]
    output: output::OutputOptions,
}

/// The report in JSON.
#[derive(Serialize)]
struct Verified<'a> {
    ok: bool,
    #[serde(flatten)]
    report: &'a Report,
    /// The rows of other tables that fail their MAC.
    forged_rows: &'a [ForgedRow],
    /// The findings as text.
    messages: Vec<String>,
}

pub(super) async fn run(store: &Unlocked, arguments: Verify) -> Result<(), CommandFailure> {
    let mut anchors = arguments.anchor;
    if let Some(file) = &arguments.anchors_file {
        anchors.extend(read(file)?);
    }
    let mut report = store.verify_audit(&anchors).await?;
    let index_problem = store.audit_index_problem().await?;
    if index_problem.is_some() {
        report.add_index_problem();
    }
    let forged = store.forged_rows().await?;
    let mut messages: Vec<_> = report.findings.iter().map(Finding::to_string).collect();
    messages.extend(index_problem.map(|problem| format!("SQLite says of the indexes: {problem}")));
    messages.extend(forged.iter().map(ForgedRow::to_string));
    let ok = report.is_clean() && forged.is_empty();
    match arguments.output.output {
        Format::Json => {
            output::json(&Verified { ok, report: &report, forged_rows: &forged, messages: messages.clone() })?
        }
        Format::Table => {
            for message in &messages {
                output::line(&visible::line(message))?;
            }
            if report.more > 0 {
                output::line(&format!("and {} more findings", report.more))?;
            }
            if ok {
                output::line(&account(&report, anchors.len()))?;
            }
        }
    }
    if report.anchors_pruned > 0 {
        output::note(&format!(
            "{} of the anchors name rows that have been pruned since and cannot be checked.",
            report.anchors_pruned
        ));
    }
    if ok && anchors.len() == report.anchors_pruned {
        output::note(
            "Only an anchor that was kept elsewhere shows whether the end of the log was cut off: give it \
             with --anchor.",
        );
    }
    if ok {
        return Ok(());
    }
    let first = messages.first().cloned().unwrap_or_default();
    let what = if report.is_clean() { "the database" } else { "the audit log of" };
    let message = format!("{what} {} was changed by something other than carnet: {first}", store.url());
    Err(CommandFailure::message(message).hint(
        "keep a copy of the database as it is, and compare it with exports, backups and the anchors in the server's \
         logs; docs/keys.md has the steps after a leak",
    ))
}

fn account(report: &Report, anchors: usize) -> String {
    let compared = anchors - report.anchors_pruned;
    let compared = match compared {
        0 => String::new(),
        1 => ", and agrees with the anchor".to_owned(),
        several => format!(", and agrees with {several} anchors"),
    };
    let first = report.pruned_until + 1;
    match report.rows {
        0 => format!("The log is empty{compared}. It ends at {}", report.end),
        _ => format!(
            "Rows {first} to {} are as carnet wrote them{compared}. The log ends at {}",
            report.end.seq, report.end
        ),
    }
}

/// Reads the anchors in a file, one a line. An anchor is the last word of its line, so lines of a server's
/// log work too. Empty lines and lines that begin with `#` are ignored.
fn read(file: &std::path::Path) -> Result<Vec<Anchor>, CommandFailure> {
    let text = crate::cli::files::read_file("--anchors-file")(file)?;
    let text = String::from_utf8_lossy(&text);
    let mut anchors = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let Some(word) = line.split_whitespace().next_back().filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let anchor = word.strip_prefix("anchor=").unwrap_or(word).parse().map_err(|error| {
            CommandFailure::usage(format!("--anchors-file {}, line {number}: {error}", file.display()))
        })?;
        anchors.push(anchor);
    }
    Ok(anchors)
}
