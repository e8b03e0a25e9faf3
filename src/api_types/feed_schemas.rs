//! The schemas of feeds by type in the OpenAPI document, from the declarations of the providers.

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

/// Gives every type of feed its own schemas, between which `type` chooses, and adds the members of all types
/// to the change of a feed, which has no `type`.
pub fn describe_types(components: &mut Components) {
    one_of(components, "NewFeed", |object, feed_type| {
        object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        object.properties.insert("endpoints".to_owned(), endpoints(feed_type.declaration().endpoints, false));
        for field in feed_type.fields() {
            let is_required = matches!(field.presence, Presence::Required);
            insert(object, field, is_required, text(field), !is_required);
        }
    });
    one_of(components, "FeedAnswer", |object, feed_type| {
        for field in feed_type.fields() {
            insert(object, field, !field.is_removable(), text(field), false);
        }
    });
    if let Some(RefOr::T(Schema::Object(patch))) = components.schemas.get_mut("FeedPatch") {
        let mut names: Vec<&str> =
            FeedType::ALL.iter().flat_map(|of| of.declaration().endpoints).copied().collect();
        names.sort_unstable();
        names.dedup();
        patch.properties.insert("endpoints".to_owned(), endpoints(&names, true));
        for (field, types) in FeedType::all_fields() {
            let types: Vec<&str> = types.into_iter().map(FeedType::as_str).collect();
            let removed = if field.is_removable() { " `null` removes it." } else { "" };
            insert(patch, field, false, format!("{}: {}{removed}", types.join(", "), text(field)), true);
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
        if let Some(RefOr::T(Schema::Object(registry))) = object.properties.get_mut("registry") {
            let (KnownRegistry::Such(host) | KnownRegistry::Only(host)) = declaration.registry;
            registry.example = Some(host.into());
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

fn text(field: &Field) -> String {
    match field.presence {
        Presence::Optional { absent, .. } => format!("{}; by default {absent}.", field.description),
        _ => format!("{}.", field.description),
    }
}

fn insert(object: &mut Object, field: &Field, is_required: bool, description: String, may_be_null: bool) {
    if is_required {
        object.required.push(field.name.to_owned());
    }
    object.properties.insert(field.name.to_owned(), schema(field, description, may_be_null));
}

fn schema(field: &Field, description: String, may_be_null: bool) -> RefOr<Schema> {
    let of = |json_type: Type| -> SchemaType {
        if may_be_null { SchemaType::from_iter([json_type, Type::Null]) } else { json_type.into() }
    };
    let schema = ObjectBuilder::new().description(Some(description));
    match field.shape {
        Shape::Text { pattern, min, max } => schema
            .schema_type(of(Type::String))
            .pattern(Some(pattern))
            .min_length(Some(min))
            .max_length(Some(max)),
        Shape::Words(words) => {
            let null = may_be_null.then_some(Value::Null);
            let words = words.iter().map(|word| Value::from(*word)).chain(null);
            schema.schema_type(of(Type::String)).enum_values(Some(words))
        }
        Shape::Seconds { min, max } => {
            schema.schema_type(of(Type::Integer)).minimum(Some(min)).maximum(Some(max))
        }
    }
    .into()
}

fn endpoints(names: &[&str], may_be_null: bool) -> RefOr<Schema> {
    let json_type =
        if may_be_null { SchemaType::from_iter([Type::Object, Type::Null]) } else { Type::Object.into() };
    let object = ObjectBuilder::new()
        .schema_type(json_type)
        .description(Some("Overridden hosts of the cloud's APIs."))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    names.iter().fold(object, |object, name| object.property(*name, EndpointText::schema())).into()
}
