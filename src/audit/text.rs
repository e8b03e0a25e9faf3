//! Untrusted text, escaped and bounded for the log.

use crate::values::visible::is_hidden;

/// The maximum length of a column's text, in bytes.
pub const MAX_TEXT: usize = 2048;

/// The maximum length of a column's identifier, in bytes.
pub const MAX_ID: usize = 256;

/// Escapes every character of `text` that a terminal would obey or not show, and cuts the result to `longest`
/// bytes.
pub(super) fn bounded(text: &str, longest: usize) -> String {
    const CUT: &str = "…";
    let mut kept = String::new();
    // The length to cut to if the rest does not fit.
    let mut cut_at = 0;
    for c in text.chars() {
        if is_hidden(c) {
            kept.extend(c.escape_default())
        } else {
            kept.push(c)
        }
        if kept.len() > longest {
            kept.truncate(cut_at);
            kept.push_str(CUT);
            break;
        }
        if kept.len() <= longest - CUT.len() {
            cut_at = kept.len();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_long_text_is_cut() {
        for (text, longest, kept) in [
            ("plain ünïcode \\ \"quoted\"", 100, "plain ünïcode \\ \"quoted\""),
            ("a\nb\u{1b}[31m\u{0}", 100, "a\\nb\\u{1b}[31m\\u{0}"),
            ("\u{202e}evil\u{200b}", 100, "\\u{202e}evil\\u{200b}"),
            ("123456", 6, "123456"),
            ("1234567", 6, "123…"),
            ("12\n\n\n", 6, "12…"),
        ] {
            assert_eq!(bounded(text, longest), kept, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_input_becomes_short_and_visible(text in any::<String>(), longest in 3_usize..40) {
            let kept = bounded(&text, longest);
            prop_assert!(kept.len() <= longest);
            prop_assert!(!kept.chars().any(is_hidden));
        }
    }
}
