//! Excerpts of refused input for messages.
//!
//! Input is untrusted and messages go to terminals and logs. An excerpt is short, cannot move the cursor or
//! start a new line, and never repeats the part before an `@`, which may be a password, or a grant's token or
//! a master key, which people paste into the wrong place.

use super::pasted::secret_in;

/// The maximum number of characters of the input in an excerpt.
const SHOWN: usize = 60;

/// Returns the start of `value`, quoted and escaped, without anything before its last `@` and without a
/// grant's token or a master key.
pub(crate) fn excerpt(value: &str) -> String {
    let (hidden, shown) = match value.rsplit_once('@') {
        Some((_, after)) => ("…@", after),
        None => ("", value),
    };
    if let Some(secret) = secret_in(shown) {
        let before: String = shown[..secret].chars().take(SHOWN).collect();
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
            ("https://carnet-master-key-1:ABCDEFGHIJ", r#""https://carnet-master-key-1:"…"#),
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
