//! The registry: login and pull.

use crate::feed_check::cases::{CASE, Case, Fix, drive};
use crate::feed_check::gate::{Act, rule};

const PULL: &[&str] = &["--image=app:v1"];
const OTHER: &[&str] = &["--registry={other-host}"];
const RIGHT: Fix = Fix::Run(&[("HOST", "{host}")]);
const MANIFEST: &str = "/v2/app/manifests/v1";
const JSON: &str = "Content-Type: application/json\r\n";
const DENIED: &str =
    r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
const TOO_MANY: &str = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
const UNAUTHORIZED: &str =
    r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#;

const fn login(
    name: &'static str,
    status: Option<u16>,
    code: Option<&'static str>,
    cause: &'static str,
) -> Case {
    Case { name, step: "registry", status, code, cause, feed: OTHER, fix: RIGHT, ..CASE }
}

const fn pull(name: &'static str, status: u16, code: Option<&'static str>, cause: &'static str) -> Case {
    Case { name, step: "pull", check: PULL, status: Some(status), code, cause, ..CASE }
}

pub(crate) const LOGIN: &[Case] = &[
    Case {
        rules: &[rule(
            "//127.0.0.2/v2/",
            Act::Answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"r\"\r\n", UNAUTHORIZED),
        )],
        ..login("registry-unauthorized", Some(401), Some("UNAUTHORIZED"), "does not know the credential")
    },
    Case {
        rules: &[rule(
            "//127.0.0.2/v2/",
            Act::Answer(
                "401 Unauthorized",
                "WWW-Authenticate: Bearer realm=\"https://evil.example/token\"\r\n",
                "",
            ),
        )],
        ..login(
            "registry-foreign-realm",
            None,
            None,
            "asks for its password to be sent to https://evil.example/token",
        )
    },
    Case {
        rules: &[
            rule("//127.0.0.2/v2/token", Act::Answer("200 OK", JSON, "{}")),
            rule(
                "//127.0.0.2/v2/",
                Act::Answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"/v2/token\"\r\n", ""),
            ),
        ],
        ..login("registry-no-token", None, None, "is not a registry")
    },
    Case {
        rules: &[rule("//127.0.0.2/v2/", Act::Answer("403 Forbidden", JSON, DENIED))],
        fix: Fix::Lifts("the role may ecr:GetAuthorizationToken on [\"*\"]"),
        ..login("registry-denied", Some(403), Some("DENIED"), "has no permission to log in")
    },
    Case {
        rules: &[rule(
            "//127.0.0.2/v2/",
            Act::Answer("301 Moved Permanently", "Location: /elsewhere\r\n", ""),
        )],
        ..login("registry-redirect", Some(301), None, "is not the registry's own name")
    },
    Case {
        rules: &[rule("//127.0.0.2/v2/", Act::Answer("404 Not Found", "", "<html>Not found</html>"))],
        ..login("registry-none", Some(404), None, "is not a registry")
    },
    Case {
        rules: &[rule("/v2/", Act::Answer("429 Too Many Requests", JSON, TOO_MANY))],
        feed: &[],
        fix: Fix::Wait,
        ..login("registry-throttled", Some(429), Some("TOOMANYREQUESTS"), "limits the rate")
    },
    Case {
        rules: &[rule("/v2/", Act::Answer("503 Service Unavailable", "", ""))],
        feed: &[],
        fix: Fix::Wait,
        ..login("registry-unavailable", Some(503), None, "often temporary")
    },
    Case {
        feed: &["--registry={closed}"],
        fix: Fix::Way("allow connections to the registry"),
        ..login("registry-down", None, None, "can resolve and reach the registry")
    },
    Case {
        // Over TLS; otherwise carnet would use plain http for a registry on this machine.
        feed: &["--registry={local-host}"],
        check: &["--ca-file={ca}"],
        rules: &[rule("//localhost/v2/", Act::Bytes(""))],
        ..login("registry-closed", None, None, "the connection broke")
    },
    Case {
        feed: &["--registry={local-host}"],
        check: &["--ca-file={ca}"],
        rules: &[rule("//localhost/v2/", Act::Long)],
        ..login("registry-too-long", None, None, "is not the registry")
    },
];

pub(crate) const AT_PULL: &[Case] = &[
    Case {
        check: &["--image=app:v2"],
        fix: Fix::Run(&[("NAME:TAG", "app:v1")]),
        ..pull("pull-no-tag", 404, Some("MANIFEST_UNKNOWN"), "no such tag")
    },
    Case {
        check: &["--image=other:v1"],
        fix: Fix::Run(&[("NAME:TAG", "app:v1")]),
        ..pull("pull-no-repository", 404, Some("NAME_UNKNOWN"), "no such repository")
    },
    Case {
        rules: &[rule(MANIFEST, Act::Answer("403 Forbidden", JSON, DENIED))],
        fix: Fix::Lifts("the role may ecr:BatchGetImage on"),
        ..pull("pull-denied", 403, Some("DENIED"), "can log in, but is not allowed to pull app:v1")
    },
    Case {
        rules: &[rule(MANIFEST, Act::Answer("429 Too Many Requests", JSON, TOO_MANY))],
        fix: Fix::Wait,
        ..pull("pull-throttled", 429, Some("TOOMANYREQUESTS"), "limits the rate")
    },
    Case {
        rules: &[rule(MANIFEST, Act::Answer("502 Bad Gateway", "", "<html>Bad Gateway</html>"))],
        fix: Fix::Wait,
        ..pull("pull-unavailable", 502, None, "often temporary")
    },
    Case {
        rules: &[rule(
            "/v2/app/blobs/",
            Act::Answer(
                "404 Not Found",
                JSON,
                r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#,
            ),
        )],
        fix: Fix::Hand("push the image again", "the registry has the layer"),
        ..pull("pull-no-layer", 404, Some("BLOB_UNKNOWN"), "but not its first layer")
    },
    Case {
        rules: &[rule(MANIFEST, Act::Answer("200 OK", JSON, r#"{"layers":[{"digest":"md5:1"}]}"#))],
        status: None,
        fix: Fix::Hand(
            "does not serve this image according to",
            "the registry serves the manifest as OCI says",
        ),
        ..pull("pull-strange-manifest", 0, None, "does not serve this image")
    },
];

#[test]
fn every_failure_to_log_in_at_a_registry_is_explained_and_fixed() {
    drive(LOGIN);
}

#[test]
fn every_failure_to_pull_is_explained_and_fixed() {
    drive(AT_PULL);
}
