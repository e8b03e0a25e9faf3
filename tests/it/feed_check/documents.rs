//! The issuer's documents, as seen from this machine, and minting.

use crate::feed_check::cases::{CASE, Case, Fix, Served, drive};
use crate::feed_check::clouds::GOOGLE;
use crate::feed_check::gate::{Act, OTHER_JWKS, rule};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks";
const HTML: &str = "Content-Type: text/html\r\n";
/// Returns the fix that removes the component in front of carnet.
const fn away(words: &'static str) -> Fix {
    Fix::Hand(words, "what stood before carnet is taken away")
}
const SERVE: Fix = Fix::Run(&[]);

const fn discovery(name: &'static str, status: Option<u16>, cause: &'static str) -> Case {
    Case { name, step: "discovery", status, cause, fix: away(cause), ..CASE }
}

const fn jwks(name: &'static str, status: Option<u16>, cause: &'static str) -> Case {
    Case { step: "jwks", ..discovery(name, status, cause) }
}

const fn mint(name: &'static str, cause: &'static str) -> Case {
    Case { name, step: "mint", cause, fix: Fix::Run(&[]), ..CASE }
}

pub(crate) const DOCUMENTS: &[Case] = &[
    Case {
        served: Served::Down,
        fix: SERVE,
        ..discovery("discovery-down", Some(502), "no server is running for the issuer")
    },
    Case {
        served: Served::OtherIssuer,
        fix: SERVE,
        ..discovery("discovery-other-issuer", Some(200), "the document names another issuer")
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Bytes(""))],
        fix: Fix::Ends(&[]),
        ..discovery("discovery-closed", None, "no server is running for the issuer")
    },
    Case {
        rules: &[rule(
            DISCOVERY,
            Act::Answer("301 Moved Permanently", "Location: https://other.example/\r\n", ""),
        )],
        ..discovery(
            "discovery-redirect",
            Some(301),
            "clouds do not follow: serve the documents at the issuer URL itself",
        )
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Answer("401 Unauthorized", HTML, "<html>Log in</html>"))],
        ..discovery("discovery-login", Some(401), "requires a login: both documents must be public")
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Answer("404 Not Found", HTML, "<html>Not found</html>"))],
        ..discovery(
            "discovery-not-found",
            Some(404),
            "changes the path: it must pass /.well-known on below the issuer URL",
        )
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Answer("200 OK", HTML, "<html>Welcome</html>"))],
        ..discovery("discovery-page", Some(200), "something other than carnet responds there")
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Answer("200 OK", "", r#"{"issuer":"https://other.example"}"#))],
        ..discovery("discovery-incomplete", Some(200), "something other than carnet responds there")
    },
    Case {
        rules: &[rule(DISCOVERY, Act::Long)],
        ..discovery("discovery-too-long", None, "something other than carnet responds there")
    },
    Case {
        rules: &[rule(JWKS, Act::Answer("200 OK", "", r#"{"keys":[]}"#))],
        fix: Fix::Wait,
        ..jwks("jwks-older", Some(200), "serves an older JWKS")
    },
    Case {
        rules: &[rule(JWKS, OTHER_JWKS)],
        fix: Fix::Ends(&[]),
        ..jwks("jwks-other-keys", Some(200), "uses another database")
    },
    Case {
        served: Served::OtherKeys,
        fix: SERVE,
        ..jwks("jwks-other-database", Some(200), "uses another database")
    },
    Case {
        rules: &[rule(JWKS, Act::Answer("200 OK", HTML, "<html>Welcome</html>"))],
        ..jwks("jwks-page", Some(200), "something other than carnet responds there")
    },
    Case {
        rules: &[rule(JWKS, Act::Answer("302 Found", "Location: https://other.example/\r\n", ""))],
        ..jwks(
            "jwks-redirect",
            Some(302),
            "clouds do not follow: serve the documents at the issuer URL itself",
        )
    },
    Case {
        rules: &[rule(JWKS, Act::Answer("404 Not Found", HTML, "<html>Not found</html>"))],
        ..jwks(
            "jwks-not-found",
            Some(404),
            "changes the path: it must pass /.well-known on below the issuer URL",
        )
    },
];

pub(crate) const MINT: &[Case] = &[
    Case {
        feed: &["--subject-keys=space,feed,tenant"],
        fix: Fix::Run(&[("VALUE", "acme")]),
        ..mint("mint-needs-context", "needs the deployment's tenant")
    },
    Case {
        feed: &["--token-lifetime=50m"],
        before: &[&["key", "policy", "--max-token-lifetime=30m"]],
        ..mint("mint-lives-too-long", "the key policy was tightened")
    },
    Case { turned: Some("-2h"), ..mint("mint-clock-behind", "this machine's clock is behind") },
];

/// Google's case: only Google's limit for a subject is shorter than the longest possible subject.
pub(crate) const MINT_AT_GOOGLE: &[Case] = &[Case {
    cloud: &GOOGLE,
    feed: &["--subject-keys=space,project,tenant,feed"],
    check: &[
        "--context=project=a-project-with-quite-a-long-name-of-its-own-0123",
        "--context=tenant=a-tenant-with-quite-a-long-name-of-its-own-012345",
    ],
    ..mint("mint-subject-too-long", "more or longer keys than the provider accepts")
}];

#[test]
fn every_failure_of_the_issuers_documents_is_explained_and_fixed() {
    drive(DOCUMENTS);
}

#[test]
fn every_failure_to_mint_is_explained_and_fixed() {
    drive(MINT);
    drive(MINT_AT_GOOGLE);
}
