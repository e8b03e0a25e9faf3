//! The cache key: a fixed-size digest of the inputs that determine a credential.

use aws_lc_rs::digest::{Context as Digest, SHA256};

use crate::feed::scope::{Action, Scope};
use crate::oidc::subject::Context;
use crate::values::issuer_url::IssuerUrl;

/// The inputs that determine a credential, except the feed and its version. A digest, because callers choose
/// the length of the inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn of(issuer: &IssuerUrl, context: &Context, scope: &Scope) -> Self {
        let mut digest = Digest::new(&SHA256);
        // Each part is prefixed with its length and each list with its count, so that no two inputs collide.
        let mut add = |part: &str| {
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        };
        add(issuer.as_str());
        add(&context.iter().count().to_string());
        for (key, value) in context.iter() {
            add(key.as_str());
            add(value.as_str());
        }
        for action in Action::ALL {
            add(if scope.allows(action) { action.as_str() } else { "" });
        }
        if let Some(repositories) = scope.repositories() {
            repositories.iter().for_each(|repository| add(repository.as_str()));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest.finish().as_ref());
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn different_requests_have_different_keys_and_equal_ones_the_same() {
        let issuers = ["https://a.example", "https://b.example"].map(|url| url.parse::<IssuerUrl>().unwrap());
        let contexts = [r"{}", r#"{"tenant":"a"}"#, r#"{"project":"a"}"#, r#"{"project":"a","tenant":"a"}"#];
        let scopes = [
            r"{}",
            r#"{"actions":["pull"]}"#,
            r#"{"repositories":["a"]}"#,
            r#"{"repositories":["a","b"]}"#,
            r#"{"repositories":["ab"]}"#,
            r#"{"repositories":["a"],"actions":["push"]}"#,
        ];
        let keys = || {
            let mut keys = Vec::new();
            for issuer in &issuers {
                for context in contexts {
                    for scope in scopes {
                        let context = serde_json::from_str(context).unwrap();
                        keys.push(Key::of(issuer, &context, &serde_json::from_str(scope).unwrap()));
                    }
                }
            }
            keys
        };
        let first = keys();
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), first.len());
        assert_eq!(first, keys());
    }
}
