//! `feed credentials` with a server: output, errors and requests are the same as on a local database.

use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Issuer, Output};
use crate::support::forward_proxy::ForwardProxy;
use crate::support::process::free_ports;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// A server with the feeds `default/trusted`, `default/stranger` and `default/tenant`, of which a sandbox
/// trusts the first, and a deployer's grant.
struct World {
    issuer: Issuer,
    _sandbox: Announced,
    token: String,
}

impl World {
    fn new() -> Self {
        let issuer = Issuer::http();
        let sandbox = issuer.carnet.sandbox(
            &issuer.url,
            &format!(
                "[[aws.roles]]\narn = \"{ROLE}\"\naudiences = [\"sts.amazonaws.com\"]\n\
                 subjects = [\"space:default:feed:trusted\"]\n"
            ),
        );
        let endpoint = |name: &str| {
            format!("--endpoint={name}={}", sandbox.announced(&format!("/endpoints/aws/{name}")))
        };
        let (sts, ecr) = (endpoint("sts"), endpoint("ecr"));
        for (slug, keys) in
            [("trusted", "space,feed"), ("stranger", "space,feed"), ("tenant", "space,tenant,feed")]
        {
            let (slug, keys) = (format!("--slug={slug}"), format!("--subject-keys={keys}"));
            let fields =
                ["--space=default", &slug, &keys, "--registry", REGISTRY, "--role-arn", ROLE, &sts, &ecr];
            issuer.carnet.ok(&[&["feed", "add", "aws-ecr"], &fields[..]].concat());
        }
        let grant = ["grant", "create", "--role=deployer", "--space=default", "--context=environment=*"];
        let token = issuer.carnet.ok(&grant).trim().to_owned();
        Self { issuer, _sandbox: sandbox, token }
    }

    /// Runs `feed credentials FEED …` without a database and with these variables.
    fn remote(&self, feed: &str, more: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = self.issuer.carnet.bare_command();
        command.args(["feed", "credentials", feed]).args(more).envs(variables.iter().copied());
        Output::of(&mut command, b"")
    }

    fn by_server(&self, feed: &str, more: &[&str]) -> Output {
        self.remote(feed, more, &[("CARNET_URL", &self.issuer.url), ("CARNET_TOKEN", &self.token)])
    }

    fn local(&self, feed: &str, more: &[&str]) -> Output {
        self.issuer.carnet.run(&[&["feed", "credentials", feed], more].concat())
    }
}

#[track_caller]
fn assert_refused(output: &Output, status: i32, parts: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{output:?}");
    for part in parts {
        assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
    }
}

/// Replaces the parts that differ between two otherwise equal credentials of one feed.
fn shape(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("{:#?}", blank(value)),
        Err(_) => text.lines().map(|line| line.split('=').next().unwrap().to_owned() + "\n").collect(),
    }
}

fn blank(value: Value) -> Value {
    const SAME: [&str; 9] =
        ["feed", "registry", "username", "source", "of", "apiVersion", "kind", "type", "name"];
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| {
                    let value = if SAME.contains(&name.as_str()) { value } else { blank(value) };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(blank).collect()),
        Value::String(_) => Value::String("…".to_owned()),
        other => other,
    }
}

#[test]
fn every_format_is_the_same_by_a_server_and_on_the_database() {
    let world = World::new();
    for format in ["json", "env", "docker-config", "k8s-secret"] {
        let format = format!("--format={format}");
        let local = world.local("default/trusted", &[&format]);
        // Each local process makes its own exchange; the server has a cache, so the scope differs to force an
        // exchange.
        let remote = world.by_server("default/trusted", &[&format, "--repository=app"]);
        assert_eq!((remote.status, remote.stderr.as_str()), (0, ""), "{remote:?}");
        let same_source = |text: &str| shape(text).replace("\"cache\"", "\"exchange\"");
        assert_eq!(same_source(&remote.stdout), same_source(&local.stdout), "{format}");
    }
    let password = world.by_server("default/trusted", &["--format=password"]);
    let json = world.by_server("default/trusted", &[]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["source"], json["username"].as_str()), (&"cache".into(), Some("AWS")));
    assert_eq!(password.stdout.trim_end(), json["password"].as_str().unwrap());
}

#[test]
fn a_kubernetes_secret_holds_the_same_configuration_that_docker_reads() {
    let world = World::new();
    let config = world.by_server("default/trusted", &["--format=docker-config"]).stdout;
    for (more, name) in [(&["--secret-name=pull.secret"][..], "pull.secret"), (&[], "trusted")] {
        let output = world.by_server("default/trusted", &[&["--format=k8s-secret"], more].concat());
        let secret: Value = serde_json::from_str(&output.stdout).unwrap();
        assert_eq!((&secret["apiVersion"], &secret["kind"]), (&"v1".into(), &"Secret".into()));
        assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
        assert_eq!(secret["metadata"]["name"], name);
        assert!(secret["metadata"]["annotations"]["carnet/expires-at"].as_str().unwrap().ends_with('Z'));
        let data = secret["data"].as_object().unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), [".dockerconfigjson"]);
        let inner = STANDARD.decode(data[".dockerconfigjson"].as_str().unwrap()).unwrap();
        let (inner, config): (Value, Value) =
            (serde_json::from_slice(&inner).unwrap(), serde_json::from_str(&config).unwrap());
        assert_eq!(inner, config);
        let auth = STANDARD.decode(inner["auths"][REGISTRY]["auth"].as_str().unwrap()).unwrap();
        assert!(auth.starts_with(b"AWS:"));
    }
    assert_refused(
        &world.by_server("default/trusted", &["--secret-name=a"]),
        2,
        &["--secret-name", "k8s-secret"],
    );
    let bad = world.by_server("default/trusted", &["--format=k8s-secret", "--secret-name=A"]);
    assert_refused(&bad, 2, &["--secret-name", "a Secret's name is"]);
}

/// Returns the text of a failure without request ids.
fn outcome_of(output: &Output) -> String {
    let is_name = |line: &&str| line.starts_with("  request ");
    output.stderr.lines().filter(|line| !is_name(line)).map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn a_providers_refusal_reads_the_same_through_a_server() {
    let world = World::new();
    let (local, remote) = (world.local("default/stranger", &[]), world.by_server("default/stranger", &[]));
    assert_refused(
        &remote,
        1,
        &[
            "error: feed default/stranger: aws refused step sts:AssumeRoleWithWebIdentity\n",
            "  status: 403\n  code: AccessDenied\n  message: ",
            "  request id: ",
            "  presented: iss=http://127.0.0.1:",
            "  request of the server: ",
            "hint: the trust policy of arn:aws:iam::123456789012:role/pull must allow",
        ],
    );
    assert_eq!((outcome_of(&remote), remote.status), (outcome_of(&local), local.status));

    let long = ["--min-remaining=13h"];
    for output in [
        world.local("default/trusted", &["--min-remaining=12h"]),
        world.by_server("default/trusted", &["--min-remaining=12h"]),
    ] {
        assert_refused(
            &output,
            1,
            &[
                "feed default/trusted: ",
                "less than the 43200 s requested",
                "hint: request a credential with less remaining life",
            ],
        );
    }
    assert_refused(&world.by_server("default/trusted", &long), 1, &["43200 at most"]);
}

#[test]
fn a_feed_outside_the_grant_is_refused_with_a_hint() {
    let world = World::new();
    let missing = world.by_server("default/tenant", &[]);
    assert_refused(&missing, 1, &["default/tenant", "tenant", "hint: give it with --context"]);
    let refused = world.by_server("default/tenant", &["--context=tenant=acme"]);
    assert_refused(&refused, 1, &["tenant", "hint: leave that --context off"]);
    let unknown = world.by_server("default/nothing", &[]);
    assert_refused(&unknown, 1, &["there is no feed default/nothing, or the grant", "hint: "]);
    let url = world.issuer.url.as_str();
    let viewer = world.issuer.carnet.ok(&["grant", "create", "--role=viewer"]);
    for (token, parts) in [
        ("carnet_nobody", &["does not accept the grant in CARNET_TOKEN", "hint: it may have expired"][..]),
        (viewer.trim(), &["this needs a grant of role deployer", "not viewer"]),
    ] {
        let output = world.remote("default/trusted", &[], &[("CARNET_URL", url), ("CARNET_TOKEN", token)]);
        assert_refused(&output, 1, parts);
        assert!(!output.stderr.contains(token), "{}", output.stderr);
    }
}

#[test]
fn a_server_without_a_token_and_flags_of_the_other_mode_are_refused() {
    let world = World::new();
    let url = world.issuer.url.as_str();
    for token in [&[][..], &[("CARNET_TOKEN", "")], &[("CARNET_TOKEN", " \n")]] {
        let variables = [&[("CARNET_URL", url)], token].concat();
        let output = world.remote("default/trusted", &[], &variables);
        assert_refused(&output, 2, &["CARNET_TOKEN is not set", "hint: `carnet grant create"]);
    }
    for flag in [
        "--database=sqlite:x.db",
        "--keys-dir=keys",
        "--master-key-file=key",
        "--issuer=https://issuer.example",
        "--proxy=http://proxy.example:8080",
        "--allow-loopback-endpoints",
    ] {
        let name = flag.split('=').next().unwrap();
        assert_refused(&world.by_server("default/trusted", &[flag]), 2, &[name, "hint: leave "]);
        let before = Output::of(
            world
                .issuer
                .carnet
                .bare_command()
                .args(["feed", "credentials", "default/trusted", flag, "--server", url])
                .env("CARNET_TOKEN", &world.token),
            b"",
        );
        assert_refused(&before, 2, &[name]);
    }
    for (url, part) in [
        ("http://issuer.example", "would travel in clear"),
        ("issuer.example", "is not a URL"),
        ("https://user:hunter2@issuer.example", "no user info"),
    ] {
        let output = world.remote("default/trusted", &["--server", url], &[("CARNET_TOKEN", &world.token)]);
        assert_refused(&output, 2, &["--server", part]);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    // A token without a named server has no effect.
    let alone = world.remote(
        "default/trusted",
        &[],
        &[("CARNET_TOKEN", &world.token), ("CARNET_DATABASE", "sqlite:none.db")],
    );
    assert_refused(&alone, 1, &["there is no database", "hint: CARNET_TOKEN is set, but no server"]);
}

#[test]
fn variables_of_the_local_mode_and_proxies_are_of_no_effect_and_nothing_is_made() {
    let world = World::new();
    let proxy = ForwardProxy::start(None);
    let proxy_url = format!("http://{}", proxy.address);
    let folder = tempfile::tempdir().unwrap();
    let mut command = world.issuer.carnet.bare_command();
    command.args(["feed", "credentials", "default/trusted"]).current_dir(folder.path());
    for name in
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "CARNET_PROXY"]
    {
        command.env(name, &proxy_url);
    }
    command.env("CARNET_DATABASE", "sqlite:missing.db").env("CARNET_KEYS_DIR", "missing");
    command.env("CARNET_MASTER_KEY_FILE", "missing").env("CARNET_ISSUER", "https://other.example");
    // A Secret made from a file ends in a line end.
    command.env("CARNET_URL", &world.issuer.url).env("CARNET_TOKEN", format!("{}\n", world.token));
    let output = Output::of(&mut command, b"");
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{output:?}");
    assert!(proxy.take().is_empty(), "a proxy was asked");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_server_is_reached_by_tls_with_its_authority_and_by_a_unix_socket() {
    let world = World::new();
    let ca = Ca::new();
    let (certificate, key) = (ca.server_certificate(), ca.server_key());
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let carnet = &world.issuer.carnet;
    let over_tls = carnet.serve(&world.issuer.url, "127.0.0.1:0", &tls).unwrap();
    let socket = format!("unix:{}", carnet.home().join("api.sock").display());
    let over_unix = carnet.serve(&world.issuer.url, &socket, &[]).unwrap();
    let (https, unix) = (over_tls.announced("/listening"), over_unix.announced("/listening"));
    let authority = ca.certificate();
    let authority = authority.to_str().unwrap();
    let ask = |more: &[&str]| world.remote("default/trusted", more, &[("CARNET_TOKEN", &world.token)]);
    for arguments in [&["--server", https, "--ca-file", authority][..], &["--server", unix]] {
        let output = ask(arguments);
        assert_eq!(output.status, 0, "{output:?}");
    }
    assert_refused(&ask(&["--server", https]), 1, &["failed", "hint: the server's certificate"]);
    let empty = carnet.home().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let output = ask(&["--server", https, "--ca-file", empty.to_str().unwrap()]);
    assert_refused(&output, 1, &["no certificate in PEM", "hint: --ca-file"]);

    let [port] = free_ports();
    let nobody = format!("http://127.0.0.1:{port}");
    assert_refused(&ask(&["--server", &nobody]), 1, &["failed", "hint: check that the server runs"]);
    // The sandbox listens, and is no carnet.
    let sandbox = world._sandbox.announced("/endpoints/aws/sts");
    let output = ask(&["--server", sandbox]);
    assert_refused(&output, 1, &["not as carnet does", "hint: --server or CARNET_URL must name the address"]);
}

#[test]
fn arguments_of_an_invalid_form_are_refused_before_any_request() {
    let world = World::new();
    let url = world.issuer.url.as_str();
    let quoted = format!("\"{}\"", world.token);
    let bearer = format!("Bearer {}", world.token);
    let stem = world.token.trim_start_matches("carnet_");
    for (token, said) in [
        (quoted.as_str(), "is in quotes"),
        (bearer.as_str(), "does not begin with carnet_"),
        (stem, "does not begin with carnet_"),
    ] {
        let output = world.remote("default/trusted", &[], &[("CARNET_URL", url), ("CARNET_TOKEN", token)]);
        assert_refused(&output, 2, &[said, "no request was sent", "hint: "]);
        assert!(!output.stderr.contains(stem), "{}", output.stderr);
    }
    for api in [format!("{url}/api/v1"), format!("{url}/api/v1/")] {
        let variables = [("CARNET_URL", api.as_str()), ("CARNET_TOKEN", &world.token)];
        assert_refused(&world.remote("default/trusted", &[], &variables), 2, &["--server", "leave that off"]);
    }
    let ca = Ca::new();
    let pem = std::fs::read_to_string(ca.certificate()).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = world.issuer.carnet.home().join("ca.der");
    std::fs::write(&der, STANDARD.decode(body).unwrap()).unwrap();
    let flag = format!("--ca-file={}", der.display());
    for output in [world.by_server("default/trusted", &[&flag]), world.local("default/trusted", &[&flag])] {
        assert_refused(&output, 2, &["in DER", "hint: openssl x509 -inform der"]);
    }
}
