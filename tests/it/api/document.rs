//! The OpenAPI document agrees with the server.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::world::World;
use crate::support::in_package;

fn document(world: &World) -> Value {
    let response = world.api.call("GET", "/openapi.json", None, None);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    response.json()
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods
            .filter(|(_, of)| of["operationId"].is_string())
            .map(|(method, of)| (path.as_str(), method.as_str(), of))
    })
}

#[test]
fn the_document_is_openapi_3_1_and_every_operation_has_its_own_name_and_its_refusals() {
    let world = World::new("");
    let document = document(&world);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    assert_eq!(document["servers"][0]["url"], "/api/v1");
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}");
        for status in ["400", "401", "403", "404", "405", "429", "500", "503"] {
            let content = &operation["responses"][status]["content"]["application/problem+json"];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
        }
        for member in ["summary", "description"] {
            assert!(operation[member].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        }
    }
}

#[test]
fn every_member_of_every_schema_is_described_and_no_request_takes_unknown_ones() {
    let world = World::new("");
    let document = document(&world);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
        for (member, of) in schema["properties"].as_object().into_iter().flatten() {
            let choices = of["oneOf"].as_array().into_iter().flatten();
            let is_described = |one: &Value| one["description"].is_string();
            assert!([of].into_iter().chain(choices).any(is_described), "{name}.{member}");
        }
    }
    let mut bodies = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema.is_null(), operation["requestBody"].is_null(), "{method} {path}");
        if schema.is_null() {
            continue;
        }
        // Clients are generated from it: a choice with `null` makes them send the word where a body may be
        // absent.
        let reference = schema["$ref"].as_str();
        bodies.insert(reference.unwrap_or_else(|| panic!("{method} {path} {schema}")).to_owned());
        let is_required = operation["requestBody"]["required"] == true;
        let may_be_absent = [
            "createCredential",
            "createRegistryCredential",
            "checkFeed",
            "revokeSigningKey",
            "rotateSigningKeys",
        ];
        let name = operation["operationId"].as_str().unwrap();
        assert_eq!(is_required, !may_be_absent.contains(&name), "{name}");
    }
    assert!(bodies.len() >= 5, "{bodies:?}");
    for reference in bodies {
        for (reference, schema) in choices(&document, &reference) {
            assert_eq!(schema["additionalProperties"], false, "{reference}");
        }
    }
}

/// The schemas between which the one of that name chooses, or itself.
fn choices<'a>(document: &'a Value, reference: &str) -> Vec<(String, &'a Value)> {
    let of = |reference: &str| document.pointer(reference.trim_start_matches('#')).unwrap();
    match of(reference)["oneOf"].as_array() {
        None => vec![(reference.to_owned(), of(reference))],
        Some(choices) => {
            let references = choices.iter().map(|choice| choice["$ref"].as_str().unwrap());
            references.map(|reference| (reference.to_owned(), of(reference))).collect()
        }
    }
}

#[test]
fn the_type_of_a_feed_chooses_between_schemas_that_have_the_members_of_that_type_alone() {
    let world = World::new("");
    let document = document(&world);
    for name in ["NewFeed", "FeedResponse"] {
        let chosen = &document["components"]["schemas"][name]["discriminator"];
        assert_eq!(chosen["propertyName"], "type", "{name}");
        let reference = format!("#/components/schemas/{name}");
        let choices = choices(&document, &reference);
        assert_eq!(choices.len(), chosen["mapping"].as_object().unwrap().len(), "{name}");
        for (reference, schema) in choices {
            let types = schema["properties"]["type"]["enum"].as_array().unwrap();
            let [feed_type] = types.as_slice() else { panic!("{reference}: {types:?}") };
            assert_eq!(chosen["mapping"][feed_type.as_str().unwrap()], reference.as_str());
            for (member, feed_types) in [
                ("role_arn", &["aws-ecr", "aws-ecr-public"][..]),
                ("tenant_id", &["azure-acr"]),
                ("workload_identity_provider", &["google-artifact-registry"]),
            ] {
                let has = feed_types.iter().any(|has| feed_type == has);
                assert_eq!(schema["properties"][member].is_object(), has, "{reference}.{member}");
                let required = schema["required"].as_array().unwrap();
                assert_eq!(required.contains(&member.into()), has, "{reference}.{member}");
            }
        }
    }
    let patch = &document["components"]["schemas"]["FeedPatch"];
    assert!(patch["properties"]["role_arn"].is_object() && patch["properties"]["jwks"].is_object());
    assert!(patch["required"].is_null() && patch["properties"]["type"].is_null(), "{patch}");
}

#[test]
fn every_documented_route_is_counted_by_its_own_name() {
    let world = World::new("");
    let document = document(&world);
    for (path, method, _) in operations(&document) {
        let path = path.replace(['{', '}'], "");
        let response = world.api.call(&method.to_uppercase(), &path, None, None);
        assert_eq!(response.status, 401, "{method} {path}");
    }
    let metrics = world.api.connect().get("/metrics").body;
    for path in document["paths"].as_object().unwrap().keys() {
        let label = format!("route=\"/api/v1{path}\"");
        assert!(metrics.contains(&label), "no {label} in\n{metrics}");
    }
}

#[test]
fn every_type_of_problem_and_every_route_is_explained_in_the_documentation() {
    let world = World::new("");
    let documentation = std::fs::read_to_string(in_package("docs/api.md")).unwrap();
    for problem in carnet::internals::api_types::problem::ProblemType::ALL {
        let row = format!("| `{}` | {} |", problem.name(), problem.status());
        assert!(documentation.contains(&row), "docs/api.md has no row {row}");
    }
    for (path, ..) in operations(&document(&world)) {
        assert!(documentation.contains(path), "docs/api.md lacks {path}");
    }
}
