//! Microsoft's own clients, azure-identity and azure-containerregistry, against the sandbox: it responds as
//! they expect, and carnet's requests equal theirs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::ca::Ca;
use crate::support::carnet::{Issuer, Output};
use crate::support::process::clean_command;
use crate::support::recording_proxy::{Recorded, RecordingProxy, Way};
use crate::support::{in_package, installed_peer};

const TENANT: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
const CLIENT: &str = "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e";

/// An issuer, a sandbox that trusts its feed `default/a`, and TLS in front of the sandbox, because
/// Microsoft's clients require it.
struct World {
    ca: Ca,
    issuer: Issuer,
    proxy: RecordingProxy,
    _sandbox: crate::support::carnet::Announced,
}

impl World {
    fn start() -> Self {
        let (ca, issuer) = (Ca::new(), Issuer::http());
        let trust = format!(
            "[azure]\ntenant = \"{TENANT}\"\n[[azure.applications]]\nclient_id = \"{CLIENT}\"\n\
             subject = \"space:default:feed:a\"\n"
        );
        let sandbox = issuer.carnet.sandbox(&issuer.url, &trust);
        let authority = sandbox.announced("/endpoints/azure/authority").to_owned();
        let registry = sandbox.announced("/endpoints/azure/registry").to_owned();
        let proxy = RecordingProxy::start(&ca, move |url, request| way(url, request, &authority, &registry));
        let world = Self { ca, issuer, proxy, _sandbox: sandbox };
        for slug in ["a", "b"] {
            let overrides =
                [format!("authority={}", world.proxy.url), format!("registry={}", world.proxy.url)];
            let host = world.proxy.url.strip_prefix("https://").unwrap();
            world.issuer.carnet.ok(&[
                "feed",
                "add",
                "azure-acr",
                "--space",
                "default",
                "--slug",
                slug,
                "--registry",
                host,
                "--tenant-id",
                TENANT,
                "--client-id",
                CLIENT,
                "--endpoint",
                &overrides[0],
                "--endpoint",
                &overrides[1],
            ]);
        }
        world
    }

    /// Returns the result of Microsoft's clients for this assertion.
    fn ask(&self, assertion: &str) -> Value {
        let output = Output::of(
            clean_command(installed_peer("venv/bin/python"))
                .arg(in_package("tests/peers/azure_clients.py"))
                .args([&self.proxy.url, TENANT, CLIENT])
                .envs(self.ca.environment()),
            assertion.as_bytes(),
        );
        assert_eq!(output.status, 0, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }

    fn mint(&self, feed: &str) -> String {
        self.issuer.carnet.ok(&["token", "mint", feed])
    }
}

/// Forwards Entra's and the registry's paths to the sandbox. Requests that the sandbox does not support get a
/// response here: Entra's metadata, and one of the registry's own routes with its challenge.
fn way(url: &str, request: &Recorded, authority: &str, registry: &str) -> Way {
    let path = request.target.split('?').next().unwrap();
    let host = url.strip_prefix("https://").unwrap();
    let (mut status, mut headers, mut body) = (200, Vec::new(), json!({}));
    if path == "/acr/v1/_catalog" {
        if request.headers.contains_key("authorization") {
            body = json!({ "repositories": ["app/one"] });
        } else {
            status = 401;
            let challenge = format!(
                "Bearer realm=\"{url}/oauth2/token\",service=\"{host}\",scope=\"registry:catalog:*\""
            );
            headers.push(("WWW-Authenticate", challenge));
        }
    } else if path.ends_with("/.well-known/openid-configuration") {
        body = json!({
            "issuer": format!("{url}/{TENANT}/v2.0"),
            "authorization_endpoint": format!("{url}/{TENANT}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{url}/{TENANT}/oauth2/v2.0/token"),
        });
    } else if path.starts_with("/oauth2/") {
        return Way::On(format!("{registry}{}", request.target));
    } else {
        return Way::On(format!("{authority}{}", request.target));
    }
    headers.push(("Content-Type", "application/json".to_owned()));
    Way::Answer { status, headers, body: body.to_string() }
}

/// Returns the one request whose path has this suffix.
#[track_caller]
fn one<'a>(requests: &'a [Recorded], end: &str) -> &'a Recorded {
    let found: Vec<_> =
        requests.iter().filter(|request| request.target.split('?').next().unwrap().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end} in {requests:#?}");
    found[0]
}

/// Returns the fields that only one of the forms has, and those that differ.
fn differences(ours: &Recorded, theirs: &Recorded) -> (Vec<String>, Vec<String>, Vec<String>) {
    let (ours, theirs): (BTreeMap<_, _>, BTreeMap<_, _>) = (ours.form(), theirs.form());
    let lacking = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
    };
    let other = ours.iter().filter(|(name, value)| theirs.get(*name).is_some_and(|theirs| theirs != *value));
    (lacking(&ours, &theirs), lacking(&theirs, &ours), other.map(|(name, _)| name.clone()).collect())
}

#[test]
fn microsofts_clients_pass_the_sandbox_and_carnet_sends_the_same_requests() {
    let world = World::start();
    assert_eq!(world.ask(&world.mint("default/a")), json!({ "repositories": ["app/one"] }));
    let theirs = world.proxy.take();
    // The third request of Microsoft's clients: the sandbox narrows the refresh token.
    assert_eq!(one(&theirs, "/oauth2/token").form()["scope"], "registry:catalog:*");

    let ca_file = world.ca.certificate();
    let credential =
        world.issuer.carnet.ok(&["feed", "credentials", "default/a", "--ca-file", ca_file.to_str().unwrap()]);
    let credential: Value = serde_json::from_str(&credential).unwrap();
    assert_eq!(credential["username"], "00000000-0000-0000-0000-000000000000");
    let ours = world.proxy.take();
    assert_eq!(ours.len(), 2, "{ours:#?}");

    // docs/azure-acr.md explains each difference.
    let (our, their) = (one(&ours, "/oauth2/v2.0/token"), one(&theirs, "/oauth2/v2.0/token"));
    assert_eq!((&our.method, &our.target), (&their.method, &their.target));
    let (only_ours, only_theirs, other) = differences(our, their);
    assert!(only_ours.is_empty() && only_theirs.is_empty(), "{only_ours:?} {only_theirs:?}");
    // Two tokens of the same feed, minted one after the other.
    assert_eq!(other, ["client_assertion"]);

    let (our, their) = (one(&ours, "/oauth2/exchange"), one(&theirs, "/oauth2/exchange"));
    assert_eq!((our.method.as_str(), our.target.as_str()), ("POST", "/oauth2/exchange"));
    assert_eq!(
        (their.method.as_str(), their.target.as_str()),
        ("POST", "/oauth2/exchange?api-version=2021-07-01")
    );
    let (only_ours, only_theirs, other) = differences(our, their);
    assert_eq!((only_ours, only_theirs), (vec!["tenant".to_owned()], vec![]));
    assert_eq!(other, ["access_token"]);

    let scoped = ["--ca-file", ca_file.to_str().unwrap(), "--repository=app/one", "--action=pull"];
    world.issuer.carnet.ok(&[&["feed", "credentials", "default/a"], &scoped[..]].concat());
    let narrowing = world.proxy.take();
    let (our, their) = (one(&narrowing, "/oauth2/token"), one(&theirs, "/oauth2/token"));
    assert_eq!((our.method.as_str(), our.target.as_str()), ("POST", "/oauth2/token"));
    assert_eq!(their.target, "/oauth2/token?api-version=2021-07-01");
    let (only_ours, only_theirs, other) = differences(our, their);
    assert!(only_ours.is_empty() && only_theirs.is_empty(), "{only_ours:?} {only_theirs:?}");
    assert_eq!(other, ["refresh_token", "scope"]);
    assert_eq!(our.form()["scope"], "repository:app/one:pull");

    // Only headers that matter here: Entra responds with JSON regardless of `accept`.
    for (path, id) in
        [("/oauth2/v2.0/token", "client-request-id"), ("/oauth2/exchange", "x-ms-client-request-id")]
    {
        let (our, their) = (one(&ours, path), one(&theirs, path));
        assert_eq!(our.headers["content-type"], their.headers["content-type"], "{path}");
        assert_eq!(our.headers["accept"], "application/json");
        assert_eq!(our.headers[id], credential["jti"]);
        assert!(their.headers.contains_key("x-ms-client-request-id"));
        assert!(!our.headers.contains_key("authorization") && !their.headers.contains_key("authorization"));
    }
}

#[test]
fn microsofts_clients_read_the_sandboxs_refusals() {
    let world = World::start();
    let refused = world.ask(&world.mint("default/b"));
    assert_eq!(refused["error"], "ClientAuthenticationError", "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("AADSTS700213") && message.contains("space:default:feed:b"), "{message}");

    let refused = world.ask("access:e30.e30.e30");
    assert_eq!(refused["error"], "ClientAuthenticationError", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("authentication required"), "{refused}");
}
