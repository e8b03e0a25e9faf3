//! Google's two error formats: OAuth's, used by the Security Token Service, and that of its other APIs.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::Value;

use super::sts;
use crate::diagnosis::Retry;
use crate::diagnosis::google::{GoogleRefusal, of_iam_credentials, of_sts, retry};
use crate::exchange::refusal::{Advice, ProviderRefusal};
use crate::exchange::upstream::{Redactor, Step};
use crate::exchange::{Call, ExchangeError};
use crate::feed::google::GoogleArtifactRegistry;

/// The `reason` of a `google.rpc.ErrorInfo`: more specific than the code, and itself a code.
type Reason = Option<String>;

impl Call<'_> {
    /// Converts an unsuccessful response of Google.
    pub(super) fn refused_by_google(
        &self,
        step: Step,
        response: &Response<Bytes>,
        redactor: &Redactor,
        google: &GoogleArtifactRegistry,
    ) -> ExchangeError {
        let (refusal, reason) = read(response);
        self.refused(step, response, refusal, redactor, &[], |upstream| Advice {
            causes: upstream.code.as_deref().map_or_else(Vec::new, |code| {
                let (message, presented) = (upstream.message.as_deref(), &self.token.presented);
                let refused =
                    GoogleRefusal { code, message: message.unwrap_or_default(), reason: reason.as_deref() };
                if step == sts::STEP {
                    of_sts(&refused, presented, google)
                } else {
                    of_iam_credentials(&refused, presented, google)
                }
            }),
            retry: upstream.code.as_deref().map_or(Retry::Never, |code| {
                retry(code, upstream.message.as_deref().unwrap_or_default(), &self.token.presented)
            }),
        })
    }
}

fn read(response: &Response<Bytes>) -> (ProviderRefusal, Reason) {
    match serde_json::from_slice(response.body()) {
        Ok(ErrorBody { error: ErrorMember::OAuth(code), error_description }) => {
            (ProviderRefusal { code: Some(code), message: error_description, request_id: None }, None)
        }
        Ok(ErrorBody { error: ErrorMember::Status(status), .. }) => status.read(),
        Err(_) => (ProviderRefusal::default(), None),
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

/// A `google.rpc.Status` in the JSON format of Google's APIs.
#[derive(Deserialize)]
struct Status {
    message: Option<String>,
    status: Option<String>,
    #[serde(default)]
    details: Vec<Value>,
}

impl Status {
    /// Converts to a refusal. The code is the name of a `google.rpc.Code`; the request id is in
    /// `google.rpc.RequestInfo`.
    fn read(self) -> (ProviderRefusal, Reason) {
        let Self { message, status, details } = self;
        let detail = |kind: &str, member: &str| {
            let kind = format!("type.googleapis.com/google.rpc.{kind}");
            let found = details.iter().find(|detail| detail["@type"] == kind.as_str())?;
            found[member].as_str().map(str::to_owned)
        };
        let (reason, request_id) = (detail("ErrorInfo", "reason"), detail("RequestInfo", "requestId"));
        // The details name the permission or the field concerned. All are kept, after the message.
        let message = match (message, details.is_empty()) {
            (message, true) => message,
            (message, false) => {
                Some(format!("{} {}", message.unwrap_or_default(), Value::Array(details)).trim().to_owned())
            }
        };
        (ProviderRefusal { code: status, message, request_id }, reason)
    }
}
