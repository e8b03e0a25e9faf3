//! Secrets in JSON, for `#[serde(serialize_with, deserialize_with)]`. Only this module turns a password or
//! token into the text of a response, and back.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::values::secret::SecretString;

pub(super) fn reveal<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.reveal())
}

pub(super) fn conceal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::new)
}

pub(super) fn reveal_option<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(SecretString::reveal).serialize(serializer)
}
