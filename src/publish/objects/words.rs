//! The error texts of object stores, without secrets.
//!
//! Error responses may contain signatures, strings to sign, or the request itself; URLs may contain
//! signatures in their query. Only the code, the message and Google's details are kept, with all secrets from
//! the request removed.

use object_store::Error;
use object_store::client::HttpRequest;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::exchange::Redactor;

/// The maximum length of an error text, in characters.
const LONGEST: usize = 600;
/// The minimum length of a secret. A shorter value is no credential and may be an ordinary word.
const SHORTEST_SECRET: usize = 16;

/// The XML errors of S3, Google and Azure. AWS STS nests the same fields one level deeper.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct XmlError {
    code: Option<String>,
    message: Option<String>,
    details: Option<String>,
    error: Option<Box<Self>>,
}

/// OAuth errors, and Google's JSON errors.
#[derive(Debug, Deserialize)]
struct JsonError {
    error: Option<JsonCode>,
    error_description: Option<String>,
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum JsonCode {
    Code(String),
    Object { status: Option<String>, message: Option<String> },
}

/// Returns the error in a failed response as one line.
pub(super) fn of_answer(body: &[u8], redactor: &Redactor) -> String {
    let text = String::from_utf8_lossy(body);
    let said = of_xml(&text).or_else(|| of_json(&text)).unwrap_or_else(|| match body.len() {
        0 => "without a message".to_owned(),
        length => format!("with {length} bytes that are not an object store's error"),
    });
    // In one line first: the redactor escapes line ends.
    one_line(&redactor.text(&said.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn of_xml(text: &str) -> Option<String> {
    let read: XmlError = quick_xml::de::from_str(text).ok()?;
    let XmlError { code, message, details, .. } = match read.error {
        Some(inner) => *inner,
        None => read,
    };
    joined([code, message, details])
}

fn of_json(text: &str) -> Option<String> {
    let JsonError { error, error_description, message } = serde_json::from_str(text).ok()?;
    match error {
        Some(JsonCode::Code(code)) => joined([Some(code), error_description, message]),
        Some(JsonCode::Object { status, message }) => joined([status, message, None]),
        None => joined([message, None, None]),
    }
}

fn joined(parts: [Option<String>; 3]) -> Option<String> {
    let parts: Vec<_> = parts.into_iter().flatten().filter(|part| !part.trim().is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// Returns a redactor that removes the secret values of the request from a response that repeats them.
pub(super) fn redactor(request: &HttpRequest, url: &Url) -> Redactor {
    let mut secrets = Vec::new();
    for (name, value) in request.headers() {
        let name = name.as_str();
        if name == "authorization"
            || ["token", "secret", "identity", "encryption"].iter().any(|part| name.contains(part))
        {
            let value = String::from_utf8_lossy(value.as_bytes());
            secrets.extend(value.split([' ', ',', '=', ':']).map(str::to_owned));
            secrets.push(value.into_owned());
        }
    }
    let mut pairs = |text: &[u8]| {
        secrets.extend(form_urlencoded::parse(text).map(|(_, value)| value.into_owned()));
    };
    pairs(url.query().unwrap_or_default().as_bytes());
    // The documents themselves are public and are not form-encoded.
    if let Some(form) = request.body().as_bytes() {
        pairs(form);
    }
    secrets.retain(|secret| secret.len() >= SHORTEST_SECRET);
    Redactor::new(secrets.iter().map(String::as_str))
}

/// Returns whether the bucket or container is missing, not only the object.
pub(super) fn names_no_bucket(error: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "ResourceNotFound"].iter().any(|code| error.contains(code))
}

/// Returns whether a lock or lease caused the failed condition: reading again does not help then.
pub(super) fn names_a_lock(error: &str) -> bool {
    ["Lease", "ContainerBeing", "Immutable", "Retention"].iter().any(|code| error.contains(code))
}

/// Describes the failure for people: the request and its response, without the client's internal details.
pub(super) fn reason(error: &Error) -> String {
    let text = error.to_string();
    let request = text.rsplit_once("Error performing ").and_then(|(_, rest)| {
        let (head, said) = rest.split_once(" - ")?;
        let mut head = head.split(' ');
        Some(format!("{} {}: {said}", head.next()?, head.next()?))
    });
    let bare = || text.strip_prefix("Generic ").and_then(|rest| rest.split_once(" error: "));
    let text = request.unwrap_or_else(|| bare().map_or_else(|| text.clone(), |(_, said)| said.to_owned()));
    let text = ["Server returned non-2xx status code: ", "HTTP error: "]
        .iter()
        .fold(text, |text, noise| text.replace(noise, ""));
    one_line(&text.split(' ').map(without_secrets).collect::<Vec<_>>().join(" "))
}

/// Removes user, password and query from a URL. Returns any other word unchanged.
fn without_secrets(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    // The colon belongs to the surrounding text, not to the URL.
    let after = if rest.ends_with(':') && end < rest.len() { ":" } else { "" };
    let (authority, path) = rest[..end].split_once('/').unwrap_or((&rest[..end], ""));
    let slash = if rest[..end].contains('/') { "/" } else { "" };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{slash}{path}{after}")
}

/// Returns the text as one line without control characters, cut to the maximum length.
fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use object_store::client::HttpRequestBody;

    use super::*;

    #[test]
    fn the_code_and_the_message_of_a_response_are_kept() {
        let table = [
            (
                r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message><RequestId>1</RequestId></Error>"#,
                "AccessDenied: Access Denied",
            ),
            (
                "<Error><Code>SignatureDoesNotMatch</Code><Message>It does not match.</Message><AWSAccessKeyId>AKIAI\
                 </AWSAccessKeyId><StringToSign>AWS4-HMAC-SHA256\nx</StringToSign><SignatureProvided>0123\
                 </SignatureProvided></Error>",
                "SignatureDoesNotMatch: It does not match.",
            ),
            (
                "<Error><Code>AuthenticationFailed</Code><Message>Server failed to authenticate the request.\nRequestId:7\
                 </Message><AuthenticationErrorDetail>The MAC signature found in the HTTP request 'c2ln' is not the \
                 same</AuthenticationErrorDetail></Error>",
                "AuthenticationFailed: Server failed to authenticate the request. RequestId:7",
            ),
            (
                "<Error><Code>AccessDenied</Code><Message>Access denied.</Message><Details>a@b.example does not have \
                 storage.objects.get access</Details></Error>",
                "AccessDenied: Access denied.: a@b.example does not have storage.objects.get access",
            ),
            (
                "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>No provider\
                 </Message></Error></ErrorResponse>",
                "InvalidIdentityToken: No provider",
            ),
            (
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret"}"#,
                "invalid_client: AADSTS7000215: Invalid client secret",
            ),
            (
                r#"{"error":{"code":403,"status":"PERMISSION_DENIED","message":"no"}}"#,
                "PERMISSION_DENIED: no",
            ),
            ("<html>Forbidden</html>", "with 22 bytes that are not an object store's error"),
            ("", "without a message"),
        ];
        for (body, said) in table {
            assert_eq!(of_answer(body.as_bytes(), &Redactor::new([])), said);
        }
    }

    #[test]
    fn secrets_of_the_request_that_the_response_repeats_are_removed() {
        let url: Url =
            "https://a.blob.example/c/jwks?sv=2024&sig=aGVsbG8gd29ybGQgaGVsbG8%2Bd29ybGQ%3D".parse().unwrap();
        let mut request = HttpRequest::new(HttpRequestBody::from(Bytes::from_static(
            b"grant_type=client_credentials&client_secret=very-secret-client-secret",
        )));
        for (name, value) in [
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/1, Signature=0123456789abcdef0123456789abcdef",
            ),
            ("x-amz-security-token", "IQoJb3JpZ2luX2VjEXAMPLE"),
            ("x-identity-header", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let redactor = redactor(&request, &url);
        for secret in [
            "0123456789abcdef0123456789abcdef",
            "IQoJb3JpZ2luX2VjEXAMPLE",
            "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a",
            "very-secret-client-secret",
            "aGVsbG8gd29ybGQgaGVsbG8+d29ybGQ=",
        ] {
            let body =
                format!("<Error><Code>Bad</Code><Message>you sent {secret}, I think</Message></Error>");
            assert_eq!(
                of_answer(body.as_bytes(), &redactor),
                "Bad: you sent [redacted], I think",
                "{secret}"
            );
        }
    }

    #[test]
    fn a_url_loses_its_user_and_its_query() {
        for (text, expected) in [
            ("https://h.example/a/b?sig=1", "https://h.example/a/b"),
            ("https://user:hunter2@h.example:9000/a", "https://h.example:9000/a"),
            ("https://h.example?sig=1:", "https://h.example:"),
            ("https://h.example/a:", "https://h.example/a:"),
            ("word", "word"),
        ] {
            assert_eq!(without_secrets(text), expected);
        }
    }

    #[test]
    fn a_reason_is_one_line_and_not_long() {
        assert_eq!(one_line("a\r\n b\u{1b}[31m\tc"), "a b[31m c");
        assert_eq!(one_line(&"a".repeat(LONGEST + 1)).chars().count(), LONGEST + 1);
    }
}
