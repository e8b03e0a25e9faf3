//! The text of a change in a record. It is short enough to keep every member's name, and the members that
//! decide about trust come first.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

use super::text::{MAX_TEXT, bounded};

/// The maximum lengths of a value that are tried, in bytes. The first one with which the whole text fits a
/// detail is used.
const LONGEST: [usize; 4] = [128, 64, 32, 12];

/// The space reserved for the text before and after.
const MARGIN: usize = 64;

/// The number of bytes in the digest that represents a cut value.
const DIGEST_LEN: usize = 8;

/// The members that come first, in this order. The provider's members, which have no fixed names, follow
/// them.
const FIRST: [&str; 1] = ["endpoints"];

/// The members that come last, in this order.
const LAST: [&str; 10] = [
    "audience",
    "subject_keys",
    "alg",
    "token_lifetime",
    "registry",
    "space",
    "slug",
    "id",
    "version",
    "name",
];

/// Lists every member of `new`, as `name value, …`.
#[must_use]
pub fn listed(new: &Value) -> String {
    fitting(&flat(new), |text, (name, value), longest| {
        let _ = write!(text, "{name} {}", short(value, longest));
    })
}

/// Lists every member that differs, as `name old → new, …`, except `version`.
#[must_use]
pub fn differing(old: &Value, new: &Value) -> String {
    let (old, new) = (flat(old), flat(new));
    let value = |members: &[(String, Value)], wanted: &str| {
        members.iter().find(|(name, _)| name == wanted).map_or(Value::Null, |(_, value)| value.clone())
    };
    let mut names: Vec<&String> = old.iter().chain(&new).map(|(name, _)| name).collect();
    names.sort_by_key(|name| rank(name));
    names.dedup();
    let changed: Vec<_> = names
        .into_iter()
        .filter(|name| *name != "version")
        .map(|name| (name.clone(), [value(&old, name), value(&new, name)]))
        .filter(|(_, [old, new])| old != new)
        .collect();
    fitting(&changed, |text, (name, [old, new]), longest| {
        let _ = write!(text, "{name} {} → {}", short(old, longest), short(new, longest));
    })
}

fn fitting<T>(parts: &[T], write: impl Fn(&mut String, &T, usize)) -> String {
    let mut whole = String::new();
    for longest in LONGEST {
        whole.clear();
        for part in parts {
            if !whole.is_empty() {
                whole.push_str(", ");
            }
            write(&mut whole, part, longest);
        }
        if whole.len() <= MAX_TEXT - MARGIN {
            break;
        }
    }
    whole
}

/// The members in the order of the text. An object is replaced by its own members, so that each is listed.
fn flat(members: &Value) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (name, value) in members.as_object().into_iter().flat_map(Map::iter) {
        match value {
            Value::Object(inner) => {
                flat.extend(inner.iter().map(|(own, value)| (format!("{name}.{own}"), value.clone())));
            }
            value => flat.push((name.clone(), value.clone())),
        }
    }
    flat.sort_by_key(|(name, _)| rank(name));
    flat
}

fn rank(name: &str) -> (usize, String) {
    let member = name.split('.').next().unwrap_or(name);
    let provider = FIRST.len();
    let rank = match FIRST.iter().position(|first| *first == member) {
        Some(at) => at,
        None => LAST.iter().position(|last| *last == member).map_or(provider, |at| provider + 1 + at),
    };
    (rank, name.to_owned())
}

/// Formats `value` as JSON. If that is longer than `longest` bytes, returns its beginning and a digest of the
/// whole.
fn short(value: &Value, longest: usize) -> String {
    let whole = value.to_string();
    let shown = bounded(&whole, usize::MAX);
    if shown.len() <= longest {
        return shown;
    }
    let mut short = bounded(&whole, longest);
    short.push_str(" sha256:");
    for byte in digest(&SHA256, whole.as_bytes()).as_ref().iter().take(DIGEST_LEN) {
        let _ = write!(short, "{byte:02x}");
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_decide_about_trust_come_first_and_are_never_cut_off() {
        let old = json!({"audience": "a", "endpoints": {}, "name": "x", "role_arn": "r", "version": 1});
        let new = json!({
            "audience": "b".repeat(5000),
            "endpoints": {"ecr": format!("https://{}", "c".repeat(5000)), "sts": "https://evil.example"},
            "name": "y",
            "role_arn": "s",
            "version": 2,
        });
        let text = differing(&old, &new);
        let places = [
            "endpoints.ecr null → ",
            "endpoints.sts null → \"https://evil.example\"",
            "role_arn",
            "audience",
            "name",
        ]
        .map(|part| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}")));
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("version"), "{text}");
    }

    #[test]
    fn values_with_the_same_beginning_are_distinguished_by_their_digests() {
        let [old, new] = ["old", "new"].map(|end| json!({"audience": format!("{}{end}", "a".repeat(500))}));
        let text = differing(&old, &new);
        let (old, new) = text.split_once(" → ").unwrap();
        assert!(old.contains("… sha256:") && new.contains("… sha256:"), "{text}");
        assert_ne!(old.rsplit(':').next(), new.rsplit(':').next());
    }

    proptest! {
        /// Has more members than any feed, with values whose characters each take several bytes when escaped.
        #[test]
        fn the_whole_fits_whatever_the_values_are(values in prop::collection::vec("[\u{202e}\"a]{0,300}", 16)) {
            let members: Map<String, Value> = values
                .iter()
                .enumerate()
                .map(|(number, value)| (format!("some_long_member_{number}"), value.as_str().into()))
                .collect();
            let new = Value::Object(members);
            let detail = differing(&json!({}), &new);
            prop_assert!(detail.len() <= MAX_TEXT - MARGIN);
            prop_assert!(detail.contains("some_long_member_9"));
            prop_assert!(listed(&new).len() <= MAX_TEXT - MARGIN);
        }
    }
}
