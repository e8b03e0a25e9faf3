//! The exchange at AWS: SeaweedFS as the STS that fetches carnet's documents and verifies its token, moto as
//! the ECR of the second step.

use serde_json::Value;

use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer, Output};
use crate::support::moto::{self, Moto};
use crate::support::seaweedfs::{ROLE_ARN, SeaweedFs, Trust};

/// The subject and the audience that SeaweedFS trusts: by default those of the feed `default/a`.
const SUBJECT: &str = "space:default:feed:a";
const AUDIENCE: &str = "sts.amazonaws.com";

const ECR_HOST: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

/// Starts a SeaweedFS that trusts `issuer`.
fn seaweedfs(issuer: &Issuer, ca: &Ca) -> SeaweedFs {
    let ca = &ca.certificate();
    SeaweedFs::start(&Trust { issuer: &issuer.url, audience: AUDIENCE, subject: SUBJECT, ca })
}

/// Adds the feed `default/SLUG` with these endpoints and further flags.
fn add_feed(carnet: &Carnet, slug: &str, sts: &str, ecr: &str, more: &[&str]) {
    let (sts, ecr) = (format!("sts={sts}"), format!("ecr={ecr}"));
    let feed = ["--space", "default", "--slug", slug, "--registry", ECR_HOST, "--role-arn", ROLE_ARN];
    let endpoints = ["--endpoint", &sts, "--endpoint", &ecr];
    carnet.ok(&[&["feed", "add", "aws-ecr"], &feed[..], &endpoints, more].concat());
}

fn credentials(carnet: &Carnet, slug: &str) -> Output {
    carnet.run(&["feed", "credentials", &format!("default/{slug}"), "--format", "json"])
}

#[test]
fn seaweedfs_trusts_our_token_and_ecrs_answer_becomes_a_credential() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let (seaweedfs, moto) = (seaweedfs(&issuer, &ca), Moto::start());
    // moto's response except for its expiry, which is in 2015. In the year 2100, beyond the STS session's
    // end.
    let ecr = moto.expiring_at(4_102_444_800);
    add_feed(&issuer.carnet, "a", &seaweedfs.sts(), &ecr, &[]);

    let output = credentials(&issuer.carnet, "a");

    assert_eq!(output.status, 0, "{output:?}");
    let credential: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(credential["registry"], ECR_HOST);
    assert_eq!(credential["username"], "AWS");
    assert_eq!(credential["password"], moto::PASSWORD);
    let expires_at = credential["expires_at"].as_str().unwrap();
    assert!(
        expires_at < "2100",
        "the STS session ends before ECR's password, so its end counts: {expires_at}"
    );
}

#[test]
fn credential_that_ecr_gives_expired_is_reported_and_never_handed_out() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let (seaweedfs, moto) = (seaweedfs(&issuer, &ca), Moto::start());
    add_feed(&issuer.carnet, "a", &seaweedfs.sts(), &moto.url(), &[]);

    let output = credentials(&issuer.carnet, "a");

    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(output.stdout, "");
    for part in ["feed default/a", "had expired on arrival", moto::EXPIRED_AT, "ecr"] {
        assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
    }
    assert!(!output.stderr.contains(moto::PASSWORD), "{}", output.stderr);
}

/// SeaweedFS's refusal, and the claims that carnet presented.
struct StsRefusal<'a> {
    status: &'a str,
    code: &'a str,
    /// A part of the message.
    message: &'a str,
    issuer: &'a str,
    subject: &'a str,
    audience: &'a str,
}

#[track_caller]
fn assert_reported(output: &Output, feed: &str, refusal: &StsRefusal<'_>) {
    assert_eq!(output.status, 1, "{output:?}");
    assert_eq!(output.stdout, "", "nothing on stdout without a credential");
    let stderr = &output.stderr;
    let fact = |name: &str| {
        let value = stderr.lines().find_map(|line| line.trim_start().strip_prefix(name));
        value.unwrap_or_else(|| panic!("no line {name:?} in:\n{stderr}")).trim()
    };
    assert_eq!(fact("error:"), format!("feed {feed}: aws refused step sts:AssumeRoleWithWebIdentity"));
    assert_eq!(fact("status:"), refusal.status);
    assert_eq!(fact("code:"), refusal.code);
    assert!(fact("message:").contains(refusal.message), "{stderr}");
    assert_ne!(fact("request id:"), "");
    let presented: Vec<&str> = fact("presented:").split_whitespace().collect();
    for (name, value) in
        [("iss", refusal.issuer), ("sub", refusal.subject), ("aud", refusal.audience), ("alg", "ES256")]
    {
        assert!(presented.contains(&&*format!("{name}={value}")), "no {name}={value} in {presented:?}");
    }
    assert!(
        presented.iter().any(|fact| fact.len() > "kid=".len() && fact.starts_with("kid=")),
        "{presented:?}"
    );
    // SeaweedFS returns InvalidParameterValue where AWS has specific codes; carnet knows no cause for that
    // one.
    if refusal.code != "InvalidParameterValue" {
        assert_ne!(fact("hint:"), "");
    }
    // The base64url of `{"`, with which every token begins.
    assert!(!stderr.contains("eyJ"), "a token was printed:\n{stderr}");
}

#[test]
fn seaweedfs_refuses_a_subject_it_does_not_trust() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let seaweedfs = seaweedfs(&issuer, &ca);
    add_feed(&issuer.carnet, "b", &seaweedfs.sts(), &seaweedfs.sts(), &[]);

    assert_reported(
        &credentials(&issuer.carnet, "b"),
        "default/b",
        &StsRefusal {
            status: "403",
            code: "AccessDenied",
            message: "trust policy",
            issuer: &issuer.url,
            subject: "space:default:feed:b",
            audience: AUDIENCE,
        },
    );
}

#[test]
fn seaweedfs_refuses_an_audience_it_does_not_know() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let seaweedfs = seaweedfs(&issuer, &ca);
    add_feed(
        &issuer.carnet,
        "a",
        &seaweedfs.sts(),
        &seaweedfs.sts(),
        &["--audience", "somebody.else.example"],
    );

    assert_reported(
        &credentials(&issuer.carnet, "a"),
        "default/a",
        &StsRefusal {
            status: "400",
            code: "InvalidParameterValue",
            message: "audience",
            issuer: &issuer.url,
            subject: SUBJECT,
            audience: "somebody.else.example",
        },
    );
}

#[test]
fn seaweedfs_refuses_a_key_that_the_issuer_never_published() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let seaweedfs = seaweedfs(&issuer, &ca);
    // Another carnet with the same issuer URL, while the real one serves its own keys.
    let impostor = Carnet::new();
    let _server =
        impostor.serve(&issuer.url, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
    add_feed(&impostor, "a", &seaweedfs.sts(), &seaweedfs.sts(), &[]);

    assert_reported(
        &credentials(&impostor, "a"),
        "default/a",
        &StsRefusal {
            status: "403",
            code: "AccessDenied",
            message: "not found in JWKS",
            issuer: &issuer.url,
            subject: SUBJECT,
            audience: AUDIENCE,
        },
    );
}

#[test]
fn seaweedfs_refuses_an_expired_token() {
    let ca = Ca::new();
    // A carnet whose clock is in the past: for itself its tokens are valid, for SeaweedFS they expired nearly
    // two hours ago.
    let issuer = Issuer::https_of(&ca, || Carnet::with_clock_off_by("-2h"));
    let seaweedfs = seaweedfs(&issuer, &ca);
    add_feed(&issuer.carnet, "a", &seaweedfs.sts(), &seaweedfs.sts(), &[]);

    assert_reported(
        &credentials(&issuer.carnet, "a"),
        "default/a",
        &StsRefusal {
            status: "400",
            code: "ExpiredTokenException",
            message: "expired",
            issuer: &issuer.url,
            subject: SUBJECT,
            audience: AUDIENCE,
        },
    );
}
