//! Checks that a request names exactly one host.
//!
//! RFC 9112 requires one `Host` in every HTTP/1.1 request, and 400 otherwise: a proxy in front may have used
//! the other one of two. HTTP/1.0 permits requests without `Host`, which simple probes send, so those are
//! served.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body_util::Full;

/// Returns whether a request has as many `Host` headers as its version requires, and a valid host in it.
pub(super) fn is_one(version: Version, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_authority(host),
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Returns whether `host` has only characters of RFC 3986's `host[:port]`. It is empty if a URI has no
/// authority.
fn is_authority(host: &HeaderValue) -> bool {
    host.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte))
}

/// Returns the response to other requests. It closes the connection, because the sender and its proxy may
/// disagree about the request.
pub(super) fn refusal() -> Response<Full<Bytes>> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(b"A request has exactly one Host header.\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_host_is_required_according_to_the_http_version() {
        for (version, hosts, good) in [
            (Version::HTTP_11, &["issuer.example"][..], true),
            (Version::HTTP_11, &["[::1]:8080"], true),
            (Version::HTTP_11, &["my_service:80"], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &["a", "a"], false),
            (Version::HTTP_11, &["a b"], false),
            (Version::HTTP_11, &["user@a"], false),
            (Version::HTTP_11, &["a/b"], false),
            (Version::HTTP_11, &["https://a"], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_10, &["a"], true),
            (Version::HTTP_10, &["a", "b"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, HeaderValue::from_static(host));
            }
            assert_eq!(is_one(version, &headers), good, "{version:?} {hosts:?}");
        }
    }
}
