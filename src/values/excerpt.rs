//! Excerpts of refused input for messages.
//!
//! Input is untrusted and messages go to terminals and logs. An excerpt is short, cannot move the cursor or
//! start a new line, and never repeats the part before an `@`, which may be a password, or a grant's token,
//! which people paste into the wrong place.

/// The maximum number of characters of the input in an excerpt.
const SHOWN: usize = 60;

/// The prefix of every grant's token.
const TOKEN_PREFIX: &str = "carnet_";

/// The number of digits after the prefix from which a text counts as a token, also if it was cut. A token has
/// 71, of which the first 22 are no secret.
const TOKEN_DIGITS: usize = 30;

/// Returns the position at which the digits of a grant's token begin in `text`.
pub(crate) fn token_in(text: &str) -> Option<usize> {
    text.match_indices(TOKEN_PREFIX).map(|(start, prefix)| start + prefix.len()).find(|start| {
        let digits = text.bytes().skip(*start).take_while(u8::is_ascii_alphanumeric);
        digits.take(TOKEN_DIGITS).count() == TOKEN_DIGITS
    })
}

/// Returns the start of `value`, quoted and escaped, without anything before its last `@` and without a
/// grant's token.
pub(crate) fn excerpt(value: &str) -> String {
    let (hidden, shown) = match value.rsplit_once('@') {
        Some((_, after)) => ("…@", after),
        None => ("", value),
    };
    if let Some(digits) = token_in(shown) {
        let before: String = shown[..digits].chars().take(SHOWN).collect();
        return format!("{:?}…", format!("{hidden}{before}"));
    }
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", format!("{hidden}{}", &shown[..end])),
        None => format!("{:?}", format!("{hidden}{shown}")),
    }
}

/// Formats one character so that look-alikes can be told apart: `'P'`, `'а' (U+0430)`.
pub(crate) fn character(c: char) -> String {
    if c.is_ascii() { format!("{c:?}") } else { format!("{c:?} (U+{:04X})", u32::from(c)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_escaped_and_without_user_info() {
        let table = [
            ("Prod!", r#""Prod!""#),
            ("", r#""""#),
            ("a\n\u{1b}[31m\"", r#""a\n\u{1b}[31m\"""#),
            ("it's", r#""it's""#),
            ("\u{202e}evil", r#""\u{202e}evil""#),
            ("user:hunter2@host", r#""…@host""#),
            ("carnet_prod", r#""carnet_prod""#),
            ("carnet_0123456789012345678901ABCDEFGHIJ", r#""carnet_"…"#),
            ("CARNET_TOKEN=carnet_0123456789012345678901ABCDEFGHIJ/", r#""CARNET_TOKEN=carnet_"…"#),
        ];
        for (value, shown) in table {
            assert_eq!(excerpt(value), shown);
        }
        assert_eq!(excerpt(&"ü".repeat(60)), format!("\"{}\"", "ü".repeat(60)));
        assert_eq!(excerpt(&"ü".repeat(61)), format!("\"{}\"…", "ü".repeat(60)));
    }

    #[test]
    fn look_alike_characters_are_distinguished() {
        assert_eq!(character('a'), "'a'");
        assert_eq!(character('\n'), r"'\n'");
        assert_eq!(character('\u{430}'), "'а' (U+0430)");
        assert_eq!(character('\u{200b}'), r"'\u{200b}' (U+200B)");
    }
}
