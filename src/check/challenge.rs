//! Parses the `WWW-Authenticate` challenges of registries: the scheme and, for a bearer token, the URL that
//! issues it.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use http_auth::ChallengeRef;
use http_auth::parser::ChallengeParser;

/// The maximum length of a header value that is parsed. The challenges of registries have a few hundred
/// bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// The authorization that a registry requires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// The password itself (HTTP Basic).
    Basic,
    /// A token from `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Returns the first challenge with a known scheme; a bearer token takes precedence over a password.
    ///
    /// A value is parsed up to its first syntax error: the challenges before it count.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut is_basic = false;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let Some(value) = value.to_str().ok().filter(|value| value.len() <= MAX_LENGTH) else { continue };
            for challenge in ChallengeParser::new(value).map_while(Result::ok) {
                let bearer = Self::bearer(&challenge);
                if bearer.is_some() {
                    return bearer;
                }
                is_basic |= challenge.scheme.eq_ignore_ascii_case("basic");
            }
        }
        is_basic.then_some(Self::Basic)
    }

    fn bearer(challenge: &ChallengeRef<'_>) -> Option<Self> {
        if !challenge.scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let get = |wanted: &str| {
            let mut parameters = challenge.params.iter();
            let (_, value) = parameters.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
            Some(value.to_unescaped())
        };
        Some(Self::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_challenge_tells_the_scheme_and_the_address_of_the_token() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let owned = |text: &str| text.to_owned();
            Some(Challenge::Bearer {
                realm: owned(realm),
                service: service.map(owned),
                scope: scope.map(owned),
            })
        };
        for (values, expected) in [
            (&[r#"Basic realm="r""#][..], Some(Challenge::Basic)),
            (&["basic"], Some(Challenge::Basic)),
            (
                &[r#"Bearer realm="https://r/token",service="r",scope="repository:a/b:pull,push""#],
                bearer("https://r/token", Some("r"), Some("repository:a/b:pull,push")),
            ),
            (&[r#"BEARER Realm=r , service = "a\"b""#], bearer("r", Some("a\"b"), None)),
            (&[r#"Basic realm="x""#, r#"Bearer realm="y""#], bearer("y", None, None)),
            // Several challenges in one value: parameters belong only to their own challenge.
            (&[r#"Basic realm="x", Bearer realm="y",service="s""#], bearer("y", Some("s"), None)),
            (&[r#"Bearer realm="y",service="s", Basic realm="x""#], bearer("y", Some("s"), None)),
            (&[r#"Bearer realm="y", Basic realm="x",scope="z""#], bearer("y", None, None)),
            (&[r#"Bearer realm="y",Bearer realm="z""#], bearer("y", None, None)),
            (&[r#"Bearer error="x", Basic realm="r""#], Some(Challenge::Basic)),
            (&[r#"Digest realm="x, Bearer", nonce=n, Basic realm="r""#], Some(Challenge::Basic)),
            (&[r#"Custom a="1, Bearer realm=\"no\"", Bearer realm="y, z""#], bearer("y, z", None, None)),
            (&["Negotiate, Bearer realm=y"], bearer("y", None, None)),
            (&[", ,Negotiate,,Basic,"], Some(Challenge::Basic)),
            // Challenges before a syntax error count, those after it do not.
            (&[r#"Basic realm="x", Bearer realm="never closed"#], Some(Challenge::Basic)),
            (&["Negotiate dG9rZW4=, Bearer realm=y"], None),
            (&["Negotiate dG9rZW4=", "Bearer realm=y"], bearer("y", None, None)),
            (&[r#"Bearer service="r""#], None),
            (&["Negotiate"], None),
            (&["Bearer"], None),
            (&[r#"Bearer realm="never closed"#], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(Challenge::of(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn a_longer_value_than_any_registry_sends_is_not_read() {
        let challenge = |length: usize| {
            let start = "Bearer realm=y,service=";
            let value = format!("{start}{}", "s".repeat(length - start.len()));
            Challenge::of(&HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_str(&value).unwrap())]))
        };
        assert!(challenge(MAX_LENGTH).is_some());
        assert_eq!(challenge(MAX_LENGTH + 1), None);
    }
}
