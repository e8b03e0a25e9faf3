//! `carnet audit list`.

use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use uuid::Uuid;

use crate::audit::{EventKind, Outcome, Record};
use crate::cli::failure::CommandFailure;
use crate::cli::output;
use crate::feed::FeedPath;
use crate::store::Store;
use crate::store::audit::{AuditFilter, Direction, MAX_PAGE, Sight};
use crate::values::clock::{Clock, SystemClock};
use crate::values::duration;
use crate::values::slug::Slug;
use crate::values::visible;

/// The interval at which `--follow` looks for new records.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(in crate::cli) struct List {
    /// Only events of this kind, such as credential or key.revoke
    #[arg(long, value_name = "KIND")]
    kind: Option<EventKind>,
    /// Only events with this outcome: done, refused or failed
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<Outcome>,
    /// Only events by this actor: serve, local:USER, grant:ID, anonymous
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only events about this space; repeatable
    #[arg(long, value_name = "SPACE")]
    space: Vec<Slug>,
    /// Only events about this feed
    #[arg(long, value_name = "SPACE/FEED", conflicts_with = "space")]
    feed: Option<FeedPath>,
    /// Only events about this grant, or by a user of it
    #[arg(long, value_name = "ID")]
    grant: Option<Uuid>,
    /// Only events with this token
    #[arg(long, value_name = "JTI")]
    jti: Option<Uuid>,
    /// Only records written at this time or later: an RFC 3339 time, or a duration before now, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<When>,
    /// Only records written before this time, in the same form
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<When>,
    /// At most this many, the newest [default: 50 in a table, otherwise all]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,
    /// Keep printing new records, oldest first, until interrupted
    #[arg(long)]
    follow: bool,
    /// The output format; jsonl prints one JSON object a line, oldest first, for exports
    #[arg(long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs that read line by line
    Jsonl,
}

/// A point in time, or a duration before now.
#[derive(Debug, Clone, Copy)]
enum When {
    At(Timestamp),
    Ago(Duration),
}

fn time(text: &str) -> Result<When, &'static str> {
    if let Ok(at) = text.parse() {
        return Ok(When::At(at));
    }
    duration::parse(text).map(When::Ago).map_err(|_| "a time is one of RFC 3339, such as 2026-01-31T12:00:00Z, or a duration before now (90s, 10m, 2h, 30d)")
}

impl When {
    fn timestamp(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
        }
    }
}

pub(super) async fn run(store: &Store, arguments: List) -> Result<(), CommandFailure> {
    let clock = SystemClock::new();
    let (format, follow) = (arguments.output, arguments.follow);
    if follow && format == Format::Json {
        return Err(CommandFailure::usage(
            "--follow: a JSON array cannot be followed, because it is complete only at its end",
        )
        .hint("use --output jsonl"));
    }
    let limit = arguments.limit.or((format == Format::Table).then_some(50));
    let filter = arguments.filter(clock.now());
    let last = match (format, limit) {
        // This result may be very long, so it is not collected in memory in order to be reversed.
        (Format::Jsonl, None) => print_from(store, &filter, format, 0).await?,
        _ => {
            let (mut records, end) = latest(store, &filter, limit.unwrap_or(u32::MAX)).await?;
            if follow || format == Format::Jsonl {
                records.reverse();
            }
            match format {
                Format::Table => table(&records)?,
                Format::Json => output::json(&records)?,
                Format::Jsonl => lines(&records)?,
            }
            end
        }
    };
    if follow { follow_from(store, &filter, format, last, &clock).await } else { Ok(()) }
}

impl List {
    fn filter(self, now: Timestamp) -> AuditFilter {
        let (feed_space, feed) = self.feed.map(|path| (path.space, path.slug)).unzip();
        let spaces: Vec<_> = self.space.into_iter().chain(feed_space).collect();
        AuditFilter {
            kind: self.kind,
            outcome: self.outcome,
            actor: self.actor,
            spaces: (!spaces.is_empty()).then_some(spaces),
            feed,
            grant: self.grant,
            jti: self.jti,
            since: self.since.map(|when| when.timestamp(now)),
            until: self.until.map(|when| when.timestamp(now)),
            // The database belongs to the user of this command, who may see all of it.
            sight: Sight::default(),
        }
    }
}

/// Returns the newest `limit` records, newest first, and the end of the log when they were read.
async fn latest(
    store: &Store,
    filter: &AuditFilter,
    limit: u32,
) -> Result<(Vec<Record>, i64), CommandFailure> {
    let (mut records, mut below, mut end): (Vec<Record>, _, _) = (Vec::new(), None, None);
    loop {
        let wanted = limit.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX)).min(MAX_PAGE);
        let page = store.audit(filter, Direction::NewestFirst(below), wanted).await?;
        let end = *end.get_or_insert(page.end);
        records.extend(page.records);
        below = page.next;
        if below.is_none() || records.len() >= limit as usize {
            records.truncate(limit as usize);
            return Ok((records, end));
        }
    }
}

/// Prints all records after `last`. Returns the sequence number up to which the log was read.
async fn print_from(
    store: &Store,
    filter: &AuditFilter,
    format: Format,
    mut last: i64,
) -> Result<i64, CommandFailure> {
    loop {
        let page = store.audit(filter, Direction::OldestFirst(last), MAX_PAGE).await?;
        match format {
            Format::Table => {
                for record in &page.records {
                    output::line(&visible::line(&columns(record).join("  ")))?;
                }
            }
            Format::Json | Format::Jsonl => lines(&page.records)?,
        }
        match page.next {
            Some(next) => last = next,
            None => return Ok(last.max(page.end)),
        }
    }
}

async fn follow_from(
    store: &Store,
    filter: &AuditFilter,
    format: Format,
    mut last: i64,
    clock: &SystemClock,
) -> Result<(), CommandFailure> {
    loop {
        last = print_from(store, filter, format, last).await?;
        clock.sleep_until(clock.monotonic() + FOLLOW_EVERY).await;
    }
}

fn lines(records: &[Record]) -> Result<(), CommandFailure> {
    if records.is_empty() {
        return Ok(());
    }
    output::json_lines(records)
}

fn table(records: &[Record]) -> Result<(), CommandFailure> {
    output::table(&["SEQ", "AT", "KIND", "OUTCOME", "ACTOR", "ABOUT", "DETAIL"], records.iter().map(columns))
}

fn columns(record: &Record) -> Vec<String> {
    let event = &record.event;
    let about = match (&event.space, &event.feed) {
        (Some(space), Some(feed)) => format!("{space}/{feed}"),
        (Some(space), None) => space.to_string(),
        _ => event
            .kid
            .clone()
            .or(event.grant_id.map(|id| id.to_string()))
            .or(event.client.map(|client| client.to_string()))
            .unwrap_or_default(),
    };
    let mut detail = event.detail.clone().unwrap_or_default();
    // The table truncates the detail. The other formats have all of it.
    if let Some((cut, _)) = detail.char_indices().nth(60) {
        detail.truncate(cut);
        detail.push('…');
    }
    if event.count > 1 {
        detail = format!("{}× {detail}", event.count);
    }
    if event.is_check {
        detail = format!("check: {detail}");
    }
    vec![
        record.seq.to_string(),
        record.at.to_string(),
        event.kind.to_string(),
        event.outcome.to_string(),
        event.actor.to_string(),
        about,
        detail,
    ]
}
