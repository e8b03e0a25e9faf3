//! Grants' tokens and master keys in texts where they do not belong.
//!
//! People paste secrets into the wrong flag, variable or field. A text that holds one is not stored, names no
//! file, and is shown without it. This is the only place that knows the form of both secrets.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

/// The form of a secret: a prefix, and the characters that continue it.
struct Form {
    /// The prefix, in lower case. URLs write it in lower case, and forms escape its colon.
    prefixes: &'static [&'static str],
    /// Returns whether a byte continues the secret.
    continues: fn(&u8) -> bool,
    /// The number of characters after the prefix from which a text counts as the secret, also if it was cut.
    shortest: usize,
}

const FORMS: [Form; 2] = [
    // A token has 71 characters after the prefix. The first 22 are the grant's ID, which is no secret.
    Form { prefixes: &["carnet_"], continues: u8::is_ascii_alphanumeric, shortest: 22 + 8 },
    // A master key has 43 characters after the prefix, in base64url.
    Form {
        prefixes: &["carnet-master-key-1:", "carnet-master-key-1%3a"],
        continues: |byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte),
        shortest: 1,
    },
];

/// Returns the position at which the characters of the first secret in `text` begin.
pub(crate) fn secret_in(text: &str) -> Option<usize> {
    secrets(text).next().map(|secret| secret.start)
}

/// Returns `text` with the characters of each secret, after its prefix, replaced by `…`.
pub(crate) fn cleared(text: &str) -> Cow<'_, str> {
    let mut secrets = secrets(text).peekable();
    if secrets.peek().is_none() {
        return Cow::Borrowed(text);
    }
    let (mut cleared, mut done) = (String::with_capacity(text.len()), 0);
    while let Some(mut secret) = secrets.next() {
        // The end of one may be the prefix of the next.
        while let Some(next) = secrets.next_if(|next| next.start <= secret.end) {
            secret.end = secret.end.max(next.end);
        }
        cleared.push_str(&text[done..secret.start]);
        cleared.push('…');
        done = secret.end;
    }
    cleared.push_str(&text[done..]);
    Cow::Owned(cleared)
}

/// Returns the path of the first member of `value` that holds a secret, in its name or its text, such as
/// `context.tenant` or `repositories[1]`. A name that holds one is left out.
pub(crate) fn member_with_secret(value: &Value) -> Option<String> {
    fn find(value: &Value, path: &str) -> Option<String> {
        match value {
            Value::String(text) => secret_in(text).map(|_| path.to_owned()),
            Value::Array(items) => {
                items.iter().enumerate().find_map(|(at, item)| find(item, &format!("{path}[{at}]")))
            }
            Value::Object(members) => members.iter().find_map(|(name, member)| match secret_in(name) {
                Some(_) => Some(path.to_owned()),
                None if path.is_empty() => find(member, name),
                None => find(member, &format!("{path}.{name}")),
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }
    find(value, "")
}

/// Returns the positions of the characters of each secret, in the order of their beginnings.
fn secrets(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    // Every position counts: a secret may begin inside what looks like another.
    bytes.iter().enumerate().filter(|(_, byte)| byte.eq_ignore_ascii_case(&b'c')).filter_map(|(at, _)| {
        FORMS.iter().find_map(|form| {
            let has = |prefix: &&&str| {
                bytes[at..]
                    .get(..prefix.len())
                    .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
            };
            let start = at + form.prefixes.iter().find(has)?.len();
            let length = bytes[start..].iter().take_while(|byte| (form.continues)(byte)).count();
            (length >= form.shortest).then_some(start..start + length)
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first 22 characters are the grant's ID.
    const TOKEN: &str = "carnet_0123456789012345678901[0-9A-Za-z]{8,49}";
    const MASTER_KEY: &str = "carnet-master-key-1:[0-9A-Za-z_-]{8,43}";

    #[test]
    fn prefixes_and_names_without_a_secret_stay() {
        for text in [
            "",
            "carnet",
            "carnet_exchange_seconds_total",
            "CARNET_NEXT_MASTER_KEY_FILE",
            "one line, `carnet-master-key-1:` and 43 characters of base64url",
            "carnet_0123456789012345678901ABCDEFG",
            "ünïcode carnet_",
        ] {
            assert_eq!((cleared(text), secret_in(text)), (Cow::Borrowed(text), None));
        }
    }

    #[test]
    fn a_secret_is_cleared_up_to_the_first_character_that_cannot_be_its_own() {
        let token = format!("carnet_{}", "0aZ".repeat(24));
        for (text, shown) in [
            (format!("the file {token}/master.key"), "the file carnet_…/master.key"),
            (format!("xcarnet_{token}ü"), "xcarnet_carnet_…ü"),
            (format!("{token}{token}"), "carnet_…_…"),
            (token.to_lowercase(), "carnet_…"),
            ("carnet-master-key-1:aB_-9\n".to_owned(), "carnet-master-key-1:…\n"),
            ("carnet-master-key-1%3Aab".to_owned(), "carnet-master-key-1%3A…"),
            (format!("carnet-master-key-1:{token}"), "carnet-master-key-1:…"),
            (format!("{token} {token}"), "carnet_… carnet_…"),
        ] {
            assert_eq!(cleared(&text), shown, "{text}");
            assert!(secret_in(&text).is_some());
        }
    }

    #[test]
    fn the_member_that_holds_a_secret_is_named_without_it() {
        let token = format!("carnet_{}", "0aZ".repeat(24));
        for (value, path) in [
            (serde_json::json!({ "name": "Prod", "version": 1, "audience": [null, true] }), None),
            (serde_json::json!({ "audience": token }), Some("audience")),
            (serde_json::json!({ "context": { "tenant": token } }), Some("context.tenant")),
            (serde_json::json!({ "repositories": ["a", { "b": token }] }), Some("repositories[1].b")),
            (serde_json::json!({ "context": { token.as_str(): 1 } }), Some("context")),
            (serde_json::json!({ token.as_str(): 1 }), Some("")),
        ] {
            assert_eq!(member_with_secret(&value).as_deref(), path);
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives_in_any_text_beside_any_other(
            before in "\\PC{0,12}|[a-zA-Z0-9_-]{0,12}",
            secrets in prop::collection::vec(prop_oneof![TOKEN, MASTER_KEY], 1..4),
            between in "\\PC{0,3}|[a-zA-Z0-9_:-]{0,3}",
            after in "\\PC{0,12}|[a-zA-Z0-9_-]{0,12}",
        ) {
            let text = format!("{before}{}{after}", secrets.join(&between));
            let shown = cleared(&text);
            for secret in &secrets {
                let hidden = if secret.starts_with("carnet_") { &secret[29..] } else { &secret[20..] };
                prop_assert!(!shown.contains(hidden), "{} in {}", hidden, shown);
            }
            prop_assert!(secret_in(&text).is_some());
            prop_assert_eq!(secret_in(&shown), None);
        }

        #[test]
        fn text_without_a_prefix_stays_as_it_is(text in "[^cC]{0,80}") {
            prop_assert_eq!(&*cleared(&text), text.as_str());
        }
    }
}
