//! The API's client: every method against a real server, over every transport, and against servers that are
//! not carnet.

mod hostile;

use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Issuer};
use carnet::internals::api_types::credentials::{CredentialRequest, CredentialResponse};
use carnet::internals::api_types::feeds::{FeedPatch, NewFeed};
use carnet::internals::api_types::grants::NewGrant;
use carnet::internals::api_types::problem::{Problem, ProblemType};
use carnet::internals::api_types::signing_keys::RotationRequest;
use carnet::internals::client::{ApiClient, ClientError};
use carnet::internals::feed::FeedPath;
use carnet::internals::values::secret::SecretString;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// A server on loopback, a sandbox that trusts it except for the space `stranger`, and an admin's grant.
struct World {
    issuer: Issuer,
    sandbox: Announced,
    admin: SecretString,
}

impl World {
    fn new() -> Self {
        let issuer = Issuer::http();
        let spaces = ["http", "https", "unix", "default"];
        let subjects = spaces.map(|space| format!("\"space:{space}:feed:prod\"")).join(", ");
        let sandbox = issuer.carnet.sandbox(
            &issuer.url,
            &format!(
                "[aws]\ncredential_lifetime = 1800\n[[aws.roles]]\narn = \"{ROLE}\"\naudiences = \
                 [\"sts.amazonaws.com\"]\nsubjects = [{subjects}]\n"
            ),
        );
        let admin = grant(&issuer, &["--role=admin"]);
        Self { issuer, sandbox, admin }
    }

    fn client(&self) -> ApiClient {
        client(&self.issuer.url, &self.admin, None)
    }

    /// Returns a feed with that slug at the sandbox, with additional members.
    fn feed(&self, slug: &str, more: Value) -> NewFeed {
        let endpoint = |name: &str| self.sandbox.announced(&format!("/endpoints/aws/{name}"));
        let mut feed = json!({
            "slug": slug, "type": "aws-ecr", "registry": REGISTRY, "role_arn": ROLE,
            "endpoints": { "sts": endpoint("sts"), "ecr": endpoint("ecr") },
        });
        feed.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        of(feed)
    }
}

fn grant(issuer: &Issuer, arguments: &[&str]) -> SecretString {
    SecretString::new(issuer.carnet.ok(&[&["grant", "create"], arguments].concat()).trim().to_owned())
}

fn client(server: &str, token: &SecretString, ca: Option<&Ca>) -> ApiClient {
    let pem = ca.map(|ca| std::fs::read(ca.certificate()).unwrap());
    ApiClient::new(server.parse().unwrap(), token, pem.as_deref()).unwrap()
}

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn path(path: &str) -> FeedPath {
    path.parse().unwrap()
}

/// Returns the problem of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(response: Result<T, ClientError>, expected: ProblemType) -> Problem {
    match response {
        Err(ClientError::Refused(problem)) => {
            assert_eq!(problem.known_type(), Some(expected), "{problem:?}");
            assert_eq!(problem.status, expected.status());
            assert!(problem.request_id.is_some(), "{problem:?}");
            *problem
        }
        other => panic!("{expected:?} was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn every_method_works_over_loopback_tls_and_a_unix_socket() {
    let world = World::new();
    let ca = Ca::new();
    let (certificate, key) = (ca.server_certificate(), ca.server_key());
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let socket = format!("unix:{}", world.issuer.carnet.home().join("api.sock").display());
    let serve =
        |listen: &str, more: &[&str]| world.issuer.carnet.serve(&world.issuer.url, listen, more).unwrap();
    let (over_tls, over_unix) = (serve("127.0.0.1:0", &tls), serve(&socket, &[]));
    let retired = drive(&world, "http", &world.issuer.url, None).await;
    assert_eq!(drive(&world, "https", over_tls.announced("/listening"), Some(&ca)).await, retired);
    assert_eq!(drive(&world, "unix", over_unix.announced("/listening"), None).await, retired);

    // A client that does not trust the CA sends nothing.
    let untrusting = client(over_tls.announced("/listening"), &world.admin, None);
    let error = untrusting.signing_keys().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

/// Polls until one server has seen the key changes of the other, which may take a second.
async fn agree_on_keys(one: &ApiClient, other: &ApiClient) {
    let states = async |client: &ApiClient| -> Vec<_> {
        client.signing_keys().await.unwrap().into_iter().map(|key| (key.kid, key.state)).collect()
    };
    while states(one).await != states(other).await {}
}

/// Calls every method on one server and returns the key that was retired.
async fn drive(world: &World, space: &str, server: &str, ca: Option<&Ca>) -> String {
    let admin = client(server, &world.admin, ca);
    let (prod, slug) = (path(&format!("{space}/prod")), space.parse().unwrap());
    agree_on_keys(&admin, &client(&world.issuer.url, &world.admin, None)).await;

    let made = admin.create_feed(&slug, &world.feed("prod", json!({}))).await.unwrap();
    assert_eq!((made.space.as_str(), made.slug.as_str()), (space, "prod"));
    let patch: FeedPatch = of(json!({ "name": "Production" }));
    assert_eq!(admin.update_feed(&prod, &patch).await.unwrap().name, "Production");
    let feed = admin.feed(&prod).await.unwrap();
    assert_eq!((feed.id, feed.version), (made.id, 2));
    assert_eq!(admin.feeds(&slug).await.unwrap(), [feed]);

    let setup = serde_json::to_value(admin.setup(&prod).await.unwrap()).unwrap();
    assert!(setup.to_string().contains(&format!("space:{space}:feed:prod")), "{setup}");
    // The sandbox does not trust this feed, so the check ends before it contacts a registry.
    let stranger = path(&format!("{space}/stranger"));
    admin.create_feed(&slug, &world.feed("stranger", json!({}))).await.unwrap();
    let check = admin.check(&stranger, &Default::default()).await.unwrap();
    let last = check.steps.last().unwrap();
    let code = last.upstream.as_ref().and_then(|upstream| upstream.code.as_deref());
    assert_eq!((check.ok, last.ok, code), (false, false, Some("AccessDenied")), "{check:?}");
    admin.remove_feed(&stranger).await.unwrap();

    let new: NewGrant = of(json!({ "role": "deployer", "name": "CI", "spaces": [space] }));
    let granted = admin.create_grant(&new).await.unwrap();
    let listed = admin.grants().await.unwrap();
    assert!(listed.iter().any(|grant| grant.id == granted.grant.id && grant.name == "CI"));
    let deployer = client(server, &granted.token, ca);
    let request = CredentialRequest { min_remaining_seconds: Some(600), ..Default::default() };
    let first = deployer.credential(&prod, &request).await.unwrap();
    assert_eq!((first.feed.as_str(), first.source.as_str()), (&*prod.to_string(), "exchange"));
    assert_eq!((first.username.as_deref(), first.registry.as_str()), (Some("AWS"), REGISTRY));
    let same = |response: &CredentialResponse| {
        (response.jti, response.password.as_ref().map(|password| password.reveal().to_owned()))
    };
    let second = deployer.registry_credential(&REGISTRY.parse().unwrap(), &request).await.unwrap();
    assert_eq!((second.source.as_str(), same(&second)), ("cache", same(&first)));

    admin.revoke_grant(granted.grant.id).await.unwrap();
    refused(deployer.credential(&prod, &request).await, ProblemType::Unauthorized);

    let page = admin.audit(None).await.unwrap();
    let newest = page.records.first().unwrap().seq;
    assert!(page.records.iter().any(|row| row.kind == "credential" && row.jti == Some(first.jti)));
    let older = admin.audit(Some(newest)).await.unwrap();
    assert_eq!(older.records.first().unwrap().seq, newest - 1);

    // The first server rotates; for the others the rotation is already done.
    let keys = admin.signing_keys().await.unwrap();
    let of_es256 = keys.iter().filter(|key| key.alg == carnet::internals::jose::Algorithm::Es256);
    let first = of_es256.filter(|key| key.activated_at.is_some()).min_by_key(|key| key.activated_at).unwrap();
    let oldest = first.kid.clone();
    let seen = keys.iter().filter(|key| key.activated_at.is_some() && key.retired_at.is_none());
    let mut rotation = RotationRequest {
        alg: Some(carnet::internals::jose::Algorithm::Es256),
        seen: Some(seen.map(|key| key.kid.clone()).collect()),
        force: false,
    };
    if space == "http" {
        refused(admin.rotate_signing_keys(&rotation).await, ProblemType::RotationRefused);
        rotation.force = true;
        let done = admin.rotate_signing_keys(&rotation).await.unwrap();
        assert_eq!((done.already_done, &done.retired[..]), (false, &[oldest.to_string()][..]));
        assert!(admin.rotate_signing_keys(&rotation).await.unwrap().already_done);
        assert_eq!(admin.revoke_signing_key(&oldest).await.unwrap().revoked, [oldest.to_string()]);
    }
    assert!(admin.revoke_signing_key(&oldest).await.unwrap().already_done);
    let unknown = "A".repeat(43).parse().unwrap();
    refused(admin.revoke_signing_key(&unknown).await, ProblemType::NotFound);

    admin.remove_feed(&prod).await.unwrap();
    refused(admin.remove_feed(&prod).await, ProblemType::NotFound);
    refused(admin.feed(&prod).await, ProblemType::NotFound);
    refused(admin.create_feed(&slug, &world.feed("prod", json!({}))).await, ProblemType::SlugReused);
    oldest.to_string()
}

#[tokio::test]
async fn a_refusal_has_its_type_and_the_providers_message() {
    let world = World::new();
    let admin = world.client();
    let default = "default".parse().unwrap();
    let add = async |slug: &str, more: Value| admin.create_feed(&default, &world.feed(slug, more)).await;
    add("prod", json!({})).await.unwrap();
    add("other", json!({})).await.unwrap();
    add("tenants", json!({ "subject_keys": ["space", "tenant", "feed"] })).await.unwrap();
    refused(add("prod", json!({})).await, ProblemType::Exists);
    let problem =
        refused(add("new", json!({ "tenant_id": TENANT_OF_AZURE })).await, ProblemType::InvalidField);
    assert_eq!(problem.field.as_deref(), Some("tenant_id"));

    let ask = async |client: &ApiClient, slug: &str, request: Value| {
        client.credential(&path(&format!("default/{slug}")), &of(request)).await
    };
    let problem = refused(ask(&admin, "tenants", json!({})).await, ProblemType::MissingContext);
    assert_eq!(problem.field.as_deref(), Some("context.tenant"));
    refused(ask(&admin, "prod", json!({ "repositories": [] })).await, ProblemType::ScopeRefused);
    let long = json!({ "min_remaining_seconds": 3600 });
    let problem = refused(ask(&admin, "prod", long).await, ProblemType::MinRemainingUnattainable);
    assert!(matches!(problem.life_observed_seconds, Some(1700..=1800)), "{problem:?}");
    let problem = refused(ask(&admin, "other", json!({})).await, ProblemType::UpstreamRefused);
    let upstream = problem.upstream.unwrap();
    assert_eq!(
        (upstream.step.as_str(), upstream.code.as_deref(), upstream.status),
        ("sts:AssumeRoleWithWebIdentity", Some("AccessDenied"), Some(403))
    );
    assert_eq!(problem.presented.unwrap().sub, "space:default:feed:other");
    assert!(problem.hint.is_some());
    let request = CredentialRequest::default();
    let problem = refused(
        admin.registry_credential(&REGISTRY.parse().unwrap(), &request).await,
        ProblemType::SeveralFeeds,
    );
    assert_eq!(problem.feeds.unwrap(), ["default/other", "default/prod", "default/tenants"]);
    for host in ["registry.example:5000", "[::1]:5000"] {
        let registry = host.parse().unwrap();
        refused(admin.registry_credential(&registry, &request).await, ProblemType::NotFound);
    }

    let limited = grant(&world.issuer, &["--role=admin", "--space=default", "--context=tenant=acme"]);
    let limited = client(&world.issuer.url, &limited, None);
    let other_tenant = json!({ "context": { "tenant": "other" } });
    refused(ask(&limited, "tenants", other_tenant).await, ProblemType::ContextRefused);
    let wide: NewGrant = of(json!({ "role": "admin", "name": "wide" }));
    let problem = refused(limited.create_grant(&wide).await, ProblemType::WiderGrant);
    assert_eq!(problem.field.as_deref(), Some("spaces"));
    refused(limited.rotate_signing_keys(&RotationRequest::default()).await, ProblemType::Forbidden);

    let viewer = client(&world.issuer.url, &grant(&world.issuer, &["--role=viewer"]), None);
    refused(ask(&viewer, "prod", json!({})).await, ProblemType::Forbidden);
    let nobody = client(&world.issuer.url, &SecretString::new("carnet_nobody".to_owned()), None);
    refused(nobody.grants().await, ProblemType::Unauthorized);
}

/// `docs/api.md` lists exactly the error types, with their statuses, in the order of the code.
#[test]
fn the_documentation_has_every_problem_type() {
    let page = std::fs::read_to_string(crate::support::in_package("docs/api.md")).unwrap();
    let documented: Vec<(&str, u16)> = page
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
            Some((name, rest.split_once(" | ")?.0.parse().ok()?))
        })
        .collect();
    let known: Vec<(&str, u16)> =
        ProblemType::ALL.iter().map(|known| (known.name(), known.status())).collect();
    assert_eq!(documented, known);
}

const TENANT_OF_AZURE: &str = "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c";
