//! Reading the members that only feeds of some types have out of an object with members of every feed.
//!
//! Each value is checked where it is, so that an error names its member, as for every other member.

use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::feed::FeedType;
use crate::feed::declaration::Field;
use crate::feed::provider_fields::ProviderFields;

/// Deserializes an object into its members of every feed, as a `T`, and those of some types.
pub(super) fn split<'de, D, T>(deserializer: D) -> Result<(T, ProviderFields), D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(Split(PhantomData))
}

struct Split<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Split<T> {
    type Value = (T, ProviderFields);

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut own = ProviderFields::default();
        let common = T::deserialize(MapAccessDeserializer::new(Common { map, own: &mut own }))?;
        Ok((common, own))
    }
}

/// The members of every feed. The others are put into `own` on the way.
struct Common<'a, A> {
    map: A,
    own: &'a mut ProviderFields,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Common<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        loop {
            match self.map.next_key_seed(Key { seed: &mut seed, own: self.own })? {
                None => return Ok(None),
                Some(Either::Common(key)) => return Ok(Some(key)),
                Some(Either::Own(field)) => self.map.next_value_seed(OwnValue { field, own: self.own })?,
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

enum Either<K> {
    Common(K),
    Own(&'static Field),
}

/// A key, of a member of either kind. `seed` is taken by the first one of a member of every feed.
struct Key<'a, K> {
    seed: &'a mut Option<K>,
    own: &'a ProviderFields,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Either<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(deserializer)?;
        match (FeedType::field_of_any(&name), self.seed.take()) {
            (Some(field), _) if self.own.has(field) => {
                Err(D::Error::custom(format_args!("duplicate field `{name}`")))
            }
            (Some(field), seed) => {
                *self.seed = seed;
                Ok(Either::Own(field))
            }
            (None, Some(seed)) => seed.deserialize(name.into_deserializer()).map(Either::Common),
            (None, None) => Err(D::Error::custom("a key is read twice")),
        }
    }
}

/// The value of a member that only some types have.
struct OwnValue<'a> {
    field: &'static Field,
    own: &'a mut ProviderFields,
}

impl<'de> DeserializeSeed<'de> for OwnValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let value = Value::deserialize(deserializer)?;
        self.own.set(self.field, value).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::api_types::feeds::{FeedPatch, NewFeed};
    use crate::feed::FeedType;

    const NEW: &str = r#""slug": "a", "type": "aws-ecr", "registry": "images.example""#;
    const ROLE: &str = r#""role_arn": "arn:aws:iam::123456789012:role/pull""#;

    /// Returns the member and the rule that a request breaks.
    fn refused(body: &str) -> (String, String) {
        let mut json = serde_json::Deserializer::from_str(body);
        let error = serde_path_to_error::deserialize::<_, NewFeed>(&mut json).unwrap_err();
        (error.path().to_string(), error.into_inner().to_string())
    }

    #[test]
    fn an_error_names_the_member_wherever_it_stands() {
        for (body, member, rule) in [
            (format!(r#"{{"role_arn": "x", {NEW}}}"#), "role_arn", "\"x\" is not the ARN of a role"),
            (format!(r#"{{{NEW}, "session_duration": 899}}"#), "session_duration", "a session lasts 900"),
            (format!(r#"{{{NEW}, "tenant_id": 1}}"#), "tenant_id", "invalid type: integer `1`"),
            (format!(r#"{{{NEW}, {ROLE}, {ROLE}}}"#), "role_arn", "duplicate field `role_arn`"),
            (format!(r#"{{{NEW}, "alg": "none"}}"#), "alg", ""),
            (
                format!(r#"{{{ROLE}, "rolearn": "x"}}"#),
                "rolearn",
                "unknown field `rolearn`, expected one of `slug`",
            ),
            (format!("{{{ROLE}}}"), ".", "missing field `slug`"),
        ] {
            let (found, error) = refused(&body);
            assert!(found == member && error.starts_with(rule), "{body}: {found}: {error}");
        }
    }

    #[test]
    fn a_request_is_written_as_it_is_read() {
        let body = format!(r#"{{{NEW}, {ROLE}, "session_duration": null}}"#);
        let new: NewFeed = serde_json::from_str(&body).unwrap();
        let written = serde_json::to_string(&new).unwrap();
        let again: NewFeed = serde_json::from_str(&written).unwrap();
        let provider = |new: NewFeed| new.draft("a".parse().unwrap()).unwrap().provider;
        assert_eq!(provider(again), provider(new));
        let patch: FeedPatch = serde_json::from_str(r#"{"service_account": null, "name": "n"}"#).unwrap();
        assert_eq!(patch.changes(FeedType::AwsEcr).err().unwrap().field(), "service_account");
    }
}
