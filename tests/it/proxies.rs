//! `feed check` and `feed credentials` behind a failing proxy: each failure is reported as the proxy's, with
//! its reason and fix, never as the endpoint's.

use std::net::TcpListener;

use crate::support::carnet::{Issuer, Output};
use crate::support::forward_proxy::ForwardProxy;
use serde_json::Value;

/// An issuer, and a feed whose endpoints are reached through tunnels alone. No tunnel is ever opened.
fn issuer() -> Issuer {
    let issuer = Issuer::http();
    issuer.carnet.ok(&[
        "feed",
        "add",
        "aws-ecr",
        "--space=default",
        "--slug=a",
        "--registry=123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "--role-arn=arn:aws:iam::123456789012:role/pull",
        "--endpoint=sts=https://sts.nowhere.invalid",
        "--endpoint=ecr=https://ecr.nowhere.invalid",
    ]);
    issuer
}

fn check(issuer: &Issuer, proxy: &str) -> Value {
    let output = issuer.carnet.run(&["feed", "check", "default/a", "--output=json", "--proxy", proxy]);
    assert_eq!(output.status, 1, "{output:?}");
    let response: Value = serde_json::from_str(&output.stdout).unwrap();
    response["steps"].as_array().unwrap().last().unwrap().clone()
}

fn credentials(issuer: &Issuer, proxy: &str) -> Output {
    issuer.carnet.run(&["feed", "credentials", "default/a", "--proxy", proxy])
}

/// A proxy's response to `CONNECT`, with a part of the message and of the fix.
const REFUSALS: &[(&str, &str, &str)] = &[
    ("407 Proxy Authentication Required\r\n\r\n", "requires a login", "CARNET_PROXY"),
    ("403 Forbidden\r\n\r\n<h1>Category: cloud</h1>", "Category: cloud", "allow CONNECT"),
    ("405 Method Not Allowed\r\n\r\n", "405", "--proxy http://HOST:PORT"),
    ("302 Found\r\nLocation: http://login/\r\n\r\n", "302", "sign this machine in"),
    ("502 Bad Gateway\r\n\r\nno such name", "no such name", "the proxy's log"),
    ("503 Service Unavailable\r\n\r\n", "503", "the proxy's log"),
    ("200 OK\r\n\r\n<h1>Welcome</h1>", "does not connect to the host", "unchanged"),
];

#[test]
fn a_proxy_that_opens_no_tunnel_is_reported_as_the_proxy_by_feed_check() {
    let issuer = issuer();
    for (response, text, fix) in REFUSALS {
        let response: &'static str = format!("HTTP/1.1 {response}").leak();
        let proxy = ForwardProxy::answering(None, response);
        let url = format!("http://{}", proxy.address);
        let step = check(&issuer, &url);
        let what = format!("{response}: {step:#}");
        assert_eq!(step["step"], "sts:AssumeRoleWithWebIdentity", "{what}");
        let message = step["upstream"]["message"].as_str().unwrap();
        assert!(message.contains(text) && message.contains(&url), "{what}");
        let [cause] = &step["causes"].as_array().unwrap()[..] else { panic!("{what}") };
        assert!(cause["cause"].as_str().unwrap().contains("proxy"), "{what}");
        assert!(cause.to_string().contains(fix), "{what}");
        assert!(!cause.to_string().contains("--endpoint"), "{what}");
    }
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_reported_as_the_proxy_by_feed_credentials() {
    let issuer = issuer();
    // The other responses are transient and are retried within the caller's deadline.
    for (response, text, _) in REFUSALS.iter().filter(|(response, ..)| !response.starts_with(['5', '2'])) {
        let response: &'static str = format!("HTTP/1.1 {response}").leak();
        let proxy = ForwardProxy::answering(None, response);
        let output = credentials(&issuer, &format!("http://{}", proxy.address));
        assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
        let hint = output.stderr.split("hint: ").nth(1).unwrap_or_default();
        assert!(output.stderr.contains(text) && hint.contains("proxy"), "{response}: {output:?}");
    }
}

#[test]
fn an_absent_proxy_is_reported_from_the_first_step_on() {
    let issuer = issuer();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let step = check(&issuer, &url);
    assert_eq!(step["step"], "discovery", "{step:#}");
    assert!(step["upstream"]["message"].as_str().unwrap().contains(&url), "{step:#}");
    let [cause] = &step["causes"].as_array().unwrap()[..] else { panic!("{step:#}") };
    assert!(cause["cause"].as_str().unwrap().contains("the proxy that --proxy or CARNET_PROXY names"));
    assert_eq!(cause["command"], "carnet feed check default/a --proxy http://HOST:PORT");

    // Plain http is not tunnelled: the endpoint's response itself demands the login.
    let proxy = ForwardProxy::start(Some("Basic dXNlcjpodW50ZXIy"));
    let step = check(&issuer, &format!("http://{}", proxy.address));
    assert_eq!(step["step"], "discovery", "{step:#}");
    assert!(step["causes"][0]["cause"].as_str().unwrap().contains("requires a login"), "{step:#}");
}
