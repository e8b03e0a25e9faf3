use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::doctor::Status;
use crate::jose::jwk::{PublicKey, jwk_set};
use crate::signing_keys::policy::RotationPolicy;
use crate::signing_keys::{SigningKey, Stage};
use crate::values::issuer_url::IssuerUrl;

const ISSUER: &str = "https://issuer.example/a";
const METADATA: &str = r#"{"issuer":"https://issuer.example/a","jwks_uri":"https://issuer.example/a/.well-known/jwks","response_types_supported":["id_token"],"subject_types_supported":["public"],"id_token_signing_alg_values_supported":["RS256","ES256"]}"#;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn issuer() -> IssuerUrl {
    ISSUER.parse().unwrap()
}

fn fetched(status: u16, headers: &[(&'static str, &str)], body: &str) -> Fetched {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    let body = Bytes::copy_from_slice(body.as_bytes());
    let response = FetchedResponse { status, headers: map, body, certificate_expires_at: None };
    let took = Duration::from_millis(20);
    Fetched {
        url: issuer().discovery_url(),
        began_at: at(0),
        answered_at: at(0),
        took,
        outcome: Ok(response),
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn of(findings: &[Finding], id: &str) -> Finding {
    let found = findings.iter().find(|finding| finding.id == id);
    found.unwrap_or_else(|| panic!("no {id} in {findings:#?}")).clone()
}

#[test]
fn discovery_as_carnet_serves_it_is_in_order() {
    let found = fetched(200, &[("content-type", "application/json; charset=utf-8")], METADATA);
    let findings = check_discovery(&issuer(), &found);
    assert_eq!(findings.len(), 3);
    assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
    assert_eq!(jwks_uri(&found).as_deref(), Some("https://issuer.example/a/.well-known/jwks"));
}

#[test]
fn a_strangers_response_cannot_move_the_cursor() {
    let hostile = METADATA.replacen("https://issuer.example", "https://\\u001b[2J", 2);
    let found = fetched(200, &[JSON], &hostile);
    assert_eq!(jwks_uri(&found), None);
    let findings = check_discovery(&issuer(), &found);
    assert_eq!(findings.iter().filter(|finding| finding.status == Status::Failed).count(), 2);
    assert!(findings.iter().all(|finding| !finding.summary.contains(char::is_control)), "{findings:?}");
    let path = METADATA.replacen("/.well-known/jwks", "/\\u001b[2J", 1);
    let uri = jwks_uri(&fetched(200, &[JSON], &path)).unwrap();
    assert_eq!(uri, "https://issuer.example/a/%1B[2J");
}

#[test]
fn documents_that_no_cloud_reads_are_distinguished() {
    for (status, headers, body, words) in [
        (302, &[("location", "https://www.issuer.example/")][..], "", "redirected (302) to https://www."),
        (308, &[], "", "redirected (308) to nowhere"),
        (404, &[JSON], "{}", "status 404"),
        (200, &[], METADATA, "content type \"\""),
        (200, &[("content-type", "text/html")], METADATA, "content type \"text/html\""),
        (200, &[JSON], "<html>", "not a JSON object"),
        (200, &[JSON], "[]", "not a JSON object"),
    ] {
        let findings = check_discovery(&issuer(), &fetched(status, headers, body));
        let [finding] = &findings[..] else { panic!("{findings:#?}") };
        assert_eq!((finding.id, finding.status), ("discovery", Status::Failed));
        assert!(finding.summary.contains(words), "{}", finding.summary);
        assert!(finding.hint.is_some());
    }
}

#[test]
fn another_issuer_is_refused_and_the_difference_named() {
    for (said, words) in [
        ("https://issuer.example/a/", "trailing slash"),
        ("https://Issuer.example/A", "case"),
        ("http://issuer.example/a", "scheme"),
        ("https://other.example", "Another program"),
    ] {
        let found = fetched(200, &[JSON], &METADATA.replacen(ISSUER, said, 1));
        let finding = of(&check_discovery(&issuer(), &found), "issuer");
        assert_eq!(finding.status, Status::Failed, "{said}");
        assert!(finding.detail.unwrap().contains(words), "{said}");
    }
}

#[test]
fn metadata_without_a_member_that_clouds_require_are_refused() {
    for (from, to, words) in [
        ("subject_types_supported", "other", "subject_types_supported is missing"),
        ("jwks_uri", "other", "jwks_uri is missing"),
        (r#","ES256""#, "", "ES256 is not among the algorithms"),
        ("/.well-known/jwks", "/keys", "jwks_uri is \"https://issuer.example/a/keys\""),
    ] {
        let found = fetched(200, &[JSON], &METADATA.replacen(from, to, 1));
        let finding = of(&check_discovery(&issuer(), &found), "metadata");
        assert_eq!(finding.status, Status::Failed);
        assert!(finding.summary.contains(words), "{}", finding.summary);
    }
}

fn key(number: u8, stage: Stage) -> SigningKey {
    let public = PublicKey::P256 { x: [number; 32], y: [number; 32] };
    SigningKey { stage, ..SigningKey::prepared(public, at(-1_000_000)) }
}

fn keys() -> [SigningKey; 3] {
    [
        key(1, Stage::Active { activated_at: at(-500_000) }),
        key(2, Stage::Prepared),
        key(3, Stage::Revoked { activated_at: None, revoked_at: at(-1000) }),
    ]
}

fn jwks_findings(published: &[SigningKey], cache_control: Option<&str>) -> Vec<Finding> {
    let (keys, policy) = (keys(), RotationPolicy::default());
    let mut headers = vec![JSON];
    headers.extend(cache_control.map(|value| ("cache-control", value)));
    let body = jwk_set(published.iter().map(|key| &key.public));
    let expected = Published { keys: &keys, policy: &policy, now: at(0) };
    check_jwks(Some(expected), &fetched(200, &headers, &body))
}

#[test]
fn the_jwks_must_hold_the_keys_of_the_database_and_no_others() {
    let [active, prepared, revoked] = keys();
    let foreign = key(9, Stage::Prepared);
    let good = jwks_findings(&[active.clone(), prepared.clone()], Some("public, max-age=300"));
    assert!(good.iter().all(|finding| finding.status == Status::Ok), "{good:#?}");
    for (published, id, words) in [
        (vec![prepared.clone()], "active-keys", active.kid().to_string()),
        (vec![active.clone()], "other-keys", "will sign next".to_owned()),
        (vec![active.clone(), prepared.clone(), revoked], "other-keys", "was revoked".to_owned()),
        (vec![active, prepared, foreign], "other-keys", "not a key of this database".to_owned()),
    ] {
        let finding = of(&jwks_findings(&published, Some("max-age=300")), id);
        assert_eq!(finding.status, Status::Failed);
        assert!(finding.summary.contains(&words), "{}", finding.summary);
    }
}

#[test]
fn cache_headers_are_held_against_the_policy() {
    let [active, prepared, _] = keys();
    for (cache_control, expected) in [
        (Some("public, max-age=300"), Status::Ok),
        (Some("Max-Age=300"), Status::Ok),
        (None, Status::Warning),
        (Some("no-store"), Status::Warning),
        (Some("public, max-age=3600"), Status::Warning),
        (Some("public, max-age=86401"), Status::Failed),
        (Some("max-age=300, s-maxage=604800"), Status::Failed),
        (Some("max-age=99999999999999999999"), Status::Failed),
        (Some("no-store, max-age=604800"), Status::Warning),
        (Some("max-age=604800, no-cache"), Status::Warning),
        (Some("no-cache=\"set-cookie\", max-age=604800"), Status::Failed),
    ] {
        let finding = of(&jwks_findings(&[active.clone(), prepared.clone()], cache_control), "cache");
        assert_eq!(finding.status, expected, "{cache_control:?}");
    }
}

#[test]
fn cache_headers_in_several_fields_are_one_list() {
    let mut found = fetched(200, &[JSON, ("cache-control", "max-age=300")], r#"{"keys":[]}"#);
    let response = found.outcome.as_mut().unwrap();
    response.headers.append("cache-control", HeaderValue::from_static("s-maxage=604800"));
    let policy = RotationPolicy::default();
    let findings = check_jwks(Some(Published { keys: &[], policy: &policy, now: at(0) }), &found);
    assert_eq!(of(&findings, "cache").status, Status::Failed);
}

#[test]
fn slow_responses_warn_and_responses_too_slow_for_aws_fail() {
    for (millis, expected) in
        [(999, Status::Ok), (1000, Status::Warning), (4999, Status::Warning), (5000, Status::Failed)]
    {
        let slow = Fetched { took: Duration::from_millis(millis), ..fetched(200, &[], "") };
        assert_eq!(check_speed(&[&fetched(200, &[], ""), &slow]).unwrap().status, expected, "{millis}");
    }
}

#[test]
fn a_certificate_is_to_be_renewed_two_weeks_before_its_end() {
    const DAY: i64 = 86_400;
    for (ends, expected) in [(15 * DAY, Status::Ok), (14 * DAY, Status::Warning), (1, Status::Warning)] {
        let mut found = fetched(200, &[], "");
        found.outcome.as_mut().unwrap().certificate_expires_at = Some(at(ends));
        assert_eq!(check_certificate(&[&found], at(0)).unwrap().status, expected, "{ends}");
    }
    assert_eq!(check_certificate(&[&fetched(200, &[], "")], at(0)), None);
}
