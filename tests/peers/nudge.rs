//! A revocation with verifiers that fetch only for an unknown `kid`: OpenBao's JWT login and jose's
//! `createRemoteJWKSet` accept the revoked key until a nudge makes them fetch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer};
use crate::support::keys::{list, the};
use crate::support::openbao::OpenBao;
use crate::support::relay::Relay;
use crate::support::verifiers::Verifier;

const AUDIENCE: &str = "sts.amazonaws.com";
const SUBJECT: &str = "space:default:feed:a";

/// Adds the feed `default/a`, whose tokens are presented to `relay`.
fn add_feed(carnet: &Carnet, relay: &Relay) {
    let (sts, ecr) = (format!("sts={}", relay.url()), format!("ecr={}", relay.url()));
    carnet.ok(&[
        "feed",
        "add",
        "aws-ecr",
        "--space=default",
        "--slug=a",
        "--registry=123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "--role-arn=arn:aws:iam::123456789012:role/pull",
        "--alg=ES256",
        "--endpoint",
        &sts,
        "--endpoint",
        &ecr,
    ]);
}

fn mint(carnet: &Carnet) -> String {
    carnet.ok(&["token", "mint", "default/a"]).trim().to_owned()
}

/// Revokes the active key; returns all tokens that `relay` has received, `nudges` of them.
fn revoke(carnet: &Carnet, relay: &Relay, nudges: usize, more: &[&str]) -> Vec<String> {
    let listed = list(carnet);
    let active = the(&listed, "ES256", "active").to_string();
    carnet.ok(&[&["key", "revoke", &active, "--yes"], more].concat());
    relay.wait_for(nudges)
}

/// Returns the `kid` of a token's header.
fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

#[test]
fn openbao_accepts_the_revoked_key_until_a_nudge_has_it_fetch() {
    let issuer = Issuer::http();
    let carnet = &issuer.carnet;
    let bao = OpenBao::trusting(&issuer.url, AUDIENCE, SUBJECT);
    let login = bao.client();
    let relay = Relay::to(move |token| assert!(!login.accepts(token), "a nudge logs nobody in"));
    add_feed(carnet, &relay);
    let first = mint(carnet);
    assert!(bao.accepts(&first));

    // Without a nudge: it has the successor's key already, so nothing makes it fetch.
    assert_eq!(revoke(carnet, &relay, 0, &["--no-nudge"]), [""; 0]);
    let second = mint(carnet);
    assert_ne!(kid(&first), kid(&second));
    assert!(bao.accepts(&second));
    assert!(bao.accepts(&first), "a token of the revoked key is accepted");

    // With a nudge: both revoked keys are refused as soon as it has seen the token.
    let nudges = revoke(carnet, &relay, 1, &[]);
    let listed = list(carnet);
    assert_eq!(kid(&nudges[0]), the(&listed, "ES256", "prepared").to_string());
    assert!(!bao.accepts(&first) && !bao.accepts(&second), "tokens of the revoked keys are refused");
    assert!(bao.accepts(&mint(carnet)));
}

#[test]
fn jose_accepts_the_revoked_key_until_a_nudge_has_it_fetch() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let carnet = &issuer.carnet;
    let hour = Duration::from_secs(3600);
    let jose = Arc::new(Mutex::new(Verifier::jose_for_unknown_keys(&issuer.url, AUDIENCE, &ca, hour)));
    let verify = |token: &str| -> Result<Value, String> { jose.lock().unwrap().verify(token).claims };
    let asked = Arc::clone(&jose);
    let relay = Relay::to(move |token| {
        let claims = asked.lock().unwrap().verify(token).claims.unwrap();
        assert_eq!(claims["sub"], "carnet:nudge");
    });
    add_feed(carnet, &relay);
    let first = mint(carnet);
    assert_eq!(verify(&first).unwrap()["sub"], SUBJECT);

    assert_eq!(revoke(carnet, &relay, 0, &["--no-nudge"]), [""; 0]);
    let second = mint(carnet);
    assert_ne!(kid(&first), kid(&second));
    assert!(verify(&second).is_ok() && verify(&first).is_ok(), "a token of the revoked key is accepted");

    revoke(carnet, &relay, 1, &[]);
    for token in [&first, &second] {
        assert_eq!(verify(token).unwrap_err(), "ERR_JWKS_NO_MATCHING_KEY");
    }
    assert!(verify(&mint(carnet)).is_ok());
}
