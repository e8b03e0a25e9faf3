//! `carnet key clock`: compares this machine's clock with the database's latest time, and records the
//! operator's decision.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::Arc;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::failure::CommandFailure;
use crate::cli::opening::{OpeningOptions, actor};
use crate::cli::output::{self, Format};
use crate::cli::{confirm, times};
use crate::clock_watch::database_clock::{ClockView, Correction, DatabaseClock, DatabaseClockError};
use crate::signing_keys::clock_guard::ClockTrust;
use crate::values::clock::SystemClock;

#[derive(Debug, Args)]
pub(in crate::cli) struct Clock {
    /// Accept this machine's clock, although it is far beyond any time known to the database
    #[arg(long, conflicts_with = "set_back")]
    accept: bool,
    /// Set the database's time back after a wrong clock was accepted. TIME is the present time by another
    /// clock, such as 2026-11-27T12:30Z; if absent, the command asks for it. It must agree with this
    /// machine's clock
    #[arg(long, value_name = "TIME", num_args = 0..=1, value_parser = present_time)]
    set_back: Option<Option<Timestamp>>,
    #[command(flatten)]
    confirm: confirm::Confirmation,
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Serialize)]
struct Shown {
    now: Timestamp,
    high_water: Timestamp,
    state: &'static str,
    keys_beyond_now: usize,
    grants_beyond_now: usize,
    leeway: u64,
    largest_step: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'static str>,
}

pub(super) async fn run(opening: OpeningOptions, arguments: Clock) -> Result<(), CommandFailure> {
    let store = opening.trusted().await?;
    let clock = DatabaseClock::new(store, Arc::new(SystemClock::new()));
    let view = clock.view().await?;
    if arguments.accept {
        accept(&clock, &view, arguments.confirm).await
    } else if let Some(given) = arguments.set_back {
        set_back(&clock, &view, given).await
    } else {
        show(&view, arguments.output.output)
    }
}

fn show(view: &ClockView, format: Format) -> Result<(), CommandFailure> {
    let (reading, settings) = (&view.reading, &view.settings);
    let state = match reading.trust {
        ClockTrust::Steady => "steady",
        ClockTrust::Jumped { .. } => "jumped",
        ClockTrust::Ahead { .. } => "ahead",
        ClockTrust::Behind { .. } => "behind",
    };
    let fix = match reading.check() {
        Err(doubt) => Some(doubt.fix()),
        Ok(()) if view.has_later_times() => Some(LATER),
        Ok(()) => None,
    };
    let shown = Shown {
        now: reading.now,
        high_water: settings.high_water,
        state,
        keys_beyond_now: view.later_keys,
        grants_beyond_now: view.later_grants,
        leeway: settings.policy.leeway().as_secs(),
        largest_step: settings.policy.largest_step().as_secs(),
        fix,
    };
    if format == Format::Json {
        return output::json(&shown);
    }
    let time = |time: Timestamp| format!("{time}, {}", times::relative(time, reading.now));
    output::table(
        &["CLOCK", ""],
        [
            vec!["this machine".to_owned(), reading.now.to_string()],
            vec!["latest time known to the database".to_owned(), time(settings.high_water)],
            vec!["state".to_owned(), state.to_owned()],
            vec!["keys with times beyond now".to_owned(), view.later_keys.to_string()],
            vec!["grants with times beyond now".to_owned(), view.later_grants.to_string()],
        ],
    )?;
    if let Err(doubt) = reading.check() {
        output::note(&format!(
            "{doubt}. On this machine, carnet mints, rotates, prunes and creates nothing."
        ));
    }
    if let Some(fix) = fix {
        output::note(&format!("hint: {fix}"));
    }
    Ok(())
}

/// The fix for rows with future times if the clock is right.
const LATER: &str = "a wrong clock has recorded times in the future; once every machine's clock is right, \
                     `carnet key clock --set-back` corrects them";

async fn accept(
    clock: &DatabaseClock,
    view: &ClockView,
    confirm: confirm::Confirmation,
) -> Result<(), CommandFailure> {
    let (now, before) = (view.reading.now, view.settings.high_water);
    if let ClockTrust::Behind { .. } = view.reading.trust {
        return Err(view
            .reading
            .check()
            .map_err(DatabaseClockError::Behind)
            .err()
            .map_or_else(|| CommandFailure::message("the clock is behind"), CommandFailure::from));
    }
    confirm.confirm(&format!(
        "This machine's clock says {now}; the latest time known to the database is {before}, {}. If the \
         clock is wrong, keys rotate before their time, grants expire, and machines with a right clock mint \
         nothing until `carnet key clock --set-back`. Compare it with another clock first.",
        times::relative(before, now)
    ))?;
    output::note(&match clock.accept(&actor()).await? {
        Some(Correction { now, .. }) => format!("Accepted: {now} is the latest time known to the database."),
        None => "Nothing to do: this machine's clock is not in doubt.".to_owned(),
    });
    Ok(())
}

async fn set_back(
    clock: &DatabaseClock,
    view: &ClockView,
    given: Option<Timestamp>,
) -> Result<(), CommandFailure> {
    if !view.has_later_times() {
        output::note("Nothing to do: no time in the database is later than this machine's clock.");
        return Ok(());
    }
    output::note(&format!(
        "The latest time known to the database is {}; this machine's clock says {}. {} keys and {} grants \
         have later times. These are set to the present plus the durations of the policy or the grant: no \
         lifetime becomes longer, and no ended key or grant becomes valid again. First set the clock of \
         every machine that runs a server on this database.",
        view.settings.high_water, view.reading.now, view.later_keys, view.later_grants
    ));
    let given = match given {
        Some(given) => given,
        None => ask()?,
    };
    output::note(&match clock.set_back(given, &actor()).await? {
        Some(Correction { before, now, keys, grants }) => format!(
            "Set back from {before} to {now}. The times of {keys} keys and {grants} grants were changed. \
             Machines with a right clock mint again."
        ),
        None => "Nothing to do: this has just been done by another request.".to_owned(),
    });
    Ok(())
}

fn ask() -> Result<Timestamp, CommandFailure> {
    output::note("Type the present time by another clock, such as 2026-11-27T12:30Z:");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.trim().is_empty() && !io::stdin().is_terminal() {
        return Err(CommandFailure::usage("this needs the present time, and stdin has none")
            .hint("`carnet key clock --set-back TIME` gives it"));
    }
    present_time(line.trim()).map_err(CommandFailure::usage)
}

/// Parses a time. Without an offset it is in UTC.
fn present_time(text: &str) -> Result<Timestamp, String> {
    let of_utc = || Some(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse().ok().or_else(of_utc).ok_or_else(|| "this is not a time such as 2026-11-27T12:30Z".to_owned())
}

impl From<DatabaseClockError> for CommandFailure {
    fn from(error: DatabaseClockError) -> Self {
        let hint = match &error {
            DatabaseClockError::Differs { .. } => {
                Some("set this machine's clock first, then give the present time, with its offset or in UTC")
            }
            DatabaseClockError::Behind(doubt) => Some(doubt.fix()),
            DatabaseClockError::Store(_) => None,
        };
        let failure = Self::from(anyhow::Error::new(error));
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_an_offset_is_one_of_utc() {
        let noon: Timestamp = "2026-11-27T12:30:00Z".parse().unwrap();
        for text in ["2026-11-27T12:30Z", "2026-11-27T12:30", "2026-11-27 12:30:00", "2026-11-27T13:30+01:00"]
        {
            assert_eq!(present_time(text), Ok(noon), "{text}");
        }
        assert!(present_time("noon").is_err());
    }
}
