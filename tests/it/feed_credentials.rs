//! `feed credentials` through the broker: the minimum remaining lifetime, scopes, and allowed addresses for
//! tokens.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::carnet::{Announced, Carnet, Issuer, Output};
use crate::support::database::execute;
use crate::support::forward_proxy::ForwardProxy;
use crate::support::process::free_ports;
use serde_json::Value;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// Adds the feed `default/SLUG` with these endpoints.
fn add_feed(carnet: &Carnet, slug: &str, sts: &str, ecr: &str) {
    let (sts, ecr) = (format!("--endpoint=sts={sts}"), format!("--endpoint=ecr={ecr}"));
    let slug = format!("--slug={slug}");
    let fields = ["--space=default", &slug, "--registry", REGISTRY, "--role-arn", ROLE, &sts, &ecr];
    carnet.ok(&[&["feed", "add", "aws-ecr"], &fields[..]].concat());
}

/// An issuer, and the feed `default/a` at a sandbox that trusts it.
fn world(sandbox: &str) -> (Issuer, Announced) {
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, sandbox);
    let endpoint = |name: &str| sandbox.announced(&format!("/endpoints/aws/{name}")).to_owned();
    add_feed(&issuer.carnet, "a", &endpoint("sts"), &endpoint("ecr"));
    (issuer, sandbox)
}

fn credentials(carnet: &Carnet, more: &[&str]) -> Output {
    carnet.run(&[&["feed", "credentials", "default/a"], more].concat())
}

#[test]
fn a_credential_has_the_requested_lifetime_or_is_not_handed_out() {
    let (issuer, _sandbox) = world("[aws]\ncredential_lifetime = 1800");
    let output = credentials(&issuer.carnet, &["--min-remaining", "20m"]);
    assert_eq!(output.status, 0, "{output:?}");
    let response: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&response["source"], &response["username"]), (&"exchange".into(), &"AWS".into()));

    let output = credentials(&issuer.carnet, &["--min-remaining", "1h"]);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
    for part in ["feed default/a", "less than the 3600 s requested", "hint: "] {
        assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
    }
}

#[test]
fn a_credential_may_be_limited_to_repositories_by_their_exact_names() {
    let (issuer, _sandbox) = world("");
    let output = credentials(&issuer.carnet, &["--repository=app/one", "--repository=b", "--action=pull"]);
    assert_eq!(output.status, 0, "{output:?}");
    for (name, rule) in [
        ("app/*", "wildcards are not allowed"),
        ("${aws:username}", "not '$'"),
        ("a:pull", "leave off the tag or digest"),
    ] {
        let output = credentials(&issuer.carnet, &["--repository", name]);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{output:?}");
        assert!(output.stderr.contains("--repository") && output.stderr.contains(rule), "{}", output.stderr);
    }
    let long = "x".repeat(150);
    let many: Vec<String> = (0..16).map(|n| format!("--repository=team/{long}-{n:02}")).collect();
    let output = credentials(&issuer.carnet, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(output.stderr.contains("AWS accepts at most 2048"), "{}", output.stderr);
}

#[test]
fn a_registry_token_of_azure_is_only_in_formats_that_can_carry_it() {
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, "");
    let endpoint = |name: &str| sandbox.announced(&format!("/endpoints/azure/{name}")).to_owned();
    let endpoints = ["authority", "registry"].map(|name| format!("--endpoint={name}={}", endpoint(name)));
    let identity = [
        "--tenant-id=8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
        "--client-id=0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
    ];
    let fields =
        ["--space=default", "--slug=a", "--registry=images.azurecr.io", &endpoints[0], &endpoints[1]];
    issuer.carnet.ok(&[&["feed", "add", "azure-acr"], &fields[..], &identity].concat());

    let scope = ["--repository=app/one", "--action=pull"];
    let output = credentials(&issuer.carnet, &scope);
    assert_eq!(output.status, 0, "{output:?}");
    let response: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(response["registry_token"].is_string(), "{response}");
    assert!(response.get("username").is_none() && response.get("password").is_none(), "{response}");
    assert_eq!(response["expiries"][0]["of"], "acr-token");

    let output = credentials(&issuer.carnet, &[&scope[..], &["--format=docker-config"]].concat());
    let config: Value = serde_json::from_str(&output.stdout).unwrap();
    let auth = config["auths"]["images.azurecr.io"].as_object().unwrap();
    assert_eq!(auth.keys().collect::<Vec<_>>(), ["registrytoken"]);

    for format in ["--format=password", "--format=env"] {
        let output = credentials(&issuer.carnet, &[&scope[..], &[format]].concat());
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
        for part in [
            "feed default/a",
            "is a registry token, not a user name and a password",
            "hint: ",
            "docker-config",
        ] {
            assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
        }
    }
    let output = credentials(&issuer.carnet, &["--action=pull"]);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
    assert!(output.stderr.contains("name them too"), "{}", output.stderr);
}

#[test]
fn a_public_issuers_tokens_go_to_this_machine_only_if_allowed_and_never_to_metadata() {
    let carnet = Carnet::new();
    let [port] = free_ports();
    let closed = format!("http://127.0.0.1:{port}");
    add_feed(&carnet, "a", &closed, &closed);
    carnet.ok(&["key", "list", "--issuer", "https://issuer.example"]);

    let started = now();
    let output = credentials(&carnet, &[]);
    assert_eq!(output.status, 1, "{output:?}");
    for part in [
        "step sts:AssumeRoleWithWebIdentity",
        "connecting to this address is not allowed",
        "--allow-loopback-endpoints",
    ] {
        assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "a refusal of our own was tried again");

    // Nothing listens there; the error shows that the connection was attempted.
    let output = credentials(&carnet, &["--allow-loopback-endpoints"]);
    assert!(output.stderr.contains("could not connect"), "{}", output.stderr);

    // Written there, such an address is refused at once; a name may lead there, and an earlier version stored it.
    let metadata = "--endpoint=sts=https://169.254.169.254/latest";
    let refused = carnet.run(&["feed", "update", "default/a", metadata]);
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("endpoints.sts: 169.254.169.254 is link-local"), "{}", refused.stderr);
    execute(
        &carnet.database(),
        "UPDATE feeds SET endpoints = '{\"sts\":\"https://169.254.169.254/latest\",\"ecr\":\"https://[fd00:ec2::254]\"}'",
    );
    carnet.ok(&["feed", "update", "default/a", "--name=Stored"]);
    let output = credentials(&carnet, &["--allow-loopback-endpoints"]);
    assert!(output.stderr.contains("connecting to this address is not allowed"), "{}", output.stderr);
}

#[test]
fn transient_failures_are_retried_and_others_are_reported_with_code_and_hint() {
    let fault =
        |fault: &str| format!("[[faults]]\nstep = 'sts:AssumeRoleWithWebIdentity'\nfault = '{fault}'\n");
    let (issuer, _sandbox) =
        world(&(fault("issuer-unreachable") + "times = 1\n" + &fault("throttled") + "times = 1"));
    let output = credentials(&issuer.carnet, &[]);
    assert_eq!(output.status, 0, "{output:?}");

    let (issuer, _sandbox) = world(&fault("propagating"));
    let output = credentials(&issuer.carnet, &[]);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
    for part in [
        "error: feed default/a: aws refused step sts:AssumeRoleWithWebIdentity",
        "status: 403",
        "code: AccessDenied",
        "request id: ",
        "presented: iss=http://127.0.0.1:",
        "hint: the trust policy of arn:aws:iam::123456789012:role/pull must allow",
    ] {
        assert!(output.stderr.contains(part), "no {part:?} in:\n{}", output.stderr);
    }
}

#[test]
fn requests_go_through_a_proxy_only_when_it_is_set_and_never_by_the_environment() {
    let (issuer, _sandbox) = world("");
    let proxy = ForwardProxy::start(Some("Basic dXNlcjpodW50ZXIy"));
    let url = |user: &str| format!("http://{user}{}", proxy.address);
    let ask = |arguments: &[&str], environment: &[(&str, String)]| {
        let arguments = [&["feed", "credentials", "default/a"], arguments].concat();
        let environment = environment.iter().map(|(name, value)| (name, value));
        Output::of(issuer.carnet.command(&arguments).envs(environment), b"")
    };

    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let output = ask(&[], &names.map(|name| (name, url(""))));
    assert_eq!((output.status, proxy.take().len()), (0, 0), "{output:?}");

    let with_user = url("user:hunter2@");
    for (arguments, environment) in
        [(&["--proxy", &with_user][..], &[][..]), (&[], &[("CARNET_PROXY", with_user.clone())])]
    {
        let output = ask(arguments, environment);
        assert_eq!(output.status, 0, "{output:?}");
        let targets: Vec<String> = proxy.take().into_iter().map(|request| request.target).collect();
        assert_eq!(targets.len(), 2, "{targets:?}");
        for (target, path) in targets.iter().zip(["/aws/sts", "/aws/ecr"]) {
            assert!(target.starts_with("http://127.0.0.1:") && target.ends_with(path), "{target}");
        }
    }

    // A refusing proxy, and an invalid URL: neither error shows the password.
    let refused = ask(&[], &[("CARNET_PROXY", url("user:hunter3@"))]);
    assert!(refused.status == 1 && refused.stderr.contains("does not accept the login"), "{refused:?}");
    let wrong = ask(&["--proxy", "socks5://user:hunter3@proxy.example"], &[]);
    assert!(wrong.status == 2 && wrong.stderr.contains("--proxy: "), "{wrong:?}");
    for output in [refused, wrong] {
        assert!(output.stdout.is_empty() && !output.stderr.contains("hunter3"), "{output:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a command takes is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// Starts a relay to `to` that accepts the first connection and never responds on it.
fn silent_at_first(to: &str) -> String {
    let (to, path) = to.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let (to, listener) = (to.to_owned(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://{}/{path}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().map(Result::unwrap) {
            if held.is_empty() {
                held.push(stream);
                continue;
            }
            let there = TcpStream::connect(&to).unwrap();
            for (mut from, mut to) in
                [(stream.try_clone().unwrap(), there.try_clone().unwrap()), (there, stream)]
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    url
}

/// A command does not refresh the key state meanwhile; the second token must not be refused for that.
#[test]
fn a_silent_endpoint_gets_another_request_with_a_new_token() {
    let (issuer, sandbox) = world("");
    let endpoint = |name: &str| sandbox.announced(&format!("/endpoints/aws/{name}")).to_owned();
    add_feed(&issuer.carnet, "b", &silent_at_first(&endpoint("sts")), &endpoint("ecr"));
    let output = issuer.carnet.run(&["feed", "credentials", "default/b"]);
    assert_eq!(output.status, 0, "{output:?}");
}
