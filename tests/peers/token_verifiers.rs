//! carnet's tokens with third-party verifiers: PyJWT's `PyJWKClient` and jose's `createRemoteJWKSet`.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer};
use crate::support::seaweedfs::ROLE_ARN;
use crate::support::verifiers::Verifier;

const AUDIENCE: &str = "sts.amazonaws.com";

/// Returns an issuer with a feed `default/ALG` (in lower case) for each algorithm.
fn issuer(ca: &Ca) -> Issuer {
    let issuer = Issuer::https(ca);
    for alg in ["RS256", "ES256"] {
        let slug = alg.to_lowercase();
        let feed = ["--space", "default", "--slug", &slug, "--role-arn", ROLE_ARN, "--alg", alg];
        let registry = ["--registry", "123456789012.dkr.ecr.us-east-1.amazonaws.com"];
        issuer.carnet.ok(&[&["feed", "add", "aws-ecr"], &feed[..], &registry].concat());
    }
    issuer
}

fn verifiers(issuer: &Issuer, ca: &Ca) -> [Verifier; 2] {
    [Verifier::pyjwt(&issuer.url, AUDIENCE, ca), Verifier::jose(&issuer.url, AUDIENCE, ca)]
}

fn mint(carnet: &Carnet, slug: &str) -> String {
    carnet.ok(&["token", "mint", &format!("default/{slug}")]).trim().to_owned()
}

/// Returns one part of a compact token, decoded.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[test]
fn our_tokens_verify_with_pyjwt_and_jose_before_and_after_a_rotation() {
    let ca = Ca::new();
    let issuer = issuer(&ca);
    let before = ["rs256", "es256"].map(|slug| mint(&issuer.carnet, slug));
    // From here on, these two have the JWKS from before the rotation.
    let mut holders = verifiers(&issuer, &ca);
    for (token, alg) in before.iter().zip(["RS256", "ES256"]) {
        assert_eq!(part(token, 0)["alg"], alg);
        for verifier in &mut holders {
            let verdict = verifier.verify(token);
            let claims = verdict.claims.unwrap_or_else(|error| panic!("{} {alg}: {error}", verifier.name));
            assert_eq!(claims, part(token, 1));
            assert_eq!(claims["sub"], format!("space:default:feed:{}", alg.to_lowercase()));
        }
    }

    issuer.carnet.ok(&["key", "rotate", "--force", "--yes"]);

    let after = ["rs256", "es256"].map(|slug| mint(&issuer.carnet, slug));
    for (old, new) in before.iter().zip(&after) {
        assert_ne!(part(old, 0)["kid"], part(new, 0)["kid"], "the rotation changed no key");
    }
    // Old and new tokens, with new verifiers and with those that have the old JWKS.
    let newcomers = verifiers(&issuer, &ca);
    for mut verifier in newcomers.into_iter().chain(holders) {
        for token in before.iter().chain(&after) {
            let verdict = verifier.verify(token);
            assert_eq!(verdict.claims.as_ref(), Ok(&part(token, 1)), "{}", verifier.name);
            // The active key had been published, as the prepared one, before it signed.
            assert_eq!(verdict.fetches, 1, "{} had to fetch the JWKS again", verifier.name);
        }
    }
}

#[test]
fn tampered_token_is_refused_by_pyjwt_and_jose() {
    let ca = Ca::new();
    let issuer = issuer(&ca);
    let mut verifiers = verifiers(&issuer, &ca);
    for slug in ["rs256", "es256"] {
        let token = mint(&issuer.carnet, slug);
        let mut claims = part(&token, 1);
        claims["sub"] = "space:default:feed:another".into();
        let parts: Vec<&str> = token.split('.').collect();
        let tampered = [parts[0], &BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()), parts[2]].join(".");
        for (verifier, error) in
            verifiers.iter_mut().zip(["InvalidSignatureError", "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"])
        {
            assert!(verifier.verify(&token).claims.is_ok());
            assert_eq!(verifier.verify(&tampered).claims, Err(error.to_owned()), "{} {slug}", verifier.name);
        }
    }
}
