//! Request bodies: JSON of bounded length that arrives in bounded time. Errors name the wrong member.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;

use super::Api;
use super::caller::Caller;
use super::refusal::ApiRefusal;
use crate::api_types::problem::{Problem, ProblemType};
use crate::http::slow::BodyError;
use crate::values::pasted::{cleared, member_with_secret, secret_in};

/// A JSON body.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

/// A JSON body that may be absent or `null`, which then counts as `{}`.
#[derive(Debug)]
pub(super) struct OptionalJsonBody<T>(pub(super) T);

/// The names in the path. A name that is not valid text is not found.
#[derive(Debug)]
pub(super) struct Names<T>(pub(super) T);

/// The query parameters. Unknown ones are refused.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiRefusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiRefusal> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        let body = read(body, api).await?;
        Caller::confirm_sender(&parts.extensions, api).await?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for OptionalJsonBody<T> {
    type Rejection = ApiRefusal;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiRefusal> {
        let (parts, body) = request.into_parts();
        let body = read(body, api).await?;
        Caller::confirm_sender(&parts.extensions, api).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        check_type(&parts.headers)?;
        // `null` is JSON's own form of an absent value.
        if body.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Names<T> {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiRefusal> {
        let Path(names) = Path::from_request_parts(parts, api).await.map_err(|_| ApiRefusal::not_found())?;
        Ok(Self(names))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Api> for Parameters<T> {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiRefusal> {
        let parsed: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, api).await;
        match parsed {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                let why = std::error::Error::source(&rejection)
                    .map_or_else(|| rejection.to_string(), ToString::to_string);
                Err(Problem::new(ProblemType::MalformedRequest)
                    .detail(format!("the query: {}", cleared(&why)))
                    .into())
            }
        }
    }
}

/// Reads a body to its end, within the limits of length and time.
async fn read(body: Body, api: &Api) -> Result<bytes::Bytes, ApiRefusal> {
    let limit = api.api_limits().max_body;
    let whole = axum::body::to_bytes(body, limit);
    match tokio::time::timeout(api.api_limits().body_timeout, whole).await {
        Err(_) => Err(ApiRefusal::new(ProblemType::RequestTimeout)),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => {
            let detail = format!("a body has at most {limit} bytes");
            Err(Problem::new(ProblemType::TooLarge).detail(detail).into())
        }
        Ok(Err(error)) if BodyError::is_too_slow(&error) => Err(ApiRefusal::new(ProblemType::RequestTimeout)),
        Ok(Err(_)) => Err(Problem::new(ProblemType::MalformedRequest).detail("the body broke off").into()),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Checks that the type is `application/json`, with or without parameters.
fn check_type(headers: &HeaderMap) -> Result<(), ApiRefusal> {
    let essence = headers
        .get(CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .and_then(|value| value.split(|byte| *byte == b';').next())
        .map(<[u8]>::trim_ascii);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case(b"application/json") => Ok(()),
        _ => Err(ApiRefusal::new(ProblemType::UnsupportedMediaType)),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiRefusal> {
    // Before anything quotes or stores it. Serde's own messages name unknown members.
    if let Ok(value) = serde_json::from_slice(body)
        && let Some(member) = member_with_secret(&value)
    {
        let rule = "it holds a grant's token or a master key, and nothing was changed";
        return Err(match member.as_str() {
            "" => Problem::new(ProblemType::InvalidField).detail(format!("the body: {rule}")).into(),
            member => ApiRefusal::field(member, rule),
        });
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let malformed = |field: Option<String>, why: String| {
        let problem = Problem::new(ProblemType::MalformedRequest).detail(cleared(&why));
        ApiRefusal::from(match field {
            Some(field) => problem.field(field),
            None => problem,
        })
    };
    // Serde would accept a list as an object's members in their order.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(malformed(None, "the body is not a JSON object".to_owned()));
    }
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        // A value that breaks a rule of its type is well-formed JSON, so the error concerns its field.
        let field = Some(path).filter(|path| path != "." && secret_in(path).is_none());
        match (field, error.is_data()) {
            (Some(field), true) => ApiRefusal::field(&field, without_place(&error)),
            (field, _) => malformed(field, error.to_string()),
        }
    })?;
    json.end().map_err(|error| malformed(None, error.to_string()))?;
    Ok(value)
}

/// Returns the message without `at line 1 column 7`: the field already gives the position.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    cleared(&text[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_types::credentials::CredentialRequest;
    use crate::http::api::refusal::RefusedRequest;

    fn refused(body: &str) -> (String, Option<String>, String) {
        use axum::response::IntoResponse as _;
        let response = parse::<CredentialRequest>(body.as_bytes()).unwrap_err().into_response();
        let refused = response.extensions().get::<RefusedRequest>().unwrap();
        let Problem { problem_type, field, detail, .. } = refused.problem.clone();
        (problem_type, field, detail.unwrap())
    }

    #[test]
    fn a_value_that_breaks_a_rule_is_named_with_the_rule() {
        let (kind, field, detail) = refused(r#"{"context": {"tenant": "A"}}"#);
        assert_eq!((kind.as_str(), field.as_deref()), ("urn:carnet:problem:invalid-field", Some("context")));
        assert!(detail.contains("not a slug") && !detail.contains("line"), "{detail}");
        let (_, field, _) = refused(r#"{"repositories": ["ok", "A*"]}"#);
        assert_eq!(field.as_deref(), Some("repositories[1]"));
    }

    #[test]
    fn a_body_that_holds_a_token_or_a_master_key_is_refused_by_field_and_never_repeated() {
        for prefix in ["carnet_", "carnet-master-key-1:"] {
            let secret = format!("{prefix}{}", "0aZ".repeat(14));
            for (body, at) in [
                (format!(r#"{{"context": {{"tenant": "{secret}"}}}}"#), Some("context.tenant")),
                (format!(r#"{{"repositories": ["a", "{secret}"]}}"#), Some("repositories[1]")),
                (format!(r#"{{"{secret}": 1}}"#), None),
                (format!(r#"{{"{secret}": 1, broken"#), None),
            ] {
                let (_, field, detail) = refused(&body);
                assert_eq!(field.as_deref().filter(|field| !field.is_empty()), at, "{body}");
                assert!(!detail.contains("0aZ0aZ"), "{detail}");
            }
        }
    }

    #[test]
    fn a_body_that_is_not_exactly_one_json_value_is_malformed() {
        for body in ["", "{", "{} {}", "[]", "[600]", "nul", "{\"context\": 1e999}", "\u{feff}{}"] {
            let (kind, ..) = refused(body);
            assert!(
                kind.ends_with(":malformed-request") || kind.ends_with(":invalid-field"),
                "{body}: {kind}"
            );
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refused(&format!(r#"{{"actions": {deep}}}"#)).0.contains("problem"));
    }

    #[test]
    fn a_body_is_json_only_if_its_content_type_says_so() {
        for (value, accepted) in [
            (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/json+x"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(check_type(&headers).is_ok(), accepted, "{value:?}");
        }
    }
}
