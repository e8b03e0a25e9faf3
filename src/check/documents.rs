//! Fetches the issuer's documents as clouds do: from the issuer URL, without following redirects.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, Response, StatusCode};

use super::Failed;
use crate::api_types::problem::UpstreamResponse;
use crate::diagnosis::issuer as causes;
use crate::exchange::transport::{HttpTransport, TransportErrorKind};
use crate::exchange::{Asked, Redactor, unreachable};
use crate::jose::jwk::{FetchedJwkSet, JwkSetError, Kid};
use crate::oidc::metadata::FetchedMetadata;
use crate::values::issuer_url::IssuerUrl;

/// The step that fetches the provider metadata.
pub(super) const DISCOVERY: &str = "discovery";
/// The step that fetches the keys.
pub(super) const JWKS: &str = "jwks";

/// The documents of an issuer, fetched through a transport.
pub(super) struct Documents<'a> {
    pub(super) transport: &'a dyn HttpTransport,
    pub(super) issuer: &'a IssuerUrl,
}

impl Documents<'_> {
    /// Fetches the provider metadata and returns its `jwks_uri`.
    pub(super) async fn discovery(&self) -> Result<String, Failed> {
        let url = self.issuer.discovery_url();
        let response = self.get(DISCOVERY, &url).await?;
        let metadata = FetchedMetadata::parse_complete(response.body()).map_err(|error| {
            Failed::new(format!("{url} is not provider metadata: {error}"), causes::unreadable(&url))
                .answered(upstream_response(DISCOVERY, &response))
        })?;
        if metadata.issuer() != Some(self.issuer.as_str()) {
            let what = format!("{url} names an issuer other than {}", self.issuer);
            return Err(Failed::new(what, causes::other_issuer(self.issuer.as_str(), &url))
                .answered(upstream_response(DISCOVERY, &response)));
        }
        Ok(metadata.jwks_uri().unwrap_or_default().to_owned())
    }

    /// Fetches the JWKS, which must contain the key `kid`. `published` are all keys that it should contain.
    pub(super) async fn jwks(
        &self,
        url: &str,
        kid: Option<&str>,
        published: &[Kid],
    ) -> Result<String, Failed> {
        let response = self.get(JWKS, url).await?;
        let unreadable = |error: JwkSetError| {
            Failed::new(format!("{url} is not a JWKS: {error}"), causes::unreadable(url))
                .answered(upstream_response(JWKS, &response))
        };
        let keys = FetchedJwkSet::parse(response.body()).map_err(unreadable)?;
        let kids = keys.claimed_kids().map_err(unreadable)?;
        // Without a subject there will be no token, and the mint step explains why.
        let Some(kid) = kid else { return Ok(format!("{} keys", kids.len())) };
        if kids.contains(&Some(kid)) {
            return Ok(format!("key {kid} is one of {}", kids.len()));
        }
        let strange = !kids.is_empty() && !published.iter().any(|own| kids.contains(&Some(own.as_str())));
        Err(Failed::new(
            format!("the signing key {kid} is not in {url}"),
            causes::key_not_visible(self.issuer.as_str(), kid, url, strange),
        )
        .answered(upstream_response(JWKS, &response)))
    }

    async fn get(&self, step: &'static str, url: &str) -> Result<Response<Bytes>, Failed> {
        let iss = self.issuer.as_str();
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|error| Failed::new(format!("{url}: {error}"), causes::unreadable(url)))?;
        let response = self.transport.send(request).await.map_err(|error| {
            let unreached = unreachable(error.kind(), &Asked::Issuer(url));
            let causes = match error.kind() {
                // Most often, nothing listens there.
                TransportErrorKind::Connect | TransportErrorKind::Other => {
                    [causes::unavailable(iss, url, None), vec![unreached]].concat()
                }
                TransportErrorKind::TooLarge => causes::unreadable(url),
                TransportErrorKind::Timeout
                | TransportErrorKind::Tls(_)
                | TransportErrorKind::Proxy(_)
                | TransportErrorKind::Address => {
                    vec![unreached]
                }
            };
            let silent = UpstreamResponse { message: Some(error.description()), ..nothing(step) };
            Failed::new(format!("{url} cannot be fetched: {error}"), causes).answered(silent)
        })?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(Failed::new(
            format!("{url} responded with {status}"),
            causes::unavailable(iss, url, Some(status)),
        )
        .answered(upstream_response(step, &response)))
    }
}

fn nothing(step: &str) -> UpstreamResponse {
    UpstreamResponse {
        provider: "issuer".to_owned(),
        step: step.to_owned(),
        status: None,
        code: None,
        message: None,
        request_id: None,
    }
}

fn upstream_response(step: &str, response: &Response<Bytes>) -> UpstreamResponse {
    UpstreamResponse {
        status: Some(response.status().as_u16()),
        message: Redactor::new([]).optional(Some(&String::from_utf8_lossy(response.body()))),
        ..nothing(step)
    }
}
