mod azure;
mod handed_on;
#[cfg(feature = "sandbox")]
mod published;
mod registry_token;
mod scope;
mod scripted;

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

pub(super) use self::scripted::Scripted;
use super::transport::TransportErrorKind;
use super::*;
use crate::feed::FeedDraft;
use crate::feed::aws::ENDPOINT_NAMES;
use crate::feed::endpoints::Endpoints;
use crate::jose::Algorithm;
use crate::oidc::token::Presented;
use crate::values::clock::SimulatedClock;
use crate::values::tls_failure::TlsFailure;

pub(super) const TOKEN: &str = "aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJlLXNpZ25hdHVyZQ";
pub(super) const SIGNATURE: &str = "c2lnbmF0dXJlLXNpZ25hdHVyZQ";
const SESSION_TOKEN: &str = "session/token+with==";
pub(super) const NOW: &str = "2026-03-01T12:00:00Z";

/// Every kind of silence, and whether a retry may help.
pub(super) const SILENCES: [(TransportErrorKind, bool); 6] = [
    (TransportErrorKind::Connect, true),
    (TransportErrorKind::Timeout, true),
    (TransportErrorKind::Tls(TlsFailure::NotTls), false),
    (TransportErrorKind::Tls(TlsFailure::Closed), true),
    (TransportErrorKind::TooLarge, false),
    (TransportErrorKind::Other, false),
];

pub(super) fn response(status: u16, body: impl Into<Bytes>) -> Result<Response<Bytes>, TransportErrorKind> {
    Ok(Response::builder().status(status).body(body.into()).unwrap())
}

fn credentials(expiration: &str) -> String {
    format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId>\
         <SecretAccessKey>secret&amp;key</SecretAccessKey><SessionToken>{SESSION_TOKEN}</SessionToken>\
         <Expiration>{expiration}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )
}

fn assumed() -> Result<Response<Bytes>, TransportErrorKind> {
    response(200, credentials("2026-03-01T13:00:00Z"))
}

fn refused_by_sts(status: u16, code: &str, message: &str) -> Result<Response<Bytes>, TransportErrorKind> {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
         <RequestId>req-1</RequestId></ErrorResponse>"
    );
    response(status, body)
}

/// Returns ECR's response with a login. `QVdTOmh1bnRlcjI=` is `AWS:hunter2`.
fn login(token: &str, expires_at: f64) -> Result<Response<Bytes>, TransportErrorKind> {
    let data = json!({ "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": "https://x" });
    response(200, json!({ "authorizationData": [data] }).to_string())
}

fn feed(registry: &str, endpoints: &[&str]) -> Feed {
    feed_of_type("aws-ecr", registry, endpoints)
}

fn feed_of_type(feed_type: &str, registry: &str, endpoints: &[&str]) -> Feed {
    let aws = json!({ "type": feed_type, "role_arn": "arn:aws:iam::123456789012:role/pull" });
    let draft = FeedDraft {
        endpoints: Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            registry.parse().unwrap(),
            serde_json::from_value(aws).unwrap(),
        )
    };
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), NOW.parse().unwrap()).unwrap()
}

fn ecr_feed() -> Feed {
    feed("123456789012.dkr.ecr.eu-west-1.amazonaws.com", &[])
}

fn token() -> SignedToken {
    SignedToken {
        compact: SecretString::new(TOKEN.into()),
        jti: Uuid::nil(),
        issued_at: NOW.parse().unwrap(),
        expires_at: "2026-03-01T12:10:00Z".parse().unwrap(),
        presented: Presented {
            iss: "https://issuer.example/x".into(),
            sub: "space:default:feed:a".into(),
            aud: "sts.amazonaws.com".into(),
            kid: "key-1".into(),
            alg: Algorithm::Es256,
        },
    }
}

async fn run(transport: &Scripted, feed: &Feed) -> Result<Credential, ExchangeError> {
    run_scoped(transport, feed, &Scope::everything()).await
}

async fn run_scoped(transport: &Scripted, feed: &Feed, scope: &Scope) -> Result<Credential, ExchangeError> {
    let request = ExchangeRequest { feed, token: &token(), scope };
    exchange(transport, request, &SimulatedClock::at(NOW.parse().unwrap())).await
}

async fn failure(responses: Vec<Result<Response<Bytes>, TransportErrorKind>>) -> ExchangeError {
    run(&Scripted::new(responses), &ecr_feed()).await.unwrap_err()
}

/// Returns everything that an error can show.
pub(super) fn shown(error: &ExchangeError) -> String {
    let source = std::error::Error::source(error).unwrap();
    let upstream = serde_json::to_string(&error.upstream()).unwrap();
    format!("{error} {error:?} {source} {source:?} {upstream} {:?}", error.hint())
}

#[tokio::test]
async fn credential_carries_both_expiries_and_ends_with_the_earlier() {
    let transport = Scripted::new([assumed(), login("QVdTOmh1bnRlcjI=", 1_772_409_000.75)]);
    let credential = run(&transport, &ecr_feed()).await.unwrap();
    assert_eq!((credential.username().unwrap(), credential.password().unwrap().reveal()), ("AWS", "hunter2"));
    assert_eq!(credential.issued_at, NOW.parse().unwrap());
    let stated: Vec<_> =
        credential.expiries.iter().map(|expiry| (expiry.of, expiry.at.to_string())).collect();
    assert_eq!(
        stated,
        [("sts", "2026-03-01T13:00:00Z".to_owned()), ("ecr", "2026-03-01T23:50:00.75Z".to_owned())]
    );
    assert_eq!(credential.expires_at.to_string(), "2026-03-01T13:00:00Z");
    assert!(!format!("{credential:?}").contains("hunter2"));
}

#[tokio::test]
async fn requests_follow_aws_documentation() {
    let transport = Scripted::new([assumed(), login("QVdTOmh1bnRlcjI=", 1_772_409_600.0)]);
    run(&transport, &ecr_feed()).await.unwrap();
    transport.assert_sent_where_the_log_says(&ecr_feed());

    let (sts, form) = transport.request(0);
    assert_eq!(sts.uri, "https://sts.eu-west-1.amazonaws.com/");
    assert_eq!(
        form,
        format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15\
             &RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fpull&RoleSessionName=default%40a\
             &DurationSeconds=3600&WebIdentityToken={TOKEN}"
        )
    );
    assert!(!sts.headers.contains_key("authorization"));

    let (ecr, body) = transport.request(1);
    assert_eq!(
        (ecr.uri.to_string().as_str(), body.as_str()),
        ("https://api.ecr.eu-west-1.amazonaws.com/", "{}")
    );
    assert_eq!(ecr.headers["x-amz-date"], "20260301T120000Z");
    assert_eq!(ecr.headers["x-amz-security-token"], SESSION_TOKEN);
    let authorization = ecr.headers["authorization"].to_str().unwrap();
    assert!(
        authorization.starts_with(
            "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260301/eu-west-1/ecr/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
        ),
        "{authorization}"
    );
    assert!(ecr.headers.values().filter(|value| value.is_sensitive()).count() >= 2);
}

#[tokio::test]
async fn overridden_endpoints_are_used_and_signed_for_the_partitions_home_region() {
    let transport = Scripted::new([assumed(), login("QVdTOmh1bnRlcjI=", 1_772_409_600.0)]);
    let feed = feed("localhost:5000", &["sts=http://localhost:1/aws/sts", "ecr=http://localhost:2"]);
    let credential = run(&transport, &feed).await.unwrap();
    transport.assert_sent_where_the_log_says(&feed);
    assert_eq!(credential.registry.as_str(), "localhost:5000");
    assert_eq!(transport.request(0).0.uri, "http://localhost:1/aws/sts");
    let (ecr, _) = transport.request(1);
    assert_eq!(ecr.uri, "http://localhost:2/");
    assert!(ecr.headers["authorization"].to_str().unwrap().contains("/us-east-1/ecr/"));
}

/// Returns the response of ECR Public, whose `authorizationData` is an object without `proxyEndpoint`.
fn public_login(data: serde_json::Value) -> Result<Response<Bytes>, TransportErrorKind> {
    response(200, json!({ "authorizationData": data }).to_string())
}

#[tokio::test]
async fn ecr_public_gets_requests_in_its_one_region_under_its_own_name() {
    let good = json!({ "authorizationToken": "QVdTOmh1bnRlcjI=", "expiresAt": 1_772_409_600.0 });
    for (registry, endpoints, sts, ecr) in [
        (
            "public.ecr.aws",
            &[][..],
            "https://sts.us-east-1.amazonaws.com/",
            "https://api.ecr-public.us-east-1.amazonaws.com/",
        ),
        (
            "ecr-public.aws.com",
            &["ecr=http://localhost:2"],
            "https://sts.us-east-1.amazonaws.com/",
            "http://localhost:2/",
        ),
        (
            "localhost:5000",
            &["sts=http://localhost:1", "ecr=http://localhost:2"],
            "http://localhost:1/",
            "http://localhost:2/",
        ),
    ] {
        let transport = Scripted::new([assumed(), public_login(good.clone())]);
        let feed = feed_of_type("aws-ecr-public", registry, endpoints);
        let credential = run(&transport, &feed).await.unwrap();
        assert_eq!(
            (credential.username().unwrap(), credential.password().unwrap().reveal()),
            ("AWS", "hunter2")
        );
        assert_eq!(credential.registry.as_str(), registry);
        let stated: Vec<_> = credential.expiries.iter().map(|expiry| expiry.of).collect();
        assert_eq!(stated, ["sts", "ecr-public"]);
        transport.assert_sent_where_the_log_says(&feed);
        assert_eq!(transport.request(0).0.uri, sts);
        let (asked, body) = transport.request(1);
        assert_eq!((asked.uri.to_string().as_str(), body.as_str()), (ecr, "{}"));
        assert_eq!(asked.headers["x-amz-target"], "SpencerFrontendService.GetAuthorizationToken");
        let authorization = asked.headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("/us-east-1/ecr-public/aws4_request,"), "{authorization}");
    }
}

#[tokio::test]
async fn ecr_publics_failures_name_its_own_step_and_permissions() {
    let feed = feed_of_type("aws-ecr-public", "public.ecr.aws", &[]);
    let denied = response(400, json!({ "__type": "AccessDeniedException", "message": "no" }).to_string());
    let error = run(&Scripted::new([assumed(), denied]), &feed).await.unwrap_err();
    assert_eq!(error.upstream().unwrap().step, "ecr-public:GetAuthorizationToken");
    let hint = error.hint().unwrap();
    assert!(hint.contains("ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken"), "{hint}");

    for (data, reason) in [
        (json!(null), "authorizationData is empty"),
        (json!([{ "authorizationToken": "SECRET", "expiresAt": 1 }]), "it is not the JSON of ECR"),
        (json!({ "expiresAt": 1 }), "authorizationData.authorizationToken is missing"),
    ] {
        let error = run(&Scripted::new([assumed(), public_login(data)]), &feed).await.unwrap_err();
        assert!(error.failure().to_string().ends_with(reason), "{}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
    }
}

#[tokio::test]
async fn every_sts_refusal_keeps_its_code_and_has_a_hint() {
    for (status, code, hint, transient) in [
        (400, "InvalidIdentityToken", "exactly the URL https://issuer.example/x", false),
        (400, "ExpiredTokenException", "clock", false),
        (403, "IDPRejectedClaim", "the audience sts.amazonaws.com", false),
        (400, "IDPCommunicationError", "https://issuer.example/x/.well-known/openid-configuration", true),
        (403, "AccessDenied", "issuer.example/x:sub = space:default:feed:a", false),
        (400, "MalformedPolicyDocument", "session policy", false),
        (400, "PackedPolicyTooLarge", "fewer repositories", false),
        (403, "RegionDisabledException", "activate STS", false),
        (400, "ValidationError", "session_duration", false),
        (400, "Throttling", "aws limits the rate", true),
        (429, "SlowDown", "aws limits the rate", true),
        (503, "ServiceUnavailable", "often temporary", true),
        (500, "InternalFailure", "often temporary", true),
        (400, "NoSuchCode", "look up NoSuchCode in aws's documentation", false),
    ] {
        let error = failure(vec![refused_by_sts(status, code, "Some &lt;text&gt;")]).await;
        let upstream = error.upstream().unwrap();
        assert_eq!(
            serde_json::to_value(upstream).unwrap(),
            json!({
                "provider": "aws", "step": "sts:AssumeRoleWithWebIdentity", "status": status,
                "code": code, "message": "Some <text>", "request_id": "req-1",
            })
        );
        assert!(error.hint().unwrap_or_default().contains(hint), "{code}: {:?}", error.hint());
        assert_eq!(error.is_transient(), transient, "{code}");
        assert_eq!(error.presented().sub, "space:default:feed:a");
        assert_eq!(error.to_string(), "sts:AssumeRoleWithWebIdentity failed");
        assert_eq!(
            error.failure().to_string(),
            format!("{code} (HTTP {status}): Some <text> [request id req-1]")
        );
    }
}

#[tokio::test]
async fn every_ecr_refusal_keeps_its_code_and_has_a_hint() {
    for (status, code, hint, transient) in [
        (400, "AccessDeniedException", "ecr:GetAuthorizationToken on resource *", false),
        (400, "UnrecognizedClientException", "belong together", false),
        (400, "InvalidSignatureException", "clock", false),
        (400, "ExpiredTokenException", "clock", false),
        (400, "UnknownOperationException", "not an Amazon ECR API", false),
        (400, "ThrottlingException", "limits the rate", true),
        (500, "ServerException", "often temporary", true),
    ] {
        for (kind, header) in [
            (code.to_owned(), None),
            (format!("com.amazonaws.ecr#{code}"), None),
            ("Other".to_owned(), Some(format!("{code}:http://internal.amazon.com/"))),
        ] {
            let mut response =
                response(status, json!({ "__type": kind, "Message": "no" }).to_string()).unwrap();
            response.headers_mut().insert("x-amzn-requestid", "req-2".parse().unwrap());
            if let Some(header) = header {
                response.headers_mut().insert("x-amzn-errortype", header.parse().unwrap());
            }
            let error = failure(vec![assumed(), Ok(response)]).await;
            let upstream = error.upstream().unwrap();
            assert_eq!(upstream.step, "ecr:GetAuthorizationToken");
            assert_eq!(upstream.code.as_deref(), Some(code));
            assert_eq!(upstream.message.as_deref(), Some("no"));
            assert_eq!(upstream.request_id.as_deref(), Some("req-2"));
            assert!(error.hint().unwrap_or_default().contains(hint), "{code}: {:?}", error.hint());
            assert_eq!(error.is_transient(), transient, "{code}");
        }
    }
}

#[tokio::test]
async fn refusals_in_no_known_form_keep_status_and_an_excerpt() {
    for (status, body, excerpt, transient) in [
        (
            502,
            "<html>\n<body>Bad Gateway</body></html>",
            Some("<html>\\n<body>Bad Gateway</body></html>"),
            true,
        ),
        (403, "<ErrorResponse><Err", Some("<ErrorResponse><Err"), false),
        (400, "{\"error\":\"x\"}", Some("{\"error\":\"x\"}"), false),
        (404, "", None, false),
        (302, "", None, false),
    ] {
        let error = failure(vec![response(status, body)]).await;
        let upstream = error.upstream().unwrap();
        assert_eq!((upstream.status, upstream.code.as_deref()), (Some(status), None));
        assert_eq!(upstream.message.as_deref(), excerpt);
        assert_eq!(error.is_transient(), transient);
        assert_eq!(error.hint().is_some_and(|hint| hint.contains("redirect")), status == 302);
    }
}

#[tokio::test]
async fn incomplete_successes_are_unusable_and_never_quoted() {
    let with = |from: &str, to: &str| credentials("2026-03-01T13:00:00Z").replace(from, to);
    let without = |name: &str| with(name, "Other");
    for (body, reason) in [
        (String::new(), "it is not the XML of STS"),
        ("not XML SECRET".into(), "it is not the XML of STS"),
        ("<html>SECRET</html>".into(), "Credentials is missing"),
        (credentials("2026-03-01T13:00:00Z").replace("</Credentials>", ""), "it is not the XML of STS"),
        (without("Credentials"), "Credentials is missing"),
        (without("AccessKeyId"), "Credentials.AccessKeyId is missing"),
        (without("SecretAccessKey"), "Credentials.SecretAccessKey is missing"),
        (without("SessionToken"), "Credentials.SessionToken is missing"),
        (without("Expiration"), "Credentials.Expiration is missing"),
        (credentials("soon"), "Credentials.Expiration is not a time"),
        (with("ASIAEXAMPLE", "SECRET\r\nX: y"), "Credentials.AccessKeyId is not an access key id"),
        (with("ASIAEXAMPLE", ""), "Credentials.AccessKeyId is not an access key id"),
        (with(SESSION_TOKEN, "SECRET\nX: y"), "Credentials.SessionToken is not a session token"),
        (with("secret&amp;key", ""), "Credentials.SecretAccessKey is empty"),
    ] {
        let error = failure(vec![response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
        assert!(!error.is_transient());
    }
    let data = |data: serde_json::Value| json!({ "authorizationData": [data] }).to_string();
    let token = |token: &str| data(json!({ "authorizationToken": token, "expiresAt": 1_772_409_600 }));
    for (body, reason) in [
        ("SECRET".to_owned(), "it is not the JSON of ECR"),
        ("{}".into(), "authorizationData is empty"),
        (json!({ "authorizationData": [] }).to_string(), "authorizationData is empty"),
        (json!({ "authorizationData": {} }).to_string(), "it is not the JSON of ECR"),
        (data(json!({ "expiresAt": 1 })), "authorizationData.authorizationToken is missing"),
        (
            data(json!({ "authorizationToken": null, "expiresAt": 1 })),
            "authorizationData.authorizationToken is missing",
        ),
        (data(json!({ "authorizationToken": "SECRET" })), "authorizationData.expiresAt is missing"),
        (data(json!({ "authorizationToken": "SECRET", "expiresAt": "1" })), "it is not the JSON of ECR"),
        (token("SECRET!"), "authorizationData.authorizationToken is not base64"),
        (token("/w=="), "authorizationData.authorizationToken is not UTF-8"),
        (token("U0VDUkVU"), "authorizationData.authorizationToken is not user:password"),
        (token("OlNFQ1JFVA=="), "authorizationData.authorizationToken is not user:password"),
        (token("QVdTOg=="), "authorizationData.authorizationToken is not user:password"),
        (
            data(json!({ "authorizationToken": "QVdTOmh1bnRlcjI=", "expiresAt": 1e300 })),
            "authorizationData.expiresAt is not a time",
        ),
    ] {
        let error = failure(vec![assumed(), response(200, body.clone())]).await;
        assert!(error.failure().to_string().ends_with(reason), "{body}: {}", error.failure());
        assert!(!shown(&error).contains("SECRET"));
    }
}

#[tokio::test]
async fn credentials_that_arrive_expired_are_never_returned() {
    let now: Timestamp = NOW.parse().unwrap();
    for (responses, step, expired_at) in [
        (vec![response(200, credentials(NOW))], "sts:AssumeRoleWithWebIdentity", NOW),
        // The constant expiry that moto's ECR returns.
        (
            vec![assumed(), login("QVdTOmh1bnRlcjI=", 1_439_942_400.0)],
            "ecr:GetAuthorizationToken",
            "2015-08-19T00:00:00Z",
        ),
        (
            vec![assumed(), login("QVdTOmh1bnRlcjI=", now.as_second() as f64)],
            "ecr:GetAuthorizationToken",
            NOW,
        ),
    ] {
        let error = failure(responses).await;
        let ExchangeFailure::ArrivedExpired { expired_at: at } = error.failure() else { panic!("{error:?}") };
        assert_eq!((error.step().name, at.to_string().as_str()), (step, expired_at));
        assert!(error.upstream().is_none() && !error.is_transient());
    }
}

#[tokio::test]
async fn silence_is_reported_with_its_step_and_kind() {
    for (kind, transient) in SILENCES {
        for (responses, step) in [
            (vec![Err(kind)], "sts:AssumeRoleWithWebIdentity"),
            (vec![assumed(), Err(kind)], "ecr:GetAuthorizationToken"),
        ] {
            let error = failure(responses).await;
            let upstream = error.upstream().unwrap();
            assert_eq!((upstream.step, upstream.status), (step, None));
            assert_eq!(upstream.message, Some(kind.to_string()));
            assert_eq!((error.is_transient(), error.hint().is_some()), (transient, true));
        }
    }
}

#[tokio::test]
async fn an_echoed_secret_never_gets_into_an_error() {
    let echo = format!("bad token {TOKEN}, signature {SIGNATURE}, \u{1b}[2Jbye");
    let by_sts = failure(vec![refused_by_sts(400, "InvalidIdentityToken", &echo)]).await;
    assert_eq!(
        by_sts.upstream().unwrap().message.as_deref(),
        Some("bad token [redacted], signature [redacted], \\u{1b}[2Jbye")
    );
    let as_code = failure(vec![refused_by_sts(400, TOKEN, "x")]).await;
    let by_proxy = failure(vec![response(500, format!("dump of the request: {TOKEN}"))]).await;
    let dump = format!("{SESSION_TOKEN} secret&key");
    let by_ecr = failure(vec![assumed(), response(500, dump)]).await;
    for error in [by_sts, as_code, by_proxy, by_ecr] {
        let shown = shown(&error);
        for secret in [SIGNATURE, SESSION_TOKEN, "secret&key", "\u{1b}"] {
            assert!(!shown.contains(secret), "{secret:?} in {shown}");
        }
    }
}

#[tokio::test]
async fn a_request_that_is_repeated_whole_shows_no_form_of_its_secrets() {
    for (responses, last) in [(vec![response(500, "ECHO")], 0), (vec![assumed(), response(500, "ECHO")], 1)] {
        let transport = Scripted::new(responses);
        let shown = shown(&run(&transport, &ecr_feed()).await.unwrap_err());
        let (sent, _) = transport.request(last);
        let signed = sent.headers.get("authorization").map(|value| value.to_str().unwrap());
        let signature = signed.map_or(TOKEN, |text| text.rsplit_once("Signature=").unwrap().1);
        assert!(shown.contains("[redacted]"), "{shown}");
        for secret in [signature, SIGNATURE, SESSION_TOKEN, "session%2Ftoken"] {
            assert!(!shown.contains(secret), "{secret:?} in {shown}");
        }
    }
}

#[tokio::test]
async fn a_providers_message_is_bounded() {
    let error = failure(vec![response(500, "x".repeat(1 << 20))]).await;
    assert!(error.upstream().unwrap().message.as_ref().unwrap().len() <= MAX_TEXT);
}
