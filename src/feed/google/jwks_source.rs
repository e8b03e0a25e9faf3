//! The ways in which Google gets the issuer's keys.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feed::declaration::{FieldValue, Shape};

/// The way in which Google gets the issuer's keys: it fetches them, or an operator uploads them to the
/// provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JwksSource {
    /// Google fetches the keys from the issuer, which it must be able to reach.
    #[default]
    Fetched,
    /// Google cannot reach the issuer. An operator uploads the keys after each change, and carnet learns of
    /// it only from the operator's confirmation.
    Uploaded,
}

/// A text is not a [`JwksSource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the JWKS is either fetched, by Google from the issuer, or uploaded")]
pub struct JwksSourceError;

impl JwksSource {
    /// Returns the name in flags, files, JSON and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Uploaded => "uploaded",
        }
    }
}

impl fmt::Display for JwksSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FieldValue for JwksSource {
    const VALUE_NAME: &'static str = "fetched|uploaded";
    const SHAPE: Shape = Shape::Words(&["fetched", "uploaded"]);
}

impl FromStr for JwksSource {
    type Err = JwksSourceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fetched" => Ok(Self::Fetched),
            "uploaded" => Ok(Self::Uploaded),
            _ => Err(JwksSourceError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_named_in_exactly_one_way() {
        for source in [JwksSource::Fetched, JwksSource::Uploaded] {
            assert_eq!(source.to_string().parse(), Ok(source));
            assert_eq!(serde_json::to_string(&source).unwrap(), format!("\"{source}\""));
        }
        for text in ["", "Uploaded", "upload", " uploaded", "fetched\n"] {
            assert_eq!(text.parse::<JwksSource>(), Err(JwksSourceError), "{text:?}");
        }
    }
}
