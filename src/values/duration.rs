//! Durations as users write them: `600`, `90s`, `10m`, `1h`, `30d`.

use std::time::Duration;

/// The error for a text that is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a whole number of seconds (600), or has a unit (90s, 10m, 1h, 30d)")]
pub struct DurationError;

/// Parses a duration. A number without a unit counts seconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = match text.as_bytes() {
        [.., b's'] => (&text[..text.len() - 1], 1),
        [.., b'm'] => (&text[..text.len() - 1], 60),
        [.., b'h'] => (&text[..text.len() - 1], 3600),
        [.., b'd'] => (&text[..text.len() - 1], 24 * 3600),
        _ => (text, 1),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationError);
    }
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or(DurationError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_and_without_unit() {
        for (text, seconds) in
            [("600", 600), ("90s", 90), ("10m", 600), ("1h", 3600), ("30d", 2_592_000), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "s", "-1", "+1", "1.5h", "1 h", "1w", "99999999999999999999", "18446744073709551615d", "１h"]
        {
            assert_eq!(parse(text), Err(DurationError), "{text}");
        }
    }
}
