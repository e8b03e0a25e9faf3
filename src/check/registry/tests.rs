use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use http::header::WWW_AUTHENTICATE;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::check::image::{ImageReference, pull};
use crate::exchange::transport::SendFuture;
use crate::feed::FeedDraft;
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

const LAYER: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

type Answer = Result<Response<Bytes>, TransportErrorKind>;

/// A transport that returns scripted responses in order and records each URL with its authorization.
#[derive(Debug, Default)]
struct Scripted {
    responses: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(String, Option<String>)>>,
}

impl HttpTransport for Scripted {
    fn send(&self, request: Request<Bytes>) -> SendFuture<'_> {
        let authorization =
            request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        self.asked.lock().unwrap().push((request.uri().to_string(), authorization));
        let response = self.responses.lock().unwrap().pop_front().expect("no answer left");
        Box::pin(async move { response.map_err(|kind| TransportError::new(kind, None)) })
    }
}

fn response(status: u16, header: Option<(&str, &str)>, body: &str) -> Answer {
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    Ok(response.body(Bytes::from(body.to_owned())).unwrap())
}

fn challenged(with: &str) -> Answer {
    response(401, Some((WWW_AUTHENTICATE.as_str(), with)), "")
}

fn feed(registry: &str) -> Feed {
    let draft = FeedDraft {
        endpoints: crate::feed::endpoints::Endpoints::from_pairs(
            crate::feed::azure::ENDPOINT_NAMES,
            ["authority=http://localhost:1", "registry=http://localhost:1"],
        )
        .unwrap(),
        ..FeedDraft::new(
            "default/a".parse().unwrap(),
            registry.parse().unwrap(),
            serde_json::from_value(json!({
                "type": "azure-acr", "tenant_id": Uuid::from_u128(1), "client_id": Uuid::from_u128(2),
            }))
            .unwrap(),
        )
    };
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), "2026-03-01T12:00:00Z".parse().unwrap()).unwrap()
}

fn together(parts: [Vec<Answer>; 2]) -> Vec<Answer> {
    parts.into_iter().flatten().collect()
}

fn login() -> Secret {
    Secret::Password { username: "AWS".to_owned(), password: SecretString::new("hunter2".to_owned()) }
}

const BASIC: &str = "Basic QVdTOmh1bnRlcjI=";

fn scripted(responses: Vec<Answer>) -> Scripted {
    Scripted { responses: Mutex::new(responses.into()), asked: Mutex::default() }
}

fn asked(transport: &Scripted) -> Vec<(String, Option<String>)> {
    transport.asked.lock().unwrap().clone()
}

#[tokio::test]
async fn a_password_goes_to_the_registry_or_to_its_own_realm() {
    let (feed, secret) = (feed("r.example"), login());
    let basic = scripted(vec![challenged("Basic realm=\"r\""), response(200, None, "{}")]);
    assert!(Registry::log_in(&basic, &feed, &secret).await.is_ok());
    let v2 = "https://r.example/v2/".to_owned();
    assert_eq!(asked(&basic), [(v2.clone(), None), (v2.clone(), Some(BASIC.to_owned()))]);

    let bearer = scripted(vec![
        challenged("Bearer realm=\"https://r.example/token\",service=\"r\",scope=\"a:b c\""),
        response(200, None, r#"{"token":"t0ken"}"#),
        response(200, None, "{}"),
    ]);
    assert!(Registry::log_in(&bearer, &feed, &secret).await.is_ok());
    let realm = "https://r.example/token?service=r&scope=a%3Ab+c".to_owned();
    let expected =
        [(v2.clone(), None), (realm, Some(BASIC.to_owned())), (v2, Some("Bearer t0ken".to_owned()))];
    assert_eq!(asked(&bearer), expected);
}

#[tokio::test]
async fn a_realm_on_another_host_gets_nothing() {
    let (feed, secret) = (feed("r.example"), login());
    for realm in [
        "https://evil.example/token",
        "https://r.example.evil.example/token",
        "https://r.example:8443/token",
        "http://r.example/token",
        "https://user@r.example/token",
        "https://gcr.io/token",
        "//evil.example/token",
        "file:///etc/passwd",
        "https://",
    ] {
        let transport = scripted(vec![challenged(&format!("Bearer realm=\"{realm}\""))]);
        let failed = Registry::log_in(&transport, &feed, &secret).await.err().unwrap();
        assert!(failed.detail.contains("is not the registry's own"), "{realm}: {}", failed.detail);
        assert!(failed.causes[0].why.contains("another registry than it seems"), "{realm}");
        assert_eq!(asked(&transport).len(), 1, "{realm}");
    }
}

#[tokio::test]
async fn a_refusal_is_kept_word_for_word_without_the_password() {
    let (feed, secret) = (feed("r.example"), login());
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"no hunter2","detail":{"x":1}}]}"#;
    let transport = scripted(vec![challenged("Basic realm=\"r\""), response(401, None, body)]);
    let failed = Registry::log_in(&transport, &feed, &secret).await.err().unwrap();
    let upstream = failed.upstream.unwrap();
    assert_eq!((upstream.status, upstream.code.as_deref()), (Some(401), Some("UNAUTHORIZED")));
    assert_eq!(upstream.message.as_deref(), Some("no [redacted] [detail {\"x\":1}]"));
}

/// Returns everything that a failure shows.
fn shown(failed: &Failed) -> String {
    format!("{} {:?} {:?}", failed.detail, failed.upstream, failed.causes)
}

#[tokio::test]
async fn no_form_of_a_credential_that_a_registry_repeats_is_shown() {
    let (feed, secret) = (feed("r.example"), login());
    let realm = "Bearer realm=\"https://r.example/token\"";
    let echo = |text: &str| response(401, None, &format!("you sent {text}"));
    let pulled_by = async |responses: Vec<_>| {
        let transport = scripted(responses);
        let opened = Registry::log_in(&transport, &feed, &secret).await;
        let Ok((mut registry, _)) = opened else { return opened.err().unwrap() };
        pull(&mut registry, &ImageReference::parse("app:v1", &feed.registry).unwrap()).await.err().unwrap()
    };
    let given = || response(200, None, r#"{"token":"t0ken.t0ken.dGhlIHNpZ25hdHVyZQ"}"#);
    let cut = BASIC.trim_end_matches("I=");
    for responses in [
        vec![challenged("Basic realm=\"r\""), echo(BASIC)],
        vec![challenged("Basic realm=\"r\""), echo(cut)],
        vec![challenged(realm), echo(BASIC)],
        vec![challenged(realm), given(), echo("t0ken.t0ken.dGhlIHNpZ25hdHVyZQ")],
        vec![challenged(realm), given(), echo("dGhlIHNpZ25hdHVyZQ")],
        vec![challenged("Basic realm=\"r\""), response(200, None, "{}"), echo(BASIC)],
        // A realm that repeats what was sent before.
        vec![
            challenged("Basic realm=\"r\""),
            response(200, None, "{}"),
            challenged(&format!("Bearer realm=\"https://evil.example/{}\"", &BASIC[6..])),
        ],
    ] {
        let shown = shown(&pulled_by(responses).await);
        assert!(shown.contains("[redacted]"), "{shown}");
        for secret in ["hunter2", "QVdTOmh1bnRlcj", "t0ken", "dGhlIHNpZ25hdHVyZQ"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[tokio::test]
async fn a_missing_response_is_reported_for_its_own_step_and_host() {
    let (feed, secret) = (feed("r.example"), login());
    let manifest = json!({ "layers": [{ "digest": LAYER }] }).to_string();
    let blob = response(307, Some((LOCATION.as_str(), "https://blobs.example/x?sig=1")), "");
    let silence = || Err(TransportErrorKind::Connect);
    let logged_in = || vec![challenged("Basic realm=\"r\""), response(200, None, "{}")];
    for (responses, step, host, causes) in [
        (vec![silence()], "registry", "r.example", 2),
        (vec![challenged("Basic realm=\"r\""), silence()], "registry", "r.example", 2),
        (together([logged_in(), vec![silence()]]), "pull", "r.example", 1),
        (together([logged_in(), vec![response(200, None, &manifest), silence()]]), "pull", "r.example", 1),
        (
            together([logged_in(), vec![response(200, None, &manifest), blob, silence()]]),
            "pull",
            "blobs.example",
            1,
        ),
    ] {
        let transport = scripted(responses);
        let failed = match Registry::log_in(&transport, &feed, &secret).await {
            Ok((mut registry, _)) => {
                pull(&mut registry, &ImageReference::parse("app:v1", &feed.registry).unwrap()).await.err()
            }
            Err(failed) => Some(failed),
        };
        let failed = failed.unwrap();
        assert_eq!(failed.upstream.as_ref().unwrap().step, step);
        assert_eq!(failed.detail, format!("{host} did not respond: could not connect"));
        assert_eq!(failed.causes.len(), causes, "{:?}", failed.causes);
    }
}

#[tokio::test]
async fn a_refusal_during_a_pull_has_the_causes_of_a_pull() {
    let (feed, secret) = (feed("r.example"), login());
    let logged_in = || vec![challenged("Basic realm=\"r\""), response(200, None, "{}")];
    let realm = "Bearer realm=\"https://r.example/token\"";
    for (responses, status) in [
        (vec![challenged(realm), response(403, None, "")], 403),
        (vec![response(307, Some((LOCATION.as_str(), "ftp://blobs.example/x")), "")], 307),
    ] {
        let transport = scripted(together([logged_in(), responses]));
        let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
        let image = ImageReference::parse("app:v1", &feed.registry).unwrap();
        let failed = pull(&mut registry, &image).await.err().unwrap();
        assert_eq!(failed.detail, "app:v1 cannot be pulled");
        assert_eq!(failed.upstream.unwrap().status, Some(status));
        assert_eq!(failed.causes, causes::of_pull("app:v1", None, Some(status), "", &feed));
    }
}

#[tokio::test]
async fn a_registry_that_is_open_and_without_tls_is_warned_of_for_both() {
    let (feed, secret) = (feed("localhost:5000"), login());
    for (responses, warnings) in [
        (vec![response(200, None, "{}")], vec!["accepts anonymous requests"]),
        (
            vec![Err(TransportErrorKind::Tls(TlsFailure::NotTls)), response(200, None, "{}")],
            vec!["is plain http", "accepts anonymous requests"],
        ),
        (
            vec![
                Err(TransportErrorKind::Tls(TlsFailure::NotTls)),
                challenged("Basic realm=\"r\""),
                response(200, None, "{}"),
            ],
            vec!["is plain http"],
        ),
    ] {
        let transport = scripted(responses);
        let (_, warned) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
        assert_eq!(warned.len(), warnings.len(), "{warned:?}");
        assert!(warned.iter().zip(warnings).all(|(warned, warning)| warned.contains(warning)), "{warned:?}");
    }
}

#[tokio::test]
async fn plain_http_is_tried_on_this_machine_only() {
    let secret = login();
    let untrusted = TlsFailure::Certificate(CertificateProblem::UnknownIssuer);
    for (host, failure, tries) in [
        ("localhost:5000", TlsFailure::NotTls, 2),
        ("localhost:5000", TlsFailure::Closed, 2),
        ("localhost:5000", untrusted, 2),
        ("r.example", TlsFailure::NotTls, 1),
    ] {
        let transport = scripted(vec![Err(TransportErrorKind::Tls(failure)), response(200, None, "{}")]);
        let feed = feed(host);
        let opened = Registry::log_in(&transport, &feed, &secret).await;
        assert_eq!((opened.is_ok(), asked(&transport).len()), (tries == 2, tries), "{host} {failure:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_blob_carries_no_authorization_and_stays_on_https() {
    let (feed, secret) = (feed("r.example"), login());
    let manifest = json!({ "layers": [{ "digest": LAYER }] }).to_string();
    let redirect = |to: &str| response(307, Some((LOCATION.as_str(), to)), "");
    let before =
        || vec![challenged("Basic realm=\"r\""), response(200, None, "{}"), response(200, None, &manifest)];
    let image = ImageReference::parse("app:v1", &feed.registry).unwrap();

    let mut responses = before();
    responses.extend([redirect("https://blobs.example/x?sig=1"), response(206, None, "first")]);
    let transport = scripted(responses);
    let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
    let pulled = pull(&mut registry, &image).await.ok().unwrap();
    assert!(pulled.contains("5 bytes of layer") && pulled.contains(LAYER), "{pulled}");
    let asked = asked(&transport);
    assert_eq!(asked[3].1.as_deref(), Some(BASIC));
    assert_eq!(asked[4], ("https://blobs.example/x?sig=1".to_owned(), None));

    for to in ["http://blobs.example/x", "ftp://blobs.example/x"] {
        let mut responses = before();
        responses.push(redirect(to));
        let transport = scripted(responses);
        let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
        assert!(pull(&mut registry, &image).await.is_err(), "{to}");
    }
    let mut responses = before();
    responses.extend((0..=REDIRECTS).map(|_| redirect("/again")));
    let transport = scripted(responses);
    let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
    assert!(pull(&mut registry, &image).await.is_err());
}

#[tokio::test]
async fn content_must_have_the_requested_digest() {
    let (feed, secret) = (feed("r.example"), login());
    let transport = scripted(vec![
        challenged("Basic realm=\"r\""),
        response(200, None, "{}"),
        response(200, None, r#"{"layers":[]}"#),
    ]);
    let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await.ok().unwrap();
    let image = ImageReference::parse(&format!("app@{LAYER}"), &feed.registry).unwrap();
    let failed = pull(&mut registry, &image).await.err().unwrap();
    assert!(failed.detail.contains("does not have the requested digest"), "{}", failed.detail);
}

/// Pulls `app:v1` from a registry that sends these responses after the login.
async fn pulled(responses: &[&str]) -> Result<(String, Vec<String>), Failed> {
    let (feed, secret) = (feed("r.example"), login());
    let mut all = vec![challenged("Basic realm=\"r\""), response(200, None, "{}")];
    all.extend(responses.iter().map(|body| response(200, None, body)));
    let transport = scripted(all);
    let (mut registry, _) = Registry::log_in(&transport, &feed, &secret).await?;
    let image = ImageReference::parse("app:v1", &feed.registry).unwrap();
    let found = pull(&mut registry, &image).await?;
    Ok((found, asked(&transport).into_iter().skip(2).map(|(url, _)| url).collect()))
}

fn index_of(body: &str) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    let hash = digest(&SHA256, body.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "manifests": [{ "digest": format!("sha256:{hex}") }] }).to_string()
}

#[tokio::test]
async fn layers_that_a_registry_does_not_hold_are_passed_over() {
    let foreign = |kind: &str| {
        json!({
            "mediaType": kind, "digest": LAYER.replace('a', "b"),
            "urls": ["https://mcr.microsoft.com/v2/windows/servercore/blobs/x"],
        })
    };
    let foreign = [
        foreign("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        json!({"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": LAYER.replace('a', "c")}),
    ];
    let own = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": LAYER });
    let windows = json!({ "layers": [foreign[0], foreign[1], own] }).to_string();
    let (found, asked) = pulled(&[&windows, "first"]).await.ok().unwrap();
    assert!(found.contains("5 bytes of layer") && found.contains(LAYER), "{found}");
    assert_eq!(asked[1], format!("https://r.example/v2/app/blobs/{LAYER}"));
    let all_foreign = json!({ "layers": foreign }).to_string();
    let (found, asked) = pulled(&[&all_foreign]).await.ok().unwrap();
    assert!(found.ends_with("all of whose layers are stored elsewhere"), "{found}");
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn an_index_in_an_index_is_followed_and_an_empty_one_is_reported() {
    let image = json!({ "layers": [{ "digest": LAYER }] }).to_string();
    let inner = index_of(&image);
    let outer = index_of(&inner);
    let (found, _) = pulled(&[&outer, &inner, &image, "first"]).await.ok().unwrap();
    assert!(found.contains("5 bytes of layer"), "{found}");
    let failed = pulled(&[r#"{"manifests":[]}"#]).await.err().unwrap();
    assert_eq!(failed.detail, "app:v1 cannot be pulled: its index is empty");
    assert!(failed.causes[0].why.contains("nothing to pull"), "{}", failed.causes[0].why);
    let mut deep = vec![image];
    for _ in 0..6 {
        deep.push(index_of(deep.last().unwrap()));
    }
    let deep: Vec<&str> = deep.iter().rev().map(String::as_str).collect();
    let failed = pulled(&deep).await.err().unwrap();
    assert!(failed.detail.contains("in a circle"), "{}", failed.detail);
}
