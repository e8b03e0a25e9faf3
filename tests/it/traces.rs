//! Traces: they are exported as OTLP only when a collector is named, and contain no token and no password.
#![cfg(feature = "otlp")]

use std::time::Duration;

use crate::support::carnet::{Issuer, Output};
use crate::support::collector::collector;

const WITHIN: Duration = Duration::from_secs(30);
const REGISTRY: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/pull";
const SANDBOX: &str = r#"
    [aws]
    password = "a-password-that-no-trace-may-show"
    [[aws.roles]]
    arn = "arn:aws:iam::123456789012:role/pull"
    audiences = ["sts.amazonaws.com"]
    subjects = ["space:default:feed:prod"]
"#;

/// Starts an issuer with one feed at a sandbox.
fn issuer() -> (Issuer, crate::support::carnet::Announced) {
    let issuer = Issuer::http();
    let sandbox = issuer.carnet.sandbox(&issuer.url, SANDBOX);
    let endpoint = |name: &str| format!("{name}={}", sandbox.announced(&format!("/endpoints/aws/{name}")));
    let feed = ["feed", "add", "aws-ecr", "--space=default", "--slug=prod", "--registry", REGISTRY];
    let trust = ["--role-arn", ROLE, "--endpoint", &endpoint("sts"), "--endpoint", &endpoint("ecr")];
    issuer.carnet.ok(&[&feed[..], &trust].concat());
    (issuer, sandbox)
}

#[test]
fn spans_of_a_mint_and_an_exchange_reach_the_collector_without_secrets() {
    let (address, exports) = collector();
    let (issuer, _sandbox) = issuer();
    let endpoint = format!("http://{address}");
    // The most verbose log level must not change the export.
    let run = |arguments: &[&str]| {
        let mut command = issuer.carnet.command(arguments);
        command.env("CARNET_OTLP_ENDPOINT", &endpoint).env("CARNET_LOG", "trace");
        let output = Output::of(&mut command, b"");
        assert_eq!(output.status, 0, "{output:?}");
        output.stdout
    };

    let token = run(&["token", "mint", "default/prod"]).trim().to_owned();
    let mint = exports.recv_timeout(WITHIN).unwrap();
    assert!(mint.head.starts_with("post /v1/traces "), "{}", mint.head);
    assert!(mint.head.contains("content-type: application/x-protobuf"), "{}", mint.head);
    for said in ["service.name", "carnet", "mint", "default/prod", "ES256"] {
        assert!(mint.says(said), "{said}");
    }

    let credential = run(&["feed", "credentials", "default/prod", "--format=json"]);
    let exchange = exports.recv_timeout(WITHIN).unwrap();
    for said in ["flight", "mint", "exchange", "step", "sts:AssumeRoleWithWebIdentity", "aws-ecr"] {
        assert!(exchange.says(said), "{said}");
    }

    let credential: serde_json::Value = serde_json::from_str(&credential).unwrap();
    let jti = credential["jti"].as_str().unwrap();
    assert!(exchange.says(jti));
    let password = credential["password"].as_str().unwrap();
    assert_eq!(password, "a-password-that-no-trace-may-show");
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    for export in [mint, exchange].into_iter().chain(exports.try_iter()) {
        for secret in [header, claims, signature, password, &password[..16], "eyJ"] {
            assert!(!export.says(secret), "{secret} is in an export");
        }
    }
}

#[test]
fn no_trace_is_exported_without_carnets_own_setting() {
    let (address, exports) = collector();
    let (issuer, _sandbox) = issuer();
    let mut command = issuer.carnet.command(&["token", "mint", "default/prod"]);
    // The variable for other programs on the machine has no effect alone.
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    assert_eq!(Output::of(&mut command, b"").status, 0);
    assert!(exports.try_recv().is_err());
}

#[test]
fn the_environments_proxy_gets_no_traces() {
    let (address, exports) = collector();
    // Nothing listens at the proxy's port: exports through it would be lost.
    let [proxy] = crate::support::process::free_ports();
    let (issuer, _sandbox) = issuer();
    let endpoint = format!("--otlp-endpoint=http://{address}");
    let mut command = issuer.carnet.command(&["token", "mint", "default/prod", &endpoint]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env(name, format!("http://127.0.0.1:{proxy}"));
    }
    assert_eq!(Output::of(&mut command, b"").status, 0);
    let head = exports.recv_timeout(WITHIN).unwrap().head;
    assert!(head.starts_with("post /v1/traces "), "{head}");
}

#[test]
fn an_unreachable_collector_fails_no_command() {
    let [port] = crate::support::process::free_ports();
    let (issuer, _sandbox) = issuer();
    let endpoint = format!("--otlp-endpoint=http://127.0.0.1:{port}");
    let output = issuer.carnet.run(&["token", "mint", "default/prod", &endpoint]);
    assert_eq!(output.status, 0, "{output:?}");
    assert_eq!(output.stdout.trim().split('.').count(), 3);
    let refused = issuer.carnet.run(&["key", "list", "--otlp-endpoint=http://user:hunter2@127.0.0.1"]);
    assert_eq!(refused.status, 2);
    assert!(refused.stderr.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
}
