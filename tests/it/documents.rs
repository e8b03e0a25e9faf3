//! The public documents on the wire, byte by byte: members, headers, revalidation, and 404s.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Carnet};
use crate::support::http::{Connection, HttpResponse};
use crate::support::process::wait_until;
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks";

/// Starts a server of the documents of `issuer`; returns it with its database.
fn serve(issuer: &str) -> (Announced, Carnet) {
    let carnet = Carnet::new();
    (carnet.serve(issuer, "127.0.0.1:0", &[]).unwrap(), carnet)
}

fn connect(server: &Announced) -> Connection {
    Connection::to(server.announced("/listening"), None)
}

/// Returns the headers, without those that are independent of the document.
fn headers(response: &HttpResponse) -> BTreeMap<&str, &str> {
    let headers = response.headers.iter().filter(|(name, _)| name != "date");
    headers.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Checks the guarantees for every verifier, independent of the transport.
fn assert_documents(connection: &mut Connection, issuer: &str, path: &str) {
    let discovery = connection.get(&format!("{path}{DISCOVERY}"));
    assert_eq!(
        discovery.json(),
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}{JWKS}"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            "claims_supported": [
                "iss", "sub", "aud", "iat", "nbf", "exp", "jti", "space", "feed", "feed_id", "project", "runbook",
                "tenant", "environment", "type",
            ],
            "scopes_supported": ["openid"],
        })
    );

    let jwks = connection.get(&format!("{path}{JWKS}"));
    let set = jwks.json();
    assert_eq!(members(&set), ["keys"]);
    let mut algorithms = Vec::new();
    for key in set["keys"].as_array().unwrap() {
        let mut names = members(key);
        names.sort_unstable();
        let (expected, kty) = match key["alg"].as_str().unwrap() {
            "RS256" => (["alg", "e", "kid", "kty", "n", "use"].as_slice(), "RSA"),
            "ES256" => (["alg", "crv", "kid", "kty", "use", "x", "y"].as_slice(), "EC"),
            other => panic!("{other}"),
        };
        assert_eq!((names.as_slice(), &key["kty"], &key["use"]), (expected, &kty.into(), &"sig".into()));
        algorithms.push(key["alg"].as_str().unwrap());
    }
    algorithms.sort_unstable();
    assert_eq!(algorithms, ["ES256", "ES256", "RS256", "RS256"], "one active and one prepared key each");

    for (file, whole) in [(DISCOVERY, discovery), (JWKS, jwks)] {
        let url = format!("{path}{file}");
        let etag = whole.header("etag").unwrap().to_owned();
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "not strong: {etag}");
        let length = whole.body.len().to_string();
        let common = [
            ("access-control-allow-origin", "*"),
            ("cache-control", "public, max-age=300"),
            ("etag", etag.as_str()),
        ];
        let of_body = [("content-type", "application/json"), ("content-length", length.as_str())];
        let expected: BTreeMap<_, _> = common.into_iter().chain(of_body).collect();
        assert_eq!((whole.status, headers(&whole)), (200, expected.clone()));

        let head = connection.request("HEAD", &url, "");
        assert_eq!((head.status, headers(&head), head.body.as_str()), (200, expected, ""));

        for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            for method in ["GET", "HEAD"] {
                let response = connection.request(method, &url, &format!("If-None-Match: {tags}\r\n"));
                assert_eq!((response.status, headers(&response)), (304, BTreeMap::from(common)), "{tags}");
            }
        }
        for tags in ["\"x\"", "", etag.trim_matches('"')] {
            let response = connection.request("GET", &url, &format!("If-None-Match: {tags}\r\n"));
            assert_eq!((response.status, &response.body), (200, &whole.body), "{tags}");
        }
        let response = connection.get(&format!("{url}?cache=buster"));
        assert_eq!((response.status, &response.body), (200, &whole.body));
    }
}

#[test]
fn the_documents_are_served_as_promised_over_plain_http() {
    let (server, _carnet) = serve(ISSUER);
    assert_documents(&mut connect(&server), ISSUER, "");
}

#[test]
fn the_documents_are_served_as_promised_over_tls() {
    let (carnet, ca) = (Carnet::new(), Ca::new());
    let (certificate, key) = (ca.server_certificate(), ca.server_key());
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = carnet.serve(ISSUER, "127.0.0.1:0", &tls).unwrap();
    let listening = server.announced("/listening").to_owned();
    assert!(listening.starts_with("https://"));
    assert_documents(&mut Connection::to(&listening, Some(&ca)), ISSUER, "");

    let mut plain = Connection::to(&listening.replace("https:", "http:"), None);
    plain.write(format!("GET {JWKS} HTTP/1.1\r\nHost: carnet.test\r\n\r\n").as_bytes());
    assert!(!plain.rest().starts_with(b"HTTP"), "a TLS listener answered in clear");
}

#[test]
fn an_issuer_with_a_path_serves_below_it_and_nowhere_else() {
    let issuer = "https://issuer.example/team/carnet";
    let (server, _carnet) = serve(issuer);
    let mut connection = connect(&server);
    assert_documents(&mut connection, issuer, "/team/carnet");
    for path in [
        DISCOVERY,
        JWKS,
        "/healthz",
        "/readyz",
        "/",
        "/team",
        "/team/carnet",
        "/team/carnet/",
        "/team/.well-known/jwks",
        "/carnet/.well-known/jwks",
        "/Team/carnet/.well-known/jwks",
        "/.well-known/openid-configuration/team/carnet",
        "/team/carnet/team/carnet/.well-known/jwks",
    ] {
        assert_eq!(connection.get(path).status, 404, "{path}");
    }
    assert_eq!(connection.get("/team/carnet/healthz").status, 200);
    assert_eq!(connection.get("/team/carnet/readyz").status, 200);
}

#[test]
fn nothing_else_is_public() {
    let (server, _carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    for path in [
        "/",
        "/.well-known",
        "/.well-known/",
        "/.well-known/jwks/",
        "/.well-known/jwks.json",
        "/.well-known/jwks%2f",
        "/.well-known/%6awks",
        "/.well-known/jwks;a=b",
        "/.well-known//jwks",
        "//.well-known/jwks",
        "/.well-known/./jwks",
        "/.well-known/x/../jwks",
        "/%2e%2e/.well-known/jwks",
        "/.Well-Known/jwks",
        "/.well-known/JWKS",
        "/.well-known/openid-configuration/",
        "/.well-known/oauth-authorization-server",
        "/../carnet.db",
        "/..%2f..%2fkeys/master.key",
        "/.well-known/../../keys/master.key",
        "/carnet.db",
        "/keys/master.key",
        "/healthz/",
        "/metrics/../healthz",
    ] {
        for method in ["GET", "HEAD", "POST", "OPTIONS"] {
            let response = connection.request(method, path, "");
            assert_eq!((response.status, response.body.as_str()), (404, ""), "{method} {path}");
        }
    }
}

#[test]
fn only_get_and_head_are_allowed() {
    let (server, _carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    for path in [DISCOVERY, JWKS, "/healthz", "/readyz"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"] {
            let response = connection.request(method, path, "Content-Length: 0\r\n");
            assert_eq!(
                (response.status, response.header("allow")),
                (405, Some("GET, HEAD")),
                "{method} {path}"
            );
            assert_eq!(response.body, "", "{method} {path}");
        }
    }
}

#[test]
fn health_says_alive_and_ready_and_is_never_cached() {
    let (server, _carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    let health = connection.get("/healthz");
    assert_eq!((health.status, health.json()), (200, json!({ "status": "alive" })));
    let ready = connection.get("/readyz");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"ready".into()));
    for response in [health, ready] {
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("content-type"), Some("application/json"));
    }
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let (server, _carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    let jwks = connection.get(JWKS).body;
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: carnet.test\r\n");
    let pipelined = [
        request(&format!("GET {JWKS}")) + "\r\n",
        request(&format!("HEAD {JWKS}")) + "\r\n",
        request("GET /absent") + "\r\n",
        // A body on a GET must not be parsed as the next request.
        request(&format!("GET {JWKS}")) + "Content-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        request(&format!("GET {DISCOVERY}")) + "Connection: close\r\n\r\n",
    ];
    connection.write(pipelined.concat().as_bytes());
    let responses = ["GET", "HEAD", "GET", "GET", "GET"]
        .map(|method| (connection.response(method), connection.is_closed()));
    assert_eq!(responses.each_ref().map(|(response, _)| response.status), [200, 200, 404, 200, 200]);
    assert_eq!((responses[0].0.body.as_str(), responses[3].0.body.as_str()), (jwks.as_str(), jwks.as_str()));
    assert!(responses[4].0.body.contains("jwks_uri"));
    assert_eq!(responses.map(|(_, closed)| closed), [false, false, false, false, true]);
}

#[test]
fn a_malformed_request_is_refused_and_ends_the_connection() {
    let (server, _carnet) = serve(ISSUER);
    let limit = 16 * 1024;
    let start = format!("GET {JWKS} HTTP/1.1\r\nHost: carnet.test\r\nX-Large: ");
    let large = format!("{start}{}", "a".repeat(limit - start.len()));
    let many = format!("GET {JWKS} HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(200));
    for (what, bytes, status) in [
        ("a header without end", large.as_bytes(), 431),
        ("many headers", many.as_bytes(), 431),
        ("words", b"please give me your keys\r\n\r\n", 400),
        ("another protocol", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ("another version", b"GET / HTTP/7.0\r\n\r\n", 400),
        ("a header without name", b"GET / HTTP/1.1\r\n: x\r\n\r\n", 400),
        ("a body of two lengths", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("a body of no length", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        ("a control character", b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
    ] {
        let mut connection = connect(&server);
        connection.write(bytes);
        let response = connection.response("GET");
        assert_eq!((response.status, response.body.as_str()), (status, ""), "{what}");
        assert!(connection.is_closed(), "{what}");
    }
    assert_eq!(connect(&server).get(JWKS).status, 200, "the server does not serve any more");
}

#[test]
fn a_rotation_swaps_the_jwks_whole() {
    let (server, carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    let (old, discovery) = (connection.get(JWKS), connection.get(DISCOVERY));
    carnet.ok(&["key", "rotate", "--force", "--yes"]);
    let new = wait_until(Duration::from_secs(30), || {
        // Every response during the rotation is one of the two, with matching tag and text.
        Some(connection.get(JWKS))
            .filter(|seen| seen.header("etag") != old.header("etag") || seen.body != old.body)
    });
    let new = new.expect("the rotation never appears");
    assert_ne!(new.header("etag"), old.header("etag"));
    let kids = |response: &HttpResponse| {
        let keys = response.json()["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (old_kids, new_kids) = (kids(&old), kids(&new));
    assert_eq!((old_kids.len(), new_kids.len()), (4, 6));
    assert!(old_kids.iter().all(|kid| new_kids.contains(kid)), "a rotation unpublishes nothing");
    let tag = format!("If-None-Match: {}\r\n", old.header("etag").unwrap());
    assert_eq!(connection.request("GET", JWKS, &tag).body, new.body);
    let unchanged = connection.get(DISCOVERY);
    assert_eq!((headers(&unchanged), &unchanged.body), (headers(&discovery), &discovery.body));
}

#[test]
fn the_jwks_begins_with_rs256_and_of_each_algorithm_with_the_key_that_signs() {
    let (server, carnet) = serve(ISSUER);
    let mut connection = connect(&server);
    let served = |connection: &mut Connection| -> Vec<(String, String)> {
        let jwks: Value = serde_json::from_str(&connection.get(JWKS).body).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        jwks["keys"].as_array().unwrap().iter().map(|key| (text(&key["alg"]), text(&key["kid"]))).collect()
    };
    for rotations in 0..3 {
        if rotations > 0 {
            carnet.ok(&["key", "rotate", "--force", "--yes"]);
        }
        let keys: Vec<Value> = serde_json::from_str(&carnet.ok(&["key", "list", "--output=json"])).unwrap();
        let mut expected: Vec<(&str, usize, String, &str)> = keys
            .iter()
            .map(|key| {
                let text = |member: &str| key[member].as_str().unwrap_or_default();
                let rank = ["active", "prepared", "retired"].iter().position(|state| *state == text("state"));
                (text("alg"), rank.unwrap(), text("retired_at").to_owned(), text("kid"))
            })
            .collect();
        // Sorted in reverse by algorithm and time of retirement.
        expected.sort_by(|a, b| (b.0, a.1, &b.2).cmp(&(a.0, b.1, &a.2)));
        let expected: Vec<_> = expected.iter().map(|key| (key.0.to_owned(), key.3.to_owned())).collect();
        assert_eq!(expected.len(), 4 + 2 * rotations);
        let order = wait_until(Duration::from_secs(30), || {
            let served = served(&mut connection);
            (served.len() == expected.len()).then_some(served)
        });
        assert_eq!(order.as_ref(), Some(&expected));
    }
}
