//! ECR Public: no third-party server implements it, so AWS's own client is run against the sandbox, and its
//! requests are compared with carnet's.

use serde_json::{Value, json};

use crate::support::carnet::{Issuer, Output};
use crate::support::forward_proxy::ForwardProxy;
use crate::support::process::clean_command;
use crate::support::recording_proxy::Recorded;
use crate::support::{in_package, installed_peer};

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

/// Returns the signed headers of a SigV4 `Authorization`, and its scope without the date.
fn signed(request: &Recorded) -> (Vec<&str>, &str) {
    let authorization = &request.headers["authorization"];
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).unwrap();
        rest.split(',').next().unwrap()
    };
    let scope = part("Credential").splitn(3, '/').nth(2).unwrap();
    (part("SignedHeaders").split(';').collect(), scope)
}

#[test]
fn awss_client_passes_the_sandbox_and_carnet_sends_the_same_requests() {
    let issuer = Issuer::http();
    let trust = format!(
        "[aws]\npassword = 'hunter2'\n[[aws.roles]]\narn = '{ROLE}'\naudiences = ['sts.amazonaws.com']\n\
         subjects = ['space:default:feed:a']\n"
    );
    let sandbox = issuer.carnet.sandbox(&issuer.url, &trust);
    let (sts, ecr) = (sandbox.announced("/endpoints/aws/sts"), sandbox.announced("/endpoints/aws/ecr"));
    for slug in ["a", "b"] {
        let (slug, role) = (format!("--slug={slug}"), format!("--role-arn={ROLE}"));
        let endpoints = [format!("--endpoint=sts={sts}"), format!("--endpoint=ecr={ecr}")];
        let fields =
            ["--space=default", &slug, "--registry=public.ecr.aws", &role, &endpoints[0], &endpoints[1]];
        issuer.carnet.ok(&[&["feed", "add", "aws-ecr-public"], &fields[..]].concat());
    }
    let proxy = ForwardProxy::start(None);
    let ask = |feed: &str| -> Value {
        let token = issuer.carnet.ok(&["token", "mint", feed]);
        let output = Output::of(
            clean_command(installed_peer("venv/bin/python"))
                .arg(in_package("tests/peers/ecr_public.py"))
                .args([sts, ecr, ROLE])
                .env("HTTP_PROXY", format!("http://{}", proxy.address))
                .env("AWS_EC2_METADATA_DISABLED", "true"),
            token.as_bytes(),
        );
        assert_eq!(output.status, 0, "{output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    };
    assert_eq!(ask("default/b")["error"], "AccessDenied");
    proxy.take();
    assert_eq!(ask("default/a"), json!({ "login": "AWS:hunter2" }));
    let theirs = proxy.take();
    let through = format!("http://{}", proxy.address);
    let credential = issuer.carnet.ok(&["feed", "credentials", "default/a", "--proxy", &through]);
    assert_eq!(serde_json::from_str::<Value>(&credential).unwrap()["password"], "hunter2");
    let ours = proxy.take();
    assert_eq!((ours.len(), theirs.len()), (2, 2), "{ours:#?} {theirs:#?}");

    // carnet always states the session's duration; session names differ, and no token is used twice.
    let (our, mut their) = (ours[0].form(), theirs[0].form());
    their.insert("DurationSeconds".to_owned(), "3600".to_owned());
    for name in ["RoleSessionName", "WebIdentityToken"] {
        assert_ne!(our[name], their[name], "{name}");
        their.insert(name.to_owned(), our[name].clone());
    }
    assert_eq!(our, their);
    assert!(
        !ours[0].headers.contains_key("authorization") && !theirs[0].headers.contains_key("authorization")
    );

    let (our, their) = (&ours[1], &theirs[1]);
    assert_eq!((&our.method, &our.target, &our.body), (&their.method, &their.target, &their.body));
    for header in ["content-type", "x-amz-target"] {
        assert_eq!(our.headers[header], their.headers[header], "{header}");
    }
    let ((our_headers, our_scope), (their_headers, their_scope)) = (signed(our), signed(their));
    assert_eq!(our_scope, "us-east-1/ecr-public/aws4_request");
    assert_eq!(our_scope, their_scope);
    // carnet signs everything that the client signs.
    for header in their_headers {
        assert!(our_headers.contains(&header), "{header} is not signed: {our_headers:?}");
    }
}
