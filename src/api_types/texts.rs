//! JSON Schemas of texts in requests.
//!
//! They only describe. The types of the floors below parse the texts, and may be stricter where a pattern
//! cannot express a rule.

use serde::Deserialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

use crate::audit::{EventKind, Outcome};
use crate::oidc::subject::SubjectKey;

/// Schemas of strings: a description, the pattern, the lengths.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident = $pattern:literal, $minimum:literal..=$most:literal;)+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Debug, Clone, Copy, Deserialize)]
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let text = concat!($($doc),+).trim();
                    ObjectBuilder::new()
                        .schema_type(Type::String)
                        .description(Some(text))
                        .pattern(Some($pattern))
                        .min_length(Some($minimum))
                        .max_length(Some($most))
                        .into()
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

texts! {
    /// `a`–`z`, `0`–`9` and inner `-`, 1–50 characters.
    SlugText = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", 1..=50;
    /// A slug in which `*` matches any run of characters, including none; at most five `*`, none adjacent.
    FeedPatternText = "^[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?$", 1..=50;
    /// A slug, or `*` for any value.
    ContextRuleText = r"^(\*|[a-z0-9]([a-z0-9-]*[a-z0-9])?)$", 1..=50;
    /// A repository's name without the registry, by the grammar of OCI's distribution specification.
    RepositoryText =
        r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$", 1..=256;
    /// A display name: no control characters, direction marks, tags or zero-width characters.
    NameText = r"^[^\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb]+$", 1..=200;
    /// An audience: visible characters and inner spaces.
    AudienceText = r"^[^\u0000-\u0020\u007f-\u00a0]([^\u0000-\u001f\u007f-\u00a0]*[^\u0000-\u0020\u007f-\u00a0])?$", 1..=255;
    /// A host, with a port if it is not that of HTTPS.
    RegistryText = r"^[A-Za-z0-9.:\[\]-]+$", 1..=261;
    /// An endpoint: `https://host[:port][/path]`, or `http` on a loopback host.
    EndpointText = r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]+)*/?$", 9..=2048;
    /// An RFC 7638 thumbprint.
    KidText = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$", 43..=43;
}

/// Returns the schema of a string with fixed values.
fn words(description: &str, words: impl IntoIterator<Item = String>) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(words))
        .into()
}

/// A kind of event in the audit log.
#[derive(Debug, Clone, Copy)]
pub struct EventKindName;

impl PartialSchema for EventKindName {
    fn schema() -> RefOr<Schema> {
        words("A kind of event.", EventKind::ALL.iter().map(ToString::to_string))
    }
}

impl ToSchema for EventKindName {}

/// An outcome in the audit log.
#[derive(Debug, Clone, Copy)]
pub struct OutcomeName;

impl PartialSchema for OutcomeName {
    fn schema() -> RefOr<Schema> {
        words("The outcome.", Outcome::ALL.iter().map(ToString::to_string))
    }
}

impl ToSchema for OutcomeName {}

/// A part of a subject.
#[derive(Debug, Clone, Copy)]
pub struct SubjectKeyName;

impl PartialSchema for SubjectKeyName {
    fn schema() -> RefOr<Schema> {
        let optional = SubjectKey::ALL.into_iter().filter(|key| key.context_key().is_some());
        let names = SubjectKey::ALL.into_iter().map(|key| key.to_string());
        words(
            "A key of a subject; a key with `?` is left out if the context does not have it.",
            names.chain(optional.map(|key| format!("{key}?"))),
        )
    }
}

impl ToSchema for SubjectKeyName {}

/// A time in RFC 3339.
#[derive(Debug, Clone, Copy)]
pub struct TimeText;

impl PartialSchema for TimeText {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("A time, RFC 3339."))
            .into()
    }
}

impl ToSchema for TimeText {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;

    use super::*;
    use crate::feed::display_name::DisplayName;
    use crate::feed::scope::RepositoryName;
    use crate::jose::jwk::Kid;
    use crate::values::slug::Slug;

    /// Texts that match the schema.
    fn fitting<T: PartialSchema>() -> impl Strategy<Value = String> {
        let schema = serde_json::to_value(T::schema()).unwrap();
        let pattern = schema["pattern"].as_str().unwrap();
        let length = |name: &str| usize::try_from(schema[name].as_u64().unwrap()).unwrap();
        let lengths = length("minLength")..=length("maxLength");
        let texts = string_regex(&pattern[1..pattern.len() - 1]).unwrap();
        texts.prop_filter("its length", move |text| lengths.contains(&text.chars().count()))
    }

    proptest! {
        // Generating texts from patterns is slow.
        #![proptest_config(ProptestConfig::with_cases(32))]

        // Audiences, patterns of feeds, hosts and endpoints have rules that no pattern can express.
        #[test]
        fn values_that_match_their_schema_are_accepted(
            slug in fitting::<SlugText>(),
            name in fitting::<NameText>(),
            kid in fitting::<KidText>(),
        ) {
            prop_assert!(slug.parse::<Slug>().is_ok(), "{slug}");
            // Python and JavaScript write characters beyond U+FFFF differently, so the pattern does not
            // contain them.
            let is_beyond = |c: char| c > '\u{ffff}' && crate::values::visible::is_hidden(c);
            prop_assert!(name.contains(is_beyond) || name.parse::<DisplayName>().is_ok(), "{name:?}");
            prop_assert!(kid.parse::<Kid>().is_ok(), "{kid}");
        }
    }

    /// Written by hand: most texts that match the pattern are too long.
    #[test]
    fn repositories_have_the_grammar_of_their_schema() {
        let pattern = serde_json::to_value(RepositoryText::schema()).unwrap()["pattern"].clone();
        let segment = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*";
        assert_eq!(pattern, format!("^{segment}(/{segment})*$"));
        for (text, fits) in
            [("team/app", true), ("a__b--c.d", true), ("a..b", false), ("A", false), ("a/", false)]
        {
            assert_eq!(text.parse::<RepositoryName>().is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn optional_keys_are_those_of_the_context() {
        let schema = serde_json::to_value(SubjectKeyName::schema()).unwrap();
        let names = schema["enum"].as_array().unwrap();
        assert!(names.contains(&"tenant?".into()) && !names.contains(&"space?".into()), "{names:?}");
        assert_eq!(names.len(), 13);
    }
}
