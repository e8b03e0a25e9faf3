//! Failures of a network and of middleboxes, independent of the provider.

use crate::feed_check::cases::{CASE, Case, Fix, drive};
use crate::feed_check::clouds::GOOGLE;
use crate::feed_check::gate::{Act, rule};

const STS: &str = "sts:AssumeRoleWithWebIdentity";
const HTML: &str = "Content-Type: text/html\r\n";
const ELSEWHERE: &[&str] = &["--endpoint=sts={url}/elsewhere"];
const RIGHT: Fix = Fix::Run(&[("URL", "{url}/aws/sts")]);

/// Returns a case without a response from AWS.
const fn sts(name: &'static str, status: Option<u16>, cause: &'static str) -> Case {
    Case { name, step: STS, status, cause, feed: ELSEWHERE, fix: RIGHT, ..CASE }
}

pub(crate) const NETWORK: &[Case] = &[
    Case {
        feed: &["--endpoint=sts=http://{closed}/aws/sts"],
        fix: Fix::Way("allow connections to the endpoint"),
        ..sts("network-refused", None, "can resolve and reach the endpoint")
    },
    Case {
        feed: &["--endpoint=sts=https://sts.nowhere.invalid"],
        fix: Fix::Not("which names resolve on this machine is not for a test to change"),
        ..sts("network-no-such-name", None, "can resolve and reach the endpoint")
    },
    Case {
        feed: &["--endpoint=sts=https://stored.example"],
        stored: "UPDATE feeds SET endpoints = replace(endpoints, 'stored.example', '169.254.169.254')",
        ..sts("network-address", None, "no tokens to link-local")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Bytes(""))],
        ..sts("network-closed", None, "the connection broke")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n<Assume"))],
        ..sts("network-closed-mid-answer", None, "the connection broke")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Bytes("SSH-2.0-OpenSSH_9.2\r\n"))],
        ..sts("network-not-http", None, "does not speak HTTP")
    },
    Case {
        feed: &["--endpoint=sts={tls}/aws/sts"],
        fix: Fix::Run(&[("FILE", "{ca}")]),
        ..sts("network-tls-unknown-ca", None, "is not trusted here")
    },
    Case {
        feed: &["--endpoint=sts={tls-other-name}/aws/sts"],
        check: &["--ca-file={ca}"],
        ..sts("network-tls-other-name", None, "is for another name")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Answer("403 Forbidden", HTML, "<html>Your company's proxy</html>"))],
        ..sts("network-page-of-a-proxy", Some(403), "something else may have responded")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Answer("200 OK", HTML, "<html>Welcome to this hotel</html>"))],
        ..sts("network-welcome-page", Some(200), "not a response of the provider's API")
    },
    Case {
        rules: &[rule(
            "/elsewhere",
            Act::Answer(
                "301 Moved Permanently",
                "Location: https://login.example/\r\n",
                "<html>Moved</html>",
            ),
        )],
        ..sts("network-redirect", Some(301), "responds with a redirect")
    },
    Case {
        feed: &[],
        rules: &[rule("/aws/sts", Act::Answer("502 Bad Gateway", HTML, "<html>Bad Gateway</html>"))],
        fix: Fix::Wait,
        ..sts("network-bad-gateway", Some(502), "often temporary")
    },
    Case {
        rules: &[rule("/elsewhere", Act::Long)],
        ..sts("network-too-long", None, "this is not the provider's API")
    },
    Case {
        step: "ecr:GetAuthorizationToken",
        feed: &["--endpoint=ecr={url}/elsewhere"],
        rules: &[rule("/elsewhere", Act::Answer("200 OK", "", r#"{"authorizationData":"#))],
        fix: Fix::Run(&[("URL", "{url}/aws/ecr")]),
        ..sts("network-cut-json", Some(200), "not a response of the provider's API")
    },
    Case {
        step: "ecr:GetAuthorizationToken",
        feed: &["--endpoint=ecr={url}/elsewhere"],
        rules: &[rule("/elsewhere", Act::Answer("400 Bad Request", "", r#"{"__type": [1]}"#))],
        fix: Fix::Run(&[("URL", "{url}/aws/ecr")]),
        ..sts("network-strange-json", Some(400), "something else may have responded")
    },
];

/// The same page at a step of each other provider.
pub(crate) const AT_GOOGLE: &[Case] = &[
    Case {
        name: "network-page-at-google-sts",
        cloud: &GOOGLE,
        step: "sts:token",
        status: Some(403),
        cause: "something else may have responded",
        feed: &["--endpoint=sts={url}/elsewhere"],
        rules: &[rule("/elsewhere", Act::Answer("403 Forbidden", HTML, "<html>Your company's proxy</html>"))],
        fix: Fix::Run(&[("URL", "{url}/google/sts")]),
        ..CASE
    },
    Case {
        name: "network-page-at-google-account",
        cloud: &GOOGLE,
        step: "iamcredentials:generateAccessToken",
        status: Some(403),
        cause: "something else may have responded",
        feed: &["--endpoint=iamcredentials={url}/elsewhere"],
        rules: &[rule("/elsewhere", Act::Answer("403 Forbidden", HTML, "<html>Your company's proxy</html>"))],
        fix: Fix::Run(&[("URL", "{url}/google/iamcredentials")]),
        ..CASE
    },
];

#[test]
fn every_failure_of_the_network_is_explained_and_fixed() {
    drive(NETWORK);
}

#[test]
fn a_proxys_page_is_reported_at_every_step_of_google() {
    drive(AT_GOOGLE);
}
