//! Conversions between values and the columns that hold them.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::StoreError;

/// Converts a time to its stored form: milliseconds since the Unix epoch.
pub(super) fn to_millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

pub(super) fn from_millis(table: &'static str, row: &str, millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| corrupt(table, row, format!("{millis} is not a time")))
}

/// Converts a duration to its stored form: whole seconds.
pub(super) fn to_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn from_seconds(table: &'static str, row: &str, seconds: i64) -> Result<Duration, StoreError> {
    let seconds =
        u64::try_from(seconds).map_err(|_| corrupt(table, row, format!("{seconds} is not a duration")))?;
    Ok(Duration::from_secs(seconds))
}

/// Parses the text of a column. Text that does not parse is [`StoreError::Corrupt`].
pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    row: &str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| corrupt(table, row, error.to_string()))
}

pub(super) fn corrupt(table: &'static str, row: &str, problem: impl Into<String>) -> StoreError {
    StoreError::Corrupt { table, row: row.to_owned(), problem: problem.into() }
}
