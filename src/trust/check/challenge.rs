//! `WWW-Authenticate` as registries send it: which scheme, and for a bearer token where to ask for it.

use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue};

/// What a registry wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The password itself.
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// The first challenge of a scheme that is known, a bearer token before a password.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let values: Vec<&str> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .collect();
        let bearer = values.iter().find_map(|value| {
            let parameters = parameters(after_scheme(value, "bearer")?);
            let get = |wanted: &str| {
                parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
            };
            Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
        });
        bearer.or_else(|| {
            values.iter().any(|value| after_scheme(value, "basic").is_some()).then_some(Self::Basic)
        })
    }
}

fn after_scheme<'a>(value: &'a str, wanted: &str) -> Option<&'a str> {
    let value = value.trim_start();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case(wanted).then_some(rest)
}

/// `name=value` and `name="value"`, separated by commas (RFC 9110 section 11.2); names in lower case.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',', '\t']).to_ascii_lowercase();
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => until_quote(quoted),
            None => match after.split_once(',') {
                Some((value, after)) => (value.trim().to_owned(), after),
                None => (after.trim().to_owned(), ""),
            },
        };
        found.push((name, value));
        rest = after;
    }
    found
}

/// What stands before the closing quote, with its escapes taken off, and what stands after it.
fn until_quote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_to_ask_for_what() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: &str| text.to_owned();
            Some(Challenge::Bearer {
                realm: owned(realm),
                service: service.map(owned),
                scope: scope.map(owned),
            })
        };
        for (values, expected) in [
            (&["Basic realm=\"r\""][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &["Bearer realm=\"https://r/token\",service=\"r\",scope=\"repository:a/b:pull,push\""],
                bearer("https://r/token", Some("r"), Some("repository:a/b:pull,push")),
            ),
            (
                &["BEARER Realm=https://r/token , service = \"a\\\"b\""],
                bearer("https://r/token", Some("a\"b"), None),
            ),
            (&["Basic realm=\"x\"", "Bearer realm=\"y\""], bearer("y", None, None)),
            (&["Bearer service=\"r\""], None),
            (&["Negotiate"], None),
            (&["Bearer realm=\"never closed"], bearer("never closed", None, None)),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(Challenge::of(&headers), expected, "{values:?}");
        }
    }
}
