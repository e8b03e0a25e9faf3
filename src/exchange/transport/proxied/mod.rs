//! Distinguishes the proxy's failures from the host's, and reads the proxy's reason.
//!
//! It runs after a request has failed or got a response. It never decides where a request goes.

use std::error::Error;
use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::{Client, Response};
use url::Url;

use super::{ConnectCause, TransportError, TransportErrorKind, cause};
use crate::exchange::proxy::{ProxyFailure, ProxyUrl};
use crate::values::tls_failure::TlsFailure;

/// The timeout for the second request, which reads a proxy's status and reason.
const WORDS_WITHIN: Duration = Duration::from_secs(2);
/// The maximum number of bytes that are kept of a proxy's page.
const LONGEST_PAGE: usize = 512;

/// A failure of a proxy, with the proxy's URL.
#[derive(Debug, thiserror::Error)]
#[error("{proxy}: {said}")]
struct ProxyError {
    proxy: ProxyUrl,
    said: String,
}

/// Returns the response to a request for `target` through `proxy`, and converts the proxy's failures to
/// errors.
pub(super) async fn response(
    client: &Client,
    proxy: &ProxyUrl,
    target: &Url,
    response: reqwest::Result<Response>,
) -> Result<Response, TransportError> {
    let failed = |failure, said: String| {
        let source = ProxyError { proxy: proxy.clone(), said };
        TransportError::new(TransportErrorKind::Proxy(failure), Some(Box::new(source)))
    };
    let login = ProxyFailure::Login { given: proxy.has_login() };
    let is_tunnelled = target.scheme() == "https";
    let error = match response {
        // Inside a tunnel, that status is the host's own.
        Ok(response) if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED && !is_tunnelled => {
            return Err(failed(login, schemes(proxy, &response)));
        }
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    if !error.is_connect() {
        return Err(error.into());
    }
    if error.is_timeout() {
        return Err(failed(ProxyFailure::Silent, "no response, or no tunnel, in time".to_owned()));
    }
    let said = innermost(&error);
    let failure = match (stage(&error, is_tunnelled), cause(&error)) {
        (Stage::Login, _) => login,
        (Stage::Refused, _) => {
            let words = words(client, proxy, target).await;
            let (status, said) = words.map_or((None, said), |(status, said)| (Some(status), said));
            return Err(failed(
                if status == Some(407) { login } else { ProxyFailure::Refused(status) },
                said,
            ));
        }
        (Stage::HangUp, _) => ProxyFailure::NotHttp,
        (Stage::Proxy, Some(ConnectCause::Tls(failure))) => ProxyFailure::Tls(failure),
        (Stage::Proxy, _) => ProxyFailure::Unreached,
        // The proxy sent something else, or the tunnel closed or was reset before the end of the TLS handshake.
        // The client drops data that a proxy sends right after its response.
        (Stage::Host, None | Some(ConnectCause::Tls(TlsFailure::NotTls | TlsFailure::Closed))) => {
            ProxyFailure::NoTunnel
        }
        // For a certificate, of the host or of an inspecting proxy, the TLS error is more specific.
        (Stage::Host, _) => return Err(error.into()),
    };
    Err(failed(failure, said))
}

/// The stage at which a connection failed.
enum Stage {
    /// Before the proxy was reached.
    Proxy,
    /// The proxy requires a login.
    Login,
    /// The proxy refused to open a tunnel.
    Refused,
    /// The proxy's response was not HTTP.
    HangUp,
    /// Beyond the proxy.
    Host,
}

/// Parses the stage from the error's text: the type of a tunnel error is not part of any interface.
fn stage(error: &reqwest::Error, is_tunnelled: bool) -> Stage {
    let mut next = error.source();
    while let Some(error) = next {
        match error.to_string().strip_prefix("tunnel error: ") {
            Some("proxy authorization required") => return Stage::Login,
            Some("unsuccessful") => return Stage::Refused,
            Some("failed to create underlying connection") => return Stage::Proxy,
            Some(_) => return Stage::HangUp,
            None => next = error.source(),
        }
    }
    if is_tunnelled { Stage::Host } else { Stage::Proxy }
}

/// Sends `CONNECT` again, as a request whose response can be read. For the first one, the client only reports
/// that it was refused.
async fn words(client: &Client, proxy: &ProxyUrl, target: &Url) -> Option<(u16, String)> {
    // `CONNECT` names a host and a port. The `http` scheme makes the client send the request to the proxy
    // itself.
    let authority = format!("{}:{}", target.host_str()?, target.port_or_known_default()?);
    let request = client.request(Method::CONNECT, format!("http://{authority}/")).timeout(WORDS_WITHIN);
    let mut response = request.send().await.ok().filter(|response| !response.status().is_success())?;
    let mut page = Vec::new();
    while page.len() < LONGEST_PAGE
        && let Ok(Some(chunk)) = response.chunk().await
    {
        page.extend_from_slice(&chunk[..chunk.len().min(LONGEST_PAGE - page.len())]);
    }
    let page = proxy.redactor().text(&String::from_utf8_lossy(&page));
    let status = response.status();
    let said = format!("CONNECT {authority} was answered with {status}");
    Some((status.as_u16(), if page.is_empty() { said } else { format!("{said}: {page}") }))
}

/// Returns the authentication schemes that a proxy names.
fn schemes(proxy: &ProxyUrl, response: &Response) -> String {
    let named = response.headers().get_all(http::header::PROXY_AUTHENTICATE).iter();
    let named: Vec<_> = named.filter_map(|value| value.to_str().ok()).collect();
    if named.is_empty() {
        return "it names no authentication scheme".to_owned();
    }
    proxy.redactor().text(&format!("it requires {}", named.join(", ")))
}

/// Returns the text of the innermost cause.
fn innermost(error: &reqwest::Error) -> String {
    let mut last = error.source();
    while let Some(below) = last.and_then(Error::source) {
        last = Some(below);
    }
    last.map_or_else(|| "the connection failed".to_owned(), ToString::to_string)
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
