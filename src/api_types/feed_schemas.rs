//! The schemas of feeds by type in the OpenAPI document, from the declarations of the providers.

use std::collections::BTreeSet;

use serde_json::Value;
use utoipa::PartialSchema;
use utoipa::openapi::schema::{
    AdditionalProperties, Components, Discriminator, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType,
    Type,
};
use utoipa::openapi::{Ref, RefOr};

use super::texts::EndpointText;
use crate::feed::FeedType;
use crate::feed::declaration::{Field, KnownRegistry, Presence, Shape};

/// The requests and responses that have members of some types.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    New,
    Patch,
    Answer,
}

/// Gives every type of feed its own schemas, between which `type` chooses, and adds the members of all types
/// to the change of a feed, which has no `type`.
pub fn describe_types(components: &mut Components) {
    one_of(components, "NewFeed", |object, feed_type| {
        object.properties.insert("endpoints".to_owned(), endpoints(feed_type.declaration().endpoints, false));
        for field in feed_type.fields() {
            let about = match field.presence {
                Presence::Optional { absent, .. } => format!("{}; by default {absent}", field.description),
                _ => field.description.to_owned(),
            };
            insert(object, field, Shown::New, &about);
        }
    });
    one_of(components, "FeedResponse", |object, feed_type| {
        for field in feed_type.fields() {
            insert(object, field, Shown::Answer, field.description);
        }
    });
    if let Some(RefOr::T(Schema::Object(patch))) = components.schemas.get_mut("FeedPatch") {
        let names = FeedType::ALL.into_iter().flat_map(|feed_type| feed_type.declaration().endpoints);
        let names: BTreeSet<&str> = names.copied().collect();
        patch.properties.insert("endpoints".to_owned(), endpoints(&names, true));
        for (field, types) in FeedType::all_fields() {
            let types: Vec<&str> = types.into_iter().map(FeedType::as_str).collect();
            let removed = if field.is_removable() { "; `null` removes it" } else { "" };
            let about = format!("{}: {}{removed}", types.join(", "), field.description);
            insert(patch, field, Shown::Patch, &about);
        }
    }
}

/// Replaces the schema of this name, which has the members of every feed, by the choice between one schema for
/// each type, in which `complete` adds those of the type.
fn one_of(components: &mut Components, name: &str, complete: impl Fn(&mut Object, FeedType)) {
    let Some(RefOr::T(Schema::Object(common))) = components.schemas.get(name).cloned() else { return };
    let mut choice = OneOfBuilder::new().description(common.description.clone());
    let mut mapping = Vec::new();
    for feed_type in FeedType::ALL {
        let declaration = feed_type.declaration();
        let mut object = common.clone();
        object.description = Some(format!("{}.", declaration.about));
        let only = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([feed_type.as_str()]));
        object.properties.insert("type".to_owned(), only.description(Some("The type.")).into());
        let (KnownRegistry::Such(host) | KnownRegistry::Only(host)) = declaration.registry;
        match object.properties.get_mut("registry") {
            Some(RefOr::Ref(registry)) => registry.description.push_str(&format!(" Such as `{host}`.")),
            Some(RefOr::T(Schema::Object(registry))) => registry.example = Some(host.into()),
            _ => {}
        }
        complete(&mut object, feed_type);
        let own_name = format!("{}{name}", in_camel_case(feed_type));
        let reference = Ref::from_schema_name(&own_name);
        mapping.push((feed_type.as_str(), reference.ref_location.clone()));
        choice = choice.item(reference);
        components.schemas.insert(own_name, Schema::Object(object).into());
    }
    let choice = choice.discriminator(Some(Discriminator::with_mapping("type", mapping)));
    components.schemas.insert(name.to_owned(), choice.into());
}

fn in_camel_case(feed_type: FeedType) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    feed_type.as_str().split('-').map(capital).collect()
}

fn insert(object: &mut Object, field: &Field, shown: Shown, about: &str) {
    let is_required = match shown {
        Shown::New => matches!(field.presence, Presence::Required),
        Shown::Patch => false,
        Shown::Answer => !field.is_removable(),
    };
    if is_required {
        object.required.push(field.name.to_owned());
    }
    let may_be_null = !is_required && shown != Shown::Answer;
    object.properties.insert(field.name.to_owned(), schema(field, shown, about, may_be_null));
}

fn schema(field: &Field, shown: Shown, about: &str, may_be_null: bool) -> RefOr<Schema> {
    let of = |json_type| possibly_null(json_type, may_be_null);
    let unit = if let Shape::Seconds { .. } = field.shape { "; in seconds" } else { "" };
    let schema = ObjectBuilder::new().description(Some(format!("{about}{unit}.")));
    // A server of a later version may answer with more than this one accepts.
    let is_bounded = shown != Shown::Answer;
    match field.shape {
        Shape::Text { pattern, min, max } if is_bounded => schema
            .schema_type(of(Type::String))
            .pattern(Some(pattern))
            .min_length(Some(min))
            .max_length(Some(max)),
        Shape::Text { .. } => schema.schema_type(of(Type::String)),
        Shape::Words(words) => {
            let words = words.iter().map(|word| Value::from(*word));
            let null = may_be_null.then_some(Value::Null);
            schema.schema_type(of(Type::String)).enum_values(Some(words.chain(null)))
        }
        Shape::Seconds { min, max } if is_bounded => {
            schema.schema_type(of(Type::Integer)).minimum(Some(min)).maximum(Some(max))
        }
        Shape::Seconds { .. } => schema.schema_type(of(Type::Integer)),
    }
    .into()
}

fn possibly_null(json_type: Type, may_be_null: bool) -> SchemaType {
    if may_be_null { SchemaType::from_iter([json_type, Type::Null]) } else { json_type.into() }
}

fn endpoints<'a>(names: impl IntoIterator<Item = &'a &'a str>, may_be_null: bool) -> RefOr<Schema> {
    let object = ObjectBuilder::new()
        .schema_type(possibly_null(Type::Object, may_be_null))
        .description(Some("Overridden hosts of the cloud's APIs."))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    names.into_iter().fold(object, |object, name| object.property(*name, EndpointText::schema())).into()
}
