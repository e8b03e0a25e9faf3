//! Quoting for generated shell scripts and Terraform files: types that templates print instead of bare
//! strings, so that no text gets into a script unquoted, and the rule for Terraform. The rule for a shell is
//! [`quoted`](crate::values::shell::quoted).
//!
//! Implemented here because crates that quote do not know HCL's templates.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::values::shell::quoted;

/// Returns `text` as a quoted string of HCL, Terraform's language, without templates in it.
#[must_use]
pub(crate) fn hcl_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    let mut before = ' ';
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            // `${` and `%{` begin templates. HCL's own escape doubles the first character, but a run of them
            // before the brace is ambiguous. An escaped brace is not.
            '{' if matches!(before, '$' | '%') => quoted.push_str("\\u007b"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
        before = c;
    }
    quoted.push('"');
    quoted
}

/// A word of a shell script, which prints itself quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(String);

impl Word {
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self(quoted(text.as_ref()))
    }

    /// Returns JSON on several lines, readable for people.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_string_pretty(value).map(Self::new)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A string of HCL, which prints itself quoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hcl(String);

impl Hcl {
    pub(super) fn new(text: impl AsRef<str>) -> Self {
        Self(hcl_string(text.as_ref()))
    }

    /// Returns a list on one line.
    pub(super) fn list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let items: Vec<_> = texts.into_iter().map(|text| hcl_string(text.as_ref())).collect();
        Self(format!("[{}]", items.join(", ")))
    }
}

impl fmt::Display for Hcl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reduces a display name to the characters permitted in cloud descriptions: letters and digits of any
/// script, and visible ASCII. Every other character, such as a mark that changes the direction of writing,
/// becomes `?`.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_quote_or_template_of_hcl_is_left_open(text in "[\"\\\\${}%\n\r\ta]{0,16}|\\PC{0,12}") {
            let quoted = hcl_string(&text);
            let inner = &quoted[1..quoted.len() - 1];
            let bare = inner.replace("\\\\", "").replace("\\\"", "");
            prop_assert!(!bare.contains('"') && !bare.contains('\n'), "{quoted}");
            prop_assert!(!inner.contains("${") && !inner.contains("%{"), "{quoted}");
        }
    }

    #[test]
    fn hcl_strings_hold_no_templates() {
        for (text, quoted) in [
            ("a", r#""a""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("${file(\"x\")}", r#""$\u007bfile(\"x\")}""#),
            ("%{if}$${b}{c}", r#""%\u007bif}$$\u007bb}{c}""#),
            ("a\nb\tc\u{7f}", r#""a\nb\u0009c\u007f""#),
        ] {
            assert_eq!(hcl_string(text), quoted);
        }
        assert_eq!(Hcl::list(["a", "b\""]).to_string(), r#"["a", "b\""]"#);
    }

    #[test]
    fn plain_text_keeps_letters_and_nothing_invisible() {
        assert_eq!(plain("Prod „ü“ 東京 \u{202e}x\u{200b}'$("), "Prod ?ü? 東京 ?x?'$(");
    }
}
