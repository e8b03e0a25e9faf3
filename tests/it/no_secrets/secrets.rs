//! The secrets to search for: everything that was issued, sent or sealed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::needles::Needles;

/// Members and elements of the clouds' responses whose values are secret.
const SECRET_NAMES: [&str; 9] = [
    "SecretAccessKey",
    "SessionToken",
    "authorizationToken",
    "access_token",
    "refresh_token",
    "accessToken",
    "password",
    "registry_token",
    "token",
];
/// Shorter secrets are searched for as a whole.
const PIECE: usize = 24;

#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) all: Vec<(String, Vec<u8>)>,
    /// The names under which secrets occurred; the same secret may occur in several places.
    pub(crate) seen: BTreeSet<String>,
}

impl Secrets {
    /// Adds a secret; for a JWT also its signature, without which it is useless.
    pub(crate) fn add(&mut self, name: &str, secret: &str) {
        if let (3, Some((_, signature))) = (secret.split('.').count(), secret.rsplit_once('.')) {
            self.add_bytes(&format!("{name}'s signature"), signature.as_bytes());
        }
        self.add_bytes(name, secret.as_bytes());
    }

    /// Adds a secret that is not text.
    pub(crate) fn add_bytes(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 8, "{name} is too short to be looked for");
        self.seen.insert(name.to_owned());
        if self.all.iter().all(|(_, known)| known != secret) {
            self.all.push((name.to_owned(), secret.to_owned()));
        }
    }

    /// Adds the values of a JSON document under secret names, at any depth.
    pub(crate) fn add_members(&mut self, name: &str, json: &Value) {
        match json {
            Value::Object(members) => {
                for (member, value) in members {
                    match value.as_str() {
                        Some(secret) if SECRET_NAMES.contains(&member.as_str()) => {
                            self.add(&format!("{name}: {member}"), secret);
                        }
                        _ => self.add_members(name, value),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.add_members(name, value)),
            _ => {}
        }
    }

    /// Adds a cloud's response, in JSON or XML.
    pub(crate) fn add_answer(&mut self, response: &str) {
        self.add_tokens("a token in a cloud's answer", response);
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if let Ok(json) = serde_json::from_str(body) {
            self.add_members("a cloud's answer", &json);
        }
        for name in SECRET_NAMES {
            let inside = body.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
            if let Some((secret, _)) = inside {
                self.add(&format!("a cloud's {name}"), secret);
            }
        }
    }

    /// Adds every JWT in a text.
    pub(crate) fn add_tokens(&mut self, name: &str, text: &str) {
        for (at, _) in text.match_indices("eyJ") {
            let rest = &text[at..];
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
            if rest[..end].split('.').count() == 3 {
                self.add(name, &rest[..end]);
            }
        }
    }

    /// Returns the search patterns: every secret in every encoding, and the formats of private keys and
    /// tokens.
    pub(crate) fn needles(&self) -> Needles {
        let mut needles = Needles::of_clear_private_keys();
        needles.add_exact("the beginning of a JWT", b"eyJhbGciOi".to_vec());
        for (name, secret) in &self.all {
            match secret.len() {
                ..PIECE => needles.add_whole(name, secret),
                length => {
                    needles.add(name, secret);
                    needles.add_whole(name, &secret[length - PIECE..]);
                }
            }
        }
        needles
    }
}
