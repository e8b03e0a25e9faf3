//! Google's own client, google-auth, against the sandbox: it responds as that client expects, and carnet's
//! requests equal the client's.

use serde_json::{Value, json};

use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Issuer, Output};
use crate::support::process::clean_command;
use crate::support::recording_proxy::{Recorded, RecordingProxy, Way};
use crate::support::{in_package, installed_peer};

const PROVIDER: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/carnet";
const ACCOUNT: &str = "pull@my-project.iam.gserviceaccount.com";
const ACCESS_TOKEN: &str = "ya29.what-the-sandbox-answers";

/// An issuer, a sandbox that trusts its feeds `default/a` (which may also act as the account) and `default/b`
/// (which may not), and a proxy in front of it that records requests.
struct World {
    ca: Ca,
    issuer: Issuer,
    proxy: RecordingProxy,
    _sandbox: Announced,
}

impl World {
    fn start() -> Self {
        let (ca, issuer) = (Ca::new(), Issuer::http());
        let trust = format!(
            "[google]\naccess_token = \"{ACCESS_TOKEN}\"\n[[google.providers]]\nname = \"{PROVIDER}\"\n\
             subjects = [\"space:default:feed:a\", \"space:default:feed:b\"]\n\
             [[google.service_accounts]]\nemail = \"{ACCOUNT}\"\nsubjects = [\"space:default:feed:a\"]\n"
        );
        let sandbox = issuer.carnet.sandbox(&issuer.url, &trust);
        let sts = sandbox.announced("/endpoints/google/sts").to_owned();
        let iam = sandbox.announced("/endpoints/google/iamcredentials").to_owned();
        let proxy = RecordingProxy::start(&ca, move |_, request| {
            let base = if request.target == "/v1/token" { &sts } else { &iam };
            Way::On(format!("{base}{}", request.target))
        });
        let world = Self { ca, issuer, proxy, _sandbox: sandbox };
        for (slug, own) in [("a", &[][..]), ("b", &["--service-account", ACCOUNT]), ("c", &[])] {
            world.add_feed(slug, own);
        }
        world
    }

    fn add_feed(&self, slug: &str, own: &[&str]) {
        let [sts, iam] = ["sts", "iamcredentials"].map(|name| format!("{name}={}", self.proxy.url));
        let feed = ["--space", "default", "--slug", slug, "--registry", "localhost:5000"];
        let provider = ["--workload-identity-provider", PROVIDER];
        let endpoints = ["--endpoint", &sts, "--endpoint", &iam];
        let add = ["feed", "add", "google-artifact-registry"];
        self.issuer.carnet.ok(&[&add, &feed[..], &provider, &endpoints, own].concat());
    }

    /// Returns the result of Google's client for the feed's token, directly or as the account for some
    /// seconds.
    fn ask(&self, feed: &str, seconds: Option<u32>) -> Value {
        let token = self.issuer.carnet.ok(&["token", "mint", feed]);
        let url = |path: &str| format!("{}{path}", self.proxy.url);
        let mut arguments = vec![url("/v1/token"), format!("//iam.googleapis.com/{PROVIDER}")];
        if let Some(seconds) = seconds {
            arguments.push(url(&generate_path()));
            arguments.push(seconds.to_string());
        }
        let output = Output::of(
            clean_command(installed_peer("venv/bin/python"))
                .arg(in_package("tests/peers/google_client.py"))
                .args(&arguments)
                .envs(self.ca.environment()),
            token.as_bytes(),
        );
        assert_eq!(output.status, 0, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Runs carnet's own exchange.
    fn credential(&self, feed: &str) -> Output {
        let ca_file = self.ca.certificate();
        self.issuer.carnet.run(&["feed", "credentials", feed, "--ca-file", ca_file.to_str().unwrap()])
    }
}

fn generate_path() -> String {
    format!("/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken")
}

/// Returns the names of headers that only the first request has, without those of every HTTP client.
fn only_in(one: &Recorded, other: &Recorded) -> Vec<String> {
    let of_every_client = ["connection", "accept-encoding", "host", "user-agent"];
    let names = one.headers.keys().filter(|name| !other.headers.contains_key(*name));
    names.filter(|name| !of_every_client.contains(&name.as_str())).cloned().collect()
}

/// Asserts that two token exchanges have the same fields, with only these different, and the same headers
/// except Google's own.
#[track_caller]
fn assert_same_exchange(ours: &Recorded, theirs: &Recorded, different: &[&str]) {
    assert_eq!((&ours.method, &ours.target), (&theirs.method, &theirs.target));
    let (our, their) = (ours.form(), theirs.form());
    assert!(our.keys().eq(their.keys()), "{our:?}\n{their:?}");
    let other: Vec<_> =
        our.iter().filter(|(name, value)| their[*name] != **value).map(|(name, _)| name).collect();
    assert_eq!(other, different);
    assert_eq!(ours.headers["content-type"], theirs.headers["content-type"]);
    assert!(only_in(ours, theirs).is_empty(), "{ours:?}");
    assert_eq!(only_in(theirs, ours), ["x-goog-api-client"]);
}

#[test]
fn googles_client_passes_the_sandbox_and_carnet_sends_the_same_requests() {
    let world = World::start();
    assert_eq!(world.ask("default/a", None)["token"], ACCESS_TOKEN);
    let theirs = world.proxy.take();
    let output = world.credential("default/a");
    assert_eq!(output.status, 0, "{output:?}");
    let credential: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        (&credential["username"], &credential["password"]),
        (&json!("oauth2accesstoken"), &json!(ACCESS_TOKEN))
    );
    let ours = world.proxy.take();

    // docs/google-artifact-registry.md explains each difference.
    assert_eq!((ours.len(), theirs.len()), (1, 1), "{ours:#?}\n{theirs:#?}");
    // Two tokens of the same feed, minted one after the other.
    assert_same_exchange(&ours[0], &theirs[0], &["subject_token"]);
}

#[test]
fn googles_client_acts_as_a_service_account_and_carnet_sends_the_same_requests() {
    let world = World::start();
    assert_eq!(world.ask("default/a", Some(600))["token"], ACCESS_TOKEN);
    let theirs = world.proxy.take();
    let update = ["feed", "update", "default/a", "--service-account", ACCOUNT, "--lifetime", "600"];
    world.issuer.carnet.ok(&update);
    let output = world.credential("default/a");
    assert_eq!(output.status, 0, "{output:?}");
    let ours = world.proxy.take();

    assert_eq!((ours.len(), theirs.len()), (2, 2), "{ours:#?}\n{theirs:#?}");
    assert_same_exchange(&ours[0], &theirs[0], &["scope", "subject_token"]);
    assert_eq!(theirs[0].form()["scope"], "https://www.googleapis.com/auth/iam");

    let (ours, theirs) = (&ours[1], &theirs[1]);
    assert_eq!((&ours.method, &ours.target), (&theirs.method, &theirs.target));
    assert_eq!(ours.target, generate_path());
    let body = |request: &Recorded| serde_json::from_str::<Value>(&request.body).unwrap();
    let (mut our, their) = (body(ours), body(theirs));
    assert_eq!(our["delegates"], json!([]));
    our["delegates"] = Value::Null;
    assert_eq!(our, their);
    assert_eq!(our["lifetime"], "600s");
    for name in ["authorization", "content-type"] {
        assert_eq!(ours.headers[name], theirs.headers[name], "{name}");
    }
    assert!(only_in(ours, theirs).is_empty(), "{ours:?}");
    assert_eq!(only_in(theirs, ours), ["x-goog-api-client"]);
}

#[test]
fn googles_client_and_carnet_read_the_same_refusals() {
    let world = World::start();
    for (feed, impersonated, step, kind, code) in [
        ("default/c", false, "sts:token", "OAuthError", "unauthorized_client"),
        ("default/b", true, "iamcredentials:generateAccessToken", "RefreshError", "PERMISSION_DENIED"),
    ] {
        let theirs = world.ask(feed, impersonated.then_some(600));
        assert_eq!(theirs["error"], kind, "{theirs}");
        assert!(theirs["message"].as_str().unwrap().contains(code), "{theirs}");
        let ours = world.credential(feed);
        assert_eq!((ours.status, ours.stdout.as_str()), (1, ""), "{ours:?}");
        for part in [format!("google refused step {step}"), format!("code: {code}"), "hint: ".to_owned()] {
            assert!(ours.stderr.contains(&part), "no {part:?} in:\n{}", ours.stderr);
        }
        assert!(!ours.stderr.contains("eyJ") && !ours.stderr.contains(ACCESS_TOKEN), "{}", ours.stderr);
    }
}
