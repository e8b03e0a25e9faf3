//! A registry with one image, which requires a password.

use aws_lc_rs::digest::{SHA256, digest};

use crate::feed_check::gate;

const LAYER: &str = "a layer";

/// Returns the response to `authorization`; `login` is the accepted one.
pub(crate) fn response(path: &str, authorization: Option<&String>, login: &str) -> Vec<u8> {
    let hash: String =
        digest(&SHA256, LAYER.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(r#"{{"layers":[{{"digest":"sha256:{hash}"}}]}}"#);
    let blob = format!("/v2/app/blobs/sha256:{hash}");
    let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#;
    let (status, body) = match path {
        _ if !authorization.is_some_and(|given| {
            // The registries' own tests check the content of a token.
            *given == format!("Basic {login}") || given.starts_with("Bearer ")
        }) =>
        {
            return gate::response(
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"registry\"\r\n",
                refusal,
            );
        }
        "/v2/" => ("200 OK", "{}"),
        "/v2/app/manifests/v1" => ("200 OK", manifest.as_str()),
        path if path == blob => ("200 OK", LAYER),
        path if path.starts_with("/v2/app/") => {
            ("404 Not Found", r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#)
        }
        _ => {
            ("404 Not Found", r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known"}]}"#)
        }
    };
    gate::response(status, "", body)
}
