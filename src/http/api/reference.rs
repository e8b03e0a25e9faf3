//! The OpenAPI document and the reference page made of it. Both are public: they say nothing that the
//! source code does not.

use askama::Template;
use axum::Router;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::api::PREFIX;
use crate::api::problem::ProblemType;

/// The page loads nothing: no script, no style from elsewhere, no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'";

/// The document at `/api/v1/openapi.json` and the page at `/api/v1/reference`.
pub(super) fn router(description: &OpenApi) -> Router {
    let json = Bytes::from(serde_json::to_vec(description).unwrap_or_default());
    let value = serde_json::from_slice(&json).unwrap_or_default();
    let page = Bytes::from(Page::of(&value).render().unwrap_or_default());
    let answer = |body: Bytes, content_type: &'static str| {
        get(move || {
            let mut response = Response::new(axum::body::Body::from(body.clone()));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
            std::future::ready(response)
        })
    };
    Router::new()
        .route(&format!("{PREFIX}/openapi.json"), answer(json, "application/json"))
        .route(&format!("{PREFIX}/reference"), answer(page, "text/html; charset=utf-8"))
}

#[derive(Template)]
#[template(path = "reference.html")]
struct Page {
    title: String,
    description: Vec<String>,
    operations: Vec<Operation>,
    schemas: Vec<Schema>,
    problems: Vec<ProblemRow>,
}

struct Operation {
    id: String,
    method: String,
    path: String,
    summary: String,
    description: String,
    parameters: Vec<Member>,
    body: Option<Link>,
    answers: Vec<Answer>,
}

struct Answer {
    status: String,
    description: String,
    body: Option<Link>,
}

/// A schema by its name, or a few words for what is none.
struct Link {
    text: String,
    schema: Option<String>,
}

struct Schema {
    name: String,
    description: String,
    words: Vec<String>,
    members: Vec<Member>,
}

struct Member {
    name: String,
    kind: Link,
    required: bool,
    description: String,
}

struct ProblemRow {
    name: &'static str,
    status: u16,
    title: &'static str,
}

impl Page {
    fn of(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let operations = members(&document["paths"]).flat_map(|(path, methods)| {
            members(methods)
                .filter(|(_, operation)| operation["operationId"].is_string())
                .map(|(method, operation)| Operation::of(method, path, operation))
                .collect::<Vec<_>>()
        });
        Self {
            title: format!("{} {}", text(&document["info"]["title"]), text(&document["info"]["version"])),
            description: text(&document["info"]["description"])
                .split("\n\n")
                .map(ToOwned::to_owned)
                .collect(),
            operations: operations.collect(),
            schemas: members(&document["components"]["schemas"])
                .map(|(name, schema)| Schema::of(name, schema))
                .collect(),
            problems: ProblemType::ALL
                .iter()
                .map(|kind| ProblemRow { name: kind.name(), status: kind.status(), title: kind.title() })
                .collect(),
        }
    }
}

impl Operation {
    fn of(method: &str, path: &str, operation: &Value) -> Self {
        let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
        let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| Member {
            name: parameter["name"].as_str().unwrap_or_default().to_owned(),
            kind: Link::of(&parameter["schema"]),
            required: parameter["required"] == true,
            description: parameter["description"].as_str().unwrap_or_default().to_owned(),
        });
        Self {
            id: text("operationId"),
            method: method.to_uppercase(),
            path: format!("{PREFIX}{path}"),
            summary: text("summary"),
            description: text("description"),
            parameters: parameters.collect(),
            body: content(&operation["requestBody"]),
            answers: members(&operation["responses"])
                .map(|(status, answer)| Answer {
                    status: status.to_owned(),
                    description: answer["description"].as_str().unwrap_or_default().to_owned(),
                    body: content(answer),
                })
                .collect(),
        }
    }
}

impl Schema {
    fn of(name: &str, schema: &Value) -> Self {
        // A schema that adds members to another one is shown with both.
        let parts: Vec<&Value> =
            schema["allOf"].as_array().map_or_else(|| vec![schema], |parts| parts.iter().collect());
        let own = parts.iter().flat_map(|part| {
            let required: Vec<&str> =
                part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            members(&part["properties"])
                .map(|(name, member)| Member {
                    name: name.to_owned(),
                    kind: Link::of(member),
                    required: required.contains(&name),
                    description: description(member),
                })
                .collect::<Vec<_>>()
        });
        let inherited = parts.iter().filter(|part| part["$ref"].is_string()).map(|part| Member {
            name: "…".to_owned(),
            kind: Link::of(part),
            required: true,
            description: "and its members".to_owned(),
        });
        let words = schema["enum"].as_array().into_iter().flatten();
        Self {
            name: name.to_owned(),
            description: schema["description"].as_str().unwrap_or_default().to_owned(),
            words: words.filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
            members: own.chain(inherited).collect(),
        }
    }
}

impl Link {
    fn of(schema: &Value) -> Self {
        if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
            return Self { text: name.to_owned(), schema: Some(name.to_owned()) };
        }
        if schema["items"].is_object() {
            let items = Self::of(&schema["items"]);
            return Self { text: format!("list of {}", items.text), schema: items.schema };
        }
        // What may be null is one of two.
        let one_of = schema["oneOf"].as_array().into_iter().flatten().find(|one| one["type"] != "null");
        if let Some(one) = one_of {
            let one = Self::of(one);
            return Self { text: format!("{} or null", one.text), schema: one.schema };
        }
        let text = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            Value::String(name) => name.clone(),
            _ => "any".to_owned(),
        };
        let text = match schema["format"].as_str() {
            Some(format) => format!("{text} ({format})"),
            None => text,
        };
        Self { text, schema: None }
    }
}

/// Its own, or that of the one thing it may be but null.
fn description(member: &Value) -> String {
    let choices = member["oneOf"].as_array().into_iter().flatten();
    let own = [member].into_iter().chain(choices).find_map(|schema| schema["description"].as_str());
    own.unwrap_or_default().to_owned()
}

/// The schema of a body's only content.
fn content(holder: &Value) -> Option<Link> {
    members(&holder["content"]).next().map(|(_, content)| Link::of(&content["schema"]))
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}
