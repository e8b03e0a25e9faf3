//! Formats times for people.

use jiff::Timestamp;

/// Formats `time` relative to `now`, such as “in 3 days” or “2 hours ago”.
pub(super) fn relative(time: Timestamp, now: Timestamp) -> String {
    let seconds = time.as_second().saturating_sub(now.as_second());
    let span = span(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// Formats a number of seconds, such as “3 days”.
pub(super) fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        seconds if seconds < 60 => (seconds, "second"),
        seconds if seconds < 2 * 3600 => (rounded(seconds, 60), "minute"),
        seconds if seconds < 2 * 86_400 => (rounded(seconds, 3600), "hour"),
        seconds => (rounded(seconds, 86_400), "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

fn rounded(seconds: u64, unit: u64) -> u64 {
    (seconds + unit / 2) / unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for (offset, words) in [
            (0, "now"),
            (1, "in 1 second"),
            (-59, "59 seconds ago"),
            (60, "in 1 minute"),
            (-7140, "119 minutes ago"),
            (7200, "in 2 hours"),
            (3 * 86_400 - 5, "in 3 days"),
        ] {
            assert_eq!(relative(Timestamp::from_second(1_000_000_000 + offset).unwrap(), now), words);
        }
    }
}
