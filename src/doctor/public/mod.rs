//! The two public documents as a cloud gets them: the responses and their content.

mod discovery;
mod jwks;

use std::time::Duration;

use http::header;
use jiff::{SignedDuration, Timestamp};

pub use self::discovery::{check_discovery, jwks_uri};
pub use self::jwks::{Published, check_jwks};
use super::Finding;
use super::fetch::{FetchFailure, Fetched, FetchedResponse, GIVE_UP_AFTER};
use crate::diagnosis;
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

const CERTIFICATE: &str = "certificate";
const SPEED: &str = "speed";

/// The remaining lifetime below which a certificate should have been renewed.
const ENDS_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// The time above which a document of a few kilobytes is slow.
const SLOW: Duration = Duration::from_secs(1);
/// The time after which AWS gives up, approximately.
const TOO_SLOW: Duration = Duration::from_secs(5);

/// Returns a document's response if a cloud would accept it. Otherwise returns the finding that says what is
/// wrong and how to fix it.
fn served<'a>(id: &'static str, what: &str, fetched: &'a Fetched) -> Result<&'a FetchedResponse, Finding> {
    let url = &fetched.url;
    let response = match &fetched.outcome {
        Ok(response) => response,
        Err(failure) => {
            return Err(Finding::failed(id, format!("{what} cannot be fetched: {failure}"))
                .detail(format!(
                    "GET {url}. No cloud verifies a token of an issuer whose documents it cannot fetch."
                ))
                .hint(fix_for(failure)));
        }
    };
    let text = |name| response.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if (300..400).contains(&response.status) && response.status != 304 {
        let target = text(header::LOCATION).unwrap_or("nowhere").escape_debug().to_string();
        return Err(Finding::failed(id, format!("{what} is redirected ({}) to {target}", response.status))
            .detail(format!(
                "GET {url}. Clouds need not follow redirects, and the target would be another issuer URL."
            ))
            .hint("let the proxy serve the document at exactly this URL, without a redirect"));
    }
    if response.status != 200 {
        return Err(Finding::failed(id, format!("{what} was answered with status {}", response.status))
            .detail(format!("GET {url}. Clouds accept only 200."))
            .hint("the proxy must pass everything below the issuer URL's path to carnet's listener, path included"));
    }
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Finding::failed(
            id,
            format!("{what} has the content type {media_type:?}, not application/json"),
        )
        .detail(format!("GET {url}. OpenID Connect Discovery 1.0, section 4.2, requires it."))
        .hint("something between this machine and carnet responds instead, or rewrites headers"));
    }
    Ok(response)
}

fn fix_for(failure: &FetchFailure) -> String {
    match failure {
        FetchFailure::Url(_) => "a cloud fetches only https URLs".to_owned(),
        FetchFailure::Name { .. } => "the name needs a public DNS record (A or AAAA)".to_owned(),
        FetchFailure::Address(_) => {
            "every address of the name must be public; for a private set-up, check it with --allow-private"
                .to_owned()
        }
        FetchFailure::Certificate(CertificateProblem::UnknownIssuer) => {
            "serve the whole chain, including intermediates, of a certificate from a public authority; for a \
             private authority, check it with --ca FILE"
                .to_owned()
        }
        FetchFailure::Certificate(CertificateProblem::OtherName) => {
            "get a certificate for the host of the issuer URL".to_owned()
        }
        FetchFailure::Certificate(_) => {
            "renew the certificate, and check that the server loads the new one".to_owned()
        }
        FetchFailure::Connect(_) | FetchFailure::Tls { failure: TlsFailure::Closed, .. } => {
            "a server must accept public connections there: check the server, its proxy and the firewall"
                .to_owned()
        }
        FetchFailure::Tls { failure, .. } => diagnosis::tls::advice(*failure, "server"),
        FetchFailure::Timeout => format!(
            "AWS stops waiting after about {} s; find out why the response takes {} s",
            TOO_SLOW.as_secs(),
            GIVE_UP_AFTER.as_secs()
        ),
        FetchFailure::TooLong | FetchFailure::Other(_) => {
            "check which program responds there: it does not seem to be carnet".to_owned()
        }
    }
}

/// Checks that the certificate is trusted and does not expire soon. Returns `None` without TLS.
#[must_use]
pub fn check_certificate(responses: &[&Fetched], now: Timestamp) -> Option<Finding> {
    for fetched in responses {
        if let Err(failure @ FetchFailure::Certificate(problem)) = &fetched.outcome {
            let finding = Finding::failed(CERTIFICATE, format!("not trusted: {problem}"));
            return Some(finding.detail(format!("GET {}", fetched.url)).hint(fix_for(failure)));
        }
    }
    let responses = responses.iter().filter_map(|fetched| fetched.outcome.as_ref().ok());
    let ends = responses.filter_map(|response| response.certificate_expires_at).min()?;
    if ends.duration_since(now) > ENDS_SOON {
        return Some(Finding::ok(CERTIFICATE, format!("trusted, and valid until {ends}")));
    }
    Some(
        Finding::warning(CERTIFICATE, format!("trusted, but it ends at {ends}"))
            .detail("From then on no cloud fetches the documents or accepts a token.")
            .hint("renew it; `carnet serve --tls-cert` loads a renewed file by itself"),
    )
}

/// Judges the time that the slower document took.
#[must_use]
pub fn check_speed(responses: &[&Fetched]) -> Option<Finding> {
    let slowest =
        responses.iter().filter(|fetched| fetched.outcome.is_ok()).max_by_key(|fetched| fetched.took)?;
    let summary = format!("{} took {} ms", slowest.url, slowest.took.as_millis());
    let why = "A cloud fetches it while a deployment waits for its credential; AWS stops waiting after about \
               5 s.";
    let hint = "check the proxy and its distance; the documents are a few kilobytes and served from memory";
    Some(match slowest.took {
        took if took >= TOO_SLOW => Finding::failed(SPEED, summary).detail(why).hint(hint),
        took if took >= SLOW => Finding::warning(SPEED, summary).detail(why).hint(hint),
        _ => Finding::ok(SPEED, summary),
    })
}

#[cfg(test)]
mod tests;
