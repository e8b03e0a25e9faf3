//! The public documents over TLS, fetched by curl.

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;

use crate::support::ca::Ca;
use crate::support::carnet::Issuer;
use crate::support::process::clean_command;
use crate::support::system_peer;

/// A response received by curl.
struct CurlResponse {
    status: u16,
    /// By lower-case name.
    headers: BTreeMap<String, String>,
    body: String,
}

impl CurlResponse {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name} among {:?}", self.headers))
    }
}

fn curl(ca: &Ca, url: &str, more: &[&str]) -> CurlResponse {
    let output = clean_command(system_peer("curl"))
        .args(["--silent", "--show-error", "--max-time", "20", "--include", "--cacert"])
        .arg(ca.certificate())
        .args(more)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let response = String::from_utf8(output.stdout).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let (status_line, headers) = head.split_once("\r\n").unwrap();
    CurlResponse {
        status: status_line.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers
            .split("\r\n")
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: body.to_owned(),
    }
}

fn members(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn curl_sees_the_contract_members_and_headers() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let discovery_url = format!("{}/.well-known/openid-configuration", issuer.url);
    let jwks_url = format!("{}/.well-known/jwks", issuer.url);

    let discovery = curl(&ca, &discovery_url, &[]);
    let metadata: Value = serde_json::from_str(&discovery.body).unwrap();
    assert_eq!(metadata["issuer"], issuer.url);
    assert_eq!(metadata["jwks_uri"], jwks_url);
    for name in [
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
        "claims_supported",
        "scopes_supported",
    ] {
        assert!(metadata[name].as_array().is_some_and(|values| !values.is_empty()), "{name} in {metadata}");
    }
    let mut algorithms: Vec<&str> = metadata["id_token_signing_alg_values_supported"]
        .as_array()
        .unwrap()
        .iter()
        .map(|alg| alg.as_str().unwrap())
        .collect();
    algorithms.sort_unstable();
    assert_eq!(algorithms, ["ES256", "RS256"]);

    let jwks = curl(&ca, &jwks_url, &[]);
    let keys: Value = serde_json::from_str(&jwks.body).unwrap();
    assert_eq!(members(&keys), ["keys"]);
    let keys = keys["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 4, "an active and a prepared key for each algorithm");
    for key in keys {
        let expected: &[&str] = match key["kty"].as_str() {
            Some("RSA") => &["alg", "e", "kid", "kty", "n", "use"],
            _ => &["alg", "crv", "kid", "kty", "use", "x", "y"],
        };
        assert_eq!(members(key), expected);
    }

    for response in [&discovery, &jwks] {
        assert_eq!(response.status, 200);
        assert_eq!(response.header("content-type"), "application/json");
        assert_eq!(response.header("cache-control"), "public, max-age=300");
        assert_eq!(response.header("access-control-allow-origin"), "*");
        assert!(response.header("etag").starts_with('"'), "a strong validator: {}", response.header("etag"));
    }
}

#[test]
fn curl_revalidates_with_304_and_heads_without_a_body() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    for document in ["openid-configuration", "jwks"] {
        let url = format!("{}/.well-known/{document}", issuer.url);
        let full = curl(&ca, &url, &[]);
        let etag = full.header("etag");

        let current = curl(&ca, &url, &["--header", &format!("If-None-Match: {etag}")]);
        assert_eq!((current.status, &*current.body), (304, ""));
        assert_eq!(current.header("etag"), etag);
        assert_eq!(current.header("cache-control"), full.header("cache-control"));

        let outdated = curl(&ca, &url, &["--header", "If-None-Match: \"another\""]);
        assert_eq!((outdated.status, &outdated.body), (200, &full.body));

        let head = curl(&ca, &url, &["--head"]);
        assert_eq!((head.status, &*head.body), (200, ""));
        assert_eq!(head.header("content-length"), full.body.len().to_string());
        assert_eq!(head.header("etag"), etag);
    }
}

#[test]
fn curl_finds_nothing_else_and_no_other_method() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    for path in ["/", "/.well-known", "/.well-known/jwks/", "/.well-known/jwks.json", "/keys"] {
        assert_eq!(curl(&ca, &format!("{}{path}", issuer.url), &[]).status, 404, "{path}");
    }
    for document in ["openid-configuration", "jwks"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let response =
                curl(&ca, &format!("{}/.well-known/{document}", issuer.url), &["--request", method]);
            assert_eq!(response.status, 405, "{method} {document}");
            assert_eq!(response.header("allow").replace(' ', "").to_uppercase(), "GET,HEAD");
        }
    }
}
