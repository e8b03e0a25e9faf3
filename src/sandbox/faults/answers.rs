//! Refusals in each service's format, with the codes that its documentation gives.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::FaultStep;

const MESSAGE: &str = "The sandbox is configured to refuse.";

/// The status and code of a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SandboxRefusal {
    status: u16,
    code: String,
    message: &'static str,
}

impl SandboxRefusal {
    pub(super) fn new(status: u16, code: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: MESSAGE }
    }
}

pub(super) fn throttled(step: FaultStep) -> SandboxRefusal {
    match step {
        FaultStep::AwsSts => SandboxRefusal::new(400, "Throttling"),
        FaultStep::Ecr => SandboxRefusal::new(400, "ThrottlingException"),
        FaultStep::Entra => SandboxRefusal::new(429, "AADSTS90055"),
        FaultStep::AcrExchange | FaultStep::AcrToken => SandboxRefusal::new(429, "TOOMANYREQUESTS"),
        FaultStep::GoogleSts | FaultStep::IamCredentials => SandboxRefusal::new(429, "RESOURCE_EXHAUSTED"),
    }
}

pub(super) fn unavailable(step: FaultStep) -> SandboxRefusal {
    match step {
        FaultStep::AwsSts => SandboxRefusal::new(503, "ServiceUnavailable"),
        FaultStep::Ecr => SandboxRefusal::new(500, "ServerException"),
        FaultStep::Entra => SandboxRefusal::new(503, "AADSTS90033"),
        FaultStep::AcrExchange | FaultStep::AcrToken => SandboxRefusal::new(503, "UNAVAILABLE"),
        FaultStep::GoogleSts | FaultStep::IamCredentials => SandboxRefusal::new(503, "UNAVAILABLE"),
    }
}

/// Returns the refusal for a cloud that cannot fetch the issuer's documents. `None` for steps that do not
/// fetch them.
pub(super) fn issuer_unreachable(step: FaultStep) -> Option<SandboxRefusal> {
    match step {
        FaultStep::AwsSts => Some(SandboxRefusal::new(400, "IDPCommunicationError")),
        FaultStep::Entra => Some(SandboxRefusal::new(400, "AADSTS50166")),
        // This code has many other causes. Only the message tells them apart.
        FaultStep::GoogleSts => Some(SandboxRefusal {
            message: "Error connecting to the given credential's issuer.",
            ..SandboxRefusal::new(400, "invalid_grant")
        }),
        FaultStep::Ecr | FaultStep::AcrExchange | FaultStep::AcrToken | FaultStep::IamCredentials => None,
    }
}

/// Returns the refusal for trust or a permission that was set up just now and has not propagated.
pub(super) fn propagating(step: FaultStep) -> SandboxRefusal {
    match step {
        FaultStep::AwsSts => SandboxRefusal::new(403, "AccessDenied"),
        FaultStep::Ecr => SandboxRefusal::new(400, "AccessDeniedException"),
        FaultStep::Entra => SandboxRefusal::new(401, "AADSTS70021"),
        FaultStep::AcrExchange | FaultStep::AcrToken => SandboxRefusal::new(401, "UNAUTHORIZED"),
        FaultStep::GoogleSts => SandboxRefusal::new(400, "invalid_target"),
        FaultStep::IamCredentials => SandboxRefusal::new(403, "PERMISSION_DENIED"),
    }
}

/// Formats the refusal as the service does.
pub(super) fn refuse(step: FaultStep, refusal: &SandboxRefusal, id: Uuid, now: Timestamp) -> Response {
    let SandboxRefusal { status, code, message } = refusal;
    match step {
        FaultStep::AwsSts => {
            let code = quick_xml::escape::escape(code.as_str());
            let body = format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>{code}</Code><Message>{message}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>"
            );
            response(*status, "text/xml", "x-amzn-requestid", id, body)
        }
        FaultStep::Ecr => {
            let body = json!({ "__type": code, "message": message });
            response(*status, "application/x-amz-json-1.1", "x-amzn-requestid", id, body.to_string())
        }
        FaultStep::Entra => {
            response(*status, "application/json", "x-ms-request-id", id, entra(refusal, id, now).to_string())
        }
        FaultStep::AcrExchange | FaultStep::AcrToken => {
            let body = json!({ "errors": [{ "code": code, "message": message }] });
            response(*status, "application/json", "x-ms-correlation-request-id", id, body.to_string())
        }
        // Google's API front end has a format of its own. OAuth's codes are in lower case.
        FaultStep::GoogleSts | FaultStep::IamCredentials => {
            let body = if code.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
                json!({ "error": { "code": status, "message": message, "status": code } })
            } else {
                json!({ "error": code, "error_description": message })
            };
            response(*status, "application/json", "x-request-id", id, body.to_string())
        }
    }
}

/// Returns Entra's body. A code without an `AADSTS` number becomes OAuth's `error`.
fn entra(SandboxRefusal { status, code, message }: &SandboxRefusal, id: Uuid, now: Timestamp) -> Value {
    let number = code.strip_prefix("AADSTS").and_then(|number| number.parse::<u64>().ok());
    let error = match (number, status) {
        (None, _) => code.as_str(),
        (_, 401) => "invalid_client",
        (_, 429 | 500..) => "temporarily_unavailable",
        _ => "invalid_request",
    };
    let timestamp = now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    json!({
        "error": error,
        "error_description": format!("{code}: {message} Trace ID: {id} Timestamp: {timestamp}"),
        "error_codes": number.into_iter().collect::<Vec<_>>(),
        "timestamp": timestamp, "trace_id": id, "correlation_id": id,
        "error_uri": number.map(|number| format!("https://login.microsoftonline.com/error?code={number}")),
    })
}

/// Returns a page that is not in any service's format.
pub(super) fn page(status: u16, body: String) -> Response {
    response(status, "text/html", "x-request-id", Uuid::nil(), body)
}

fn response(
    status: u16,
    media_type: &'static str,
    id_header: &'static str,
    id: Uuid,
    body: String,
) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = [(header::CONTENT_TYPE.as_str(), media_type.to_owned()), (id_header, id.to_string())];
    (status, headers, Body::from(body)).into_response()
}
