//! Makes hidden characters visible.
//!
//! Text from outside (claims, names, responses of registries and servers) goes to terminals and logs. There a
//! control character moves the cursor or begins an escape sequence, and a direction mark or a zero-width
//! character makes text read as something that it is not. The functions here escape such characters.
//! [`is_hidden`] is the only list of them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns true for a character that a terminal obeys, or that is invisible and changes how the text around
/// it reads: control characters (C0, DEL, C1), line and paragraph separators, direction marks, zero-width
/// characters, fillers, and tags.
///
/// Variation selector 16 is not in the list, because emoji in display names end in it.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Escapes hidden characters, line breaks included, as `\n` or `\u{202e}`. The result is one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_hidden, |c, visible| visible.extend(c.escape_default()))
}

/// Escapes hidden characters as [`line`] does, and keeps line feeds.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    let is_escaped = |c| c != '\n' && is_hidden(c);
    escaped(text, is_escaped, |c, visible| visible.extend(c.escape_default()))
}

/// Escapes as [`lines`] does and indents every line after the first by `indent`. Text from outside therefore
/// cannot begin a line of its own, such as `hint:`.
pub(crate) fn indented(text: &str, indent: &str) -> String {
    lines(text).replace('\n', &format!("\n{indent}"))
}

/// Escapes the hidden characters of a JSON text as `\u202e`. The text keeps its value and is safe to print.
///
/// In JSON, a hidden character other than a line feed can only be inside a string.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let is_escaped = |c| c != '\n' && is_hidden(c);
    escaped(text, is_escaped, |c, visible| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string cannot fail.
            let _ = write!(visible, "\\u{unit:04x}");
        }
    })
}

fn escaped(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    escape: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_escaped(c) { escape(c, &mut visible) } else { visible.push(c) }
    }
    Cow::Owned(visible)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_a_terminal_obeys_or_hides_are_escaped_and_others_are_kept() {
        for (text, shown) in [
            ("plain ünïcode \\ \"quoted\" 日本 🏷\u{fe0f}", "plain ünïcode \\ \"quoted\" 日本 🏷\u{fe0f}"),
            ("a\u{1b}[2Jb\u{7f}\u{9b}31m", "a\\u{1b}[2Jb\\u{7f}\\u{9b}31m"),
            ("one\ntwo\r\tthree\u{0}", "one\\ntwo\\r\\tthree\\u{0}"),
            (
                "\u{202e}gnp\u{2066}.\u{200b}\u{200e}\u{61c}",
                "\\u{202e}gnp\\u{2066}.\\u{200b}\\u{200e}\\u{61c}",
            ),
            ("a\u{2028}b\u{2029}\u{85}", "a\\u{2028}b\\u{2029}\\u{85}"),
            ("\u{feff}\u{ad}\u{e0041}\u{e007f}", "\\u{feff}\\u{ad}\\u{e0041}\\u{e007f}"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("one\ntwo\u{1b}[31m\r\n"), "one\ntwo\\u{1b}[31m\\r\n");
        assert_eq!(indented("refused\nhint: run this\u{8}", "  "), "refused\n  hint: run this\\u{8}");
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({
            "\u{202e}name": ["\u{1b}[2J", "\u{7f}\u{9b}", "a\u{200b}b", "\u{e0041}", "\\u202e", "ü\n"],
        });
        let plain = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&plain);
        assert!(!shown.chars().any(|c| c != '\n' && is_hidden(c)), "{shown}");
        assert!(shown.contains("\\udb40\\udc41"), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    proptest! {
        #[test]
        fn nothing_hidden_is_left_in_any_text(text in any::<String>()) {
            prop_assert!(!line(&text).chars().any(is_hidden));
            prop_assert!(!lines(&text).chars().any(|c| c != '\n' && is_hidden(c)));
            let value = serde_json::json!({ text.as_str(): text });
            let plain = value.to_string();
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&plain)).unwrap(), value);
        }
    }
}
