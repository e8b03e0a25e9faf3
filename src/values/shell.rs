//! Arguments in commands that people run: words of a shell, and lists of gcloud.
//!
//! Implemented here because the rule for a shell is one line, and crates that quote for one know nothing of
//! gcloud.

use std::borrow::Cow;

/// The separators for gcloud's list syntax `^SEPARATOR^VALUE`, which replaces the comma.
const SEPARATORS: [char; 6] = [';', '|', '~', '%', '#', '!'];

/// Returns `text` as one quoted word of a POSIX shell. It may contain anything except NUL.
#[must_use]
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns `text` as one word of a shell, unquoted if every shell reads it literally.
#[must_use]
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => quoted(text).into(),
    }
}

/// Returns `text` as the only element of a list of gcloud, in which a comma would separate elements. Returns
/// `None` if `text` contains every separator.
#[must_use]
pub(crate) fn gcloud_list(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(',') && !text.starts_with('^') {
        return Some(text.into());
    }
    let separator = SEPARATORS.into_iter().find(|separator| !text.contains(*separator))?;
    Some(format!("^{separator}^{text}").into())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    const HOSTILE: [&str; 9] = [
        "",
        "'; touch pwned; '",
        "$(touch pwned)`touch pwned`",
        "a'b\"c\\d\n-e !f * ~ # g",
        "'",
        "''\\''",
        "-rf",
        "\u{202e}ünï\u{2028}",
        "a/plain:word@1,2",
    ];

    /// Returns the words as `sh` reads them, separated by NUL.
    fn through_sh(words: &[&str]) -> Vec<u8> {
        let words: Vec<_> = words.iter().flat_map(|text| [quoted(text), word(text).into_owned()]).collect();
        let script = format!("printf '%s\\0' {}", words.join(" "));
        let output = Command::new("sh").args(["-c", &script]).env_clear().output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    /// Returns each word twice, as [`through_sh`] does.
    fn with_nul(words: &[&str]) -> Vec<u8> {
        words.iter().flat_map(|word| [word, word]).flat_map(|word| word.bytes().chain([0])).collect()
    }

    #[test]
    fn a_shell_sees_hostile_words_as_they_are() {
        assert_eq!(through_sh(&HOSTILE), with_nul(&HOSTILE));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_returns_any_words_unchanged(
            words in prop::collection::vec("[^\0]{0,12}|['\"$`\\\\!(){};&|\n]{0,8}", 1..20)
        ) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            prop_assert_eq!(through_sh(&words), with_nul(&words));
        }
    }

    #[test]
    fn a_text_with_commas_stays_one_element_of_a_list() {
        for (text, list) in [
            ("plain", Some("plain")),
            ("a,b", Some("^;^a,b")),
            ("a,b;c", Some("^|^a,b;c")),
            ("^x^y", Some("^;^^x^y")),
            (",;|~%#!", None),
        ] {
            assert_eq!(gcloud_list(text).as_deref(), list, "{text}");
        }
    }
}
