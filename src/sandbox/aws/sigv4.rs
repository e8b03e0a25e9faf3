//! Verifies AWS Signature Version 4 in the `Authorization` header.
//!
//! Computes the signature of the received request again and compares it in constant time.

use aws_credential_types::Credentials;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, Uri};
use jiff::{SignedDuration, Timestamp};

use super::AwsError;
use super::sessions::Session;

/// The maximum difference between a request's time and the sandbox's clock.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The headers that must be signed. If one were not, somebody could send the request to another host, at
/// another time, for another operation or in another session.
const MUST_BE_SIGNED: [&str; 4] = ["host", "x-amz-date", "x-amz-security-token", "x-amz-target"];

/// The content of an `Authorization` header, not yet verified.
#[derive(Debug)]
pub(super) struct Authorization<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) region: &'a str,
    service: &'static str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
    time: Timestamp,
}

fn incomplete(message: &str) -> AwsError {
    AwsError::new(400, "IncompleteSignatureException", message)
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new(400, "InvalidSignatureException", message)
}

impl<'a> Authorization<'a> {
    /// Parses the header. Checks its scope, which must name `service`, and its time.
    pub(super) fn parse(
        headers: &'a HeaderMap,
        service: &'static str,
        now: Timestamp,
    ) -> Result<Self, AwsError> {
        let authorization = text(headers, "authorization").ok_or_else(|| {
            AwsError::new(400, "MissingAuthenticationTokenException", "Missing Authentication Token")
        })?;
        let fields = authorization
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .ok_or_else(|| incomplete("Authorization is not AWS4-HMAC-SHA256"))?;
        let field = |name: &str| {
            let found =
                fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            found.ok_or_else(|| incomplete(&format!("Authorization lacks {name}")))
        };
        let scope: Vec<_> = field("Credential")?.split('/').collect();
        let wrong_scope = || invalid(format!("Credential should be scoped to correct service: '{service}'"));
        let [access_key_id, date, region, scoped, "aws4_request"] = scope[..] else {
            return Err(wrong_scope());
        };
        if scoped != service {
            return Err(wrong_scope());
        }
        let stamp = text(headers, "x-amz-date").ok_or_else(|| incomplete("X-Amz-Date is missing"))?;
        let time = amz_date(stamp).ok_or_else(|| incomplete("X-Amz-Date is not YYYYMMDD'T'HHMMSS'Z'"))?;
        if !stamp.starts_with(date) || date.len() != 8 {
            return Err(invalid("Date in Credential scope does not match X-Amz-Date"));
        }
        if now.duration_since(time).abs() > MAX_SKEW {
            return Err(invalid(format!("Signature expired or not yet current: {stamp}, now {now}")));
        }
        let signed_headers: Vec<_> = field("SignedHeaders")?.split(';').collect();
        if let Some(missing) = MUST_BE_SIGNED.iter().find(|name| !signed_headers.contains(name)) {
            return Err(incomplete(&format!("{missing} is not signed")));
        }
        Ok(Self { access_key_id, region, service, signed_headers, signature: field("Signature")?, time })
    }

    /// Verifies that the session's secret signed this request.
    pub(super) fn verify(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
        session: &Session,
    ) -> Result<(), AwsError> {
        let expected =
            self.signature_of(uri, headers, body, session).map_err(|reason| incomplete(&reason))?;
        verify_slices_are_equal(expected.as_bytes(), self.signature.as_bytes()).map_err(|_| {
            invalid("The request signature we calculated does not match the signature you provided.")
        })
    }

    fn signature_of(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
        session: &Session,
    ) -> Result<String, String> {
        // The signer adds the date and the session token itself.
        let signed = self
            .signed_headers
            .iter()
            .filter(|name| !matches!(**name, "x-amz-date" | "x-amz-security-token"));
        let signed: Vec<_> = signed
            .map(|name| {
                Ok((*name, text(headers, name).ok_or_else(|| format!("{name} is signed but not sent"))?))
            })
            .collect::<Result<_, String>>()?;
        let identity = Credentials::new(
            self.access_key_id,
            session.secret_access_key.reveal(),
            Some(session.session_token.reveal().to_owned()),
            None,
            "sandbox",
        )
        .into();
        let mut settings = SigningSettings::default();
        // Sign exactly the headers that the client lists as signed.
        settings.excluded_headers = None;
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time.into())
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        // The signer takes the host from the received header. The URI only needs to have some host.
        let uri = format!("http://sandbox{}", uri.path_and_query().map_or("/", |path| path.as_str()));
        let request = SignableRequest::new("POST", uri, signed.into_iter(), SignableBody::Bytes(body))
            .map_err(|error| error.to_string())?;
        let (_, signature) = sign(request, &params).map_err(|error| error.to_string())?.into_parts();
        Ok(signature)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Parses ISO 8601's basic format, such as `20260102T030405Z`.
fn amz_date(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let extended = format!(
        "{}-{}-{}T{}:{}:{}Z",
        date.get(..4)?,
        date.get(4..6)?,
        date.get(6..)?,
        time.get(..2)?,
        time.get(2..4)?,
        time.get(4..)?
    );
    extended.parse().ok()
}
