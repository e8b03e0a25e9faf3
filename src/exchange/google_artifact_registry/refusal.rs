//! Google's two error shapes: OAuth's, of the Security Token Service, and that of its other APIs.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::Value;

use super::hints;
use crate::exchange::upstream::{Redactor, Step, Upstream};
use crate::exchange::{Call, ExchangeError, Failure};
use crate::feed::google::GoogleArtifactRegistry;

/// An error in Google's own words, as far as the answer could be read.
#[derive(Default)]
struct Refusal {
    /// OAuth's `error`, or the name of a `google.rpc.Code`.
    code: Option<String>,
    message: Option<String>,
    /// `reason` of a `google.rpc.ErrorInfo`: finer than the code, and a code itself.
    reason: Option<String>,
    /// `requestId` of a `google.rpc.RequestInfo`.
    request_id: Option<String>,
}

impl Call<'_> {
    /// Reports an answer that is no success.
    pub(super) fn refused_by_google(
        &self,
        step: Step,
        answer: &Response<Bytes>,
        redactor: &Redactor<'_>,
        google: &GoogleArtifactRegistry,
    ) -> ExchangeError {
        let refusal = read(answer);
        let upstream = Upstream {
            code: redactor.optional(refusal.code.as_deref()),
            // An answer in no known form, a proxy's page: its beginning tells whose it is.
            message: match refusal.message {
                Some(message) => redactor.optional(Some(&message)),
                None => redactor.optional(Some(&String::from_utf8_lossy(answer.body()))),
            },
            request_id: redactor.optional(refusal.request_id.as_deref()),
            ..Upstream::answered(step, answer.status())
        };
        let hint = hints::hint(&upstream, refusal.reason.as_deref(), &self.token.presented, google);
        let transient = upstream.code.as_deref().is_some_and(hints::is_transient);
        self.fail(step, Failure::Refused(upstream)).advise(hint, transient)
    }
}

fn read(answer: &Response<Bytes>) -> Refusal {
    match serde_json::from_slice(answer.body()) {
        Ok(ErrorBody { error: ErrorMember::OAuth(code), error_description }) => {
            Refusal { code: Some(code), message: error_description, ..Refusal::default() }
        }
        Ok(ErrorBody { error: ErrorMember::Status(status), .. }) => status.into(),
        Err(_) => Refusal::default(),
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorMember,
    error_description: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorMember {
    OAuth(String),
    Status(Status),
}

/// A `google.rpc.Status`, as Google's APIs write it in JSON.
#[derive(Deserialize)]
struct Status {
    message: Option<String>,
    status: Option<String>,
    #[serde(default)]
    details: Vec<Value>,
}

impl From<Status> for Refusal {
    fn from(Status { message, status, details }: Status) -> Self {
        let detail = |kind: &str, member: &str| {
            let kind = format!("type.googleapis.com/google.rpc.{kind}");
            let found = details.iter().find(|detail| detail["@type"] == kind.as_str())?;
            found[member].as_str().map(str::to_owned)
        };
        let (reason, request_id) = (detail("ErrorInfo", "reason"), detail("RequestInfo", "requestId"));
        // Details name the permission or the field that is meant: kept whole, after the message.
        let message = match (message, details.is_empty()) {
            (message, true) => message,
            (message, false) => {
                Some(format!("{} {}", message.unwrap_or_default(), Value::Array(details)).trim().to_owned())
            }
        };
        Self { code: status, message, reason, request_id }
    }
}
