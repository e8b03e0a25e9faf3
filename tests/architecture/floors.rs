//! Checks of a single file: upward uses, crates outside their modules, and length.

use crate::source::{Mention, Source};

/// The floors, lowest first. A module uses those of its own floor and of lower ones. `lib.rs`, `main.rs` and
/// `internals.rs` are outside the floors: they only name the others.
const FLOORS: [&[&str]; 6] = [
    &["values"],
    &["jose", "oidc"],
    &["audit", "diagnosis", "feed", "grant", "metrics", "setup", "signing_keys", "states"],
    &["store"],
    &[
        "access",
        "audit_log",
        "broker",
        "carnet",
        "clock_watch",
        "exchange",
        "feeds",
        "issuer",
        "nudging",
        "publish",
    ],
    &["api_types", "check", "cli", "client", "doctor", "http", "sandbox"],
];

/// Rooms that name the others and are named by none: the parts for carnet's own tests, and tests of several rooms.
pub(crate) const OUTSIDE: [&str; 2] = ["internals", "tests"];

/// A crate, or some modules of it, that only some of our modules may name.
struct Door {
    krate: &'static str,
    /// The modules concerned; an empty list means the whole crate.
    modules: &'static [&'static str],
    only_in: &'static [&'static str],
}

const DOORS: &[Door] = &[
    // Only `jose` handles keys and signatures. aws-lc's digests, HMAC and AEAD are used elsewhere, too.
    Door { krate: "josekit", modules: &[], only_in: &["jose"] },
    Door { krate: "p256", modules: &[], only_in: &["jose"] },
    Door { krate: "aws_lc_rs", modules: &["encoding", "rsa", "signature", "unstable"], only_in: &["jose"] },
    // The sandbox verifies with a library that did not sign, so it must not use `jose`.
    Door { krate: "jsonwebtoken", modules: &[], only_in: &["sandbox"] },
    Door { krate: "sqlx", modules: &[], only_in: &["store"] },
    Door { krate: "reqwest", modules: &[], only_in: &["cli", "client", "doctor", "exchange", "publish"] },
    // Failures of TLS are read once, by `values::tls_failure`; the listener checks its own certificate's key.
    Door { krate: "rustls", modules: &["CertificateError", "Error"], only_in: &["http", "values"] },
    Door { krate: "object_store", modules: &[], only_in: &["publish"] },
    // Only the command line exports traces; the library creates spans, and its host decides about them.
    Door { krate: "opentelemetry_otlp", modules: &[], only_in: &["cli"] },
    Door { krate: "prometheus_client", modules: &[], only_in: &["metrics"] },
    Door { krate: "axum", modules: &[], only_in: &["http", "sandbox"] },
    Door { krate: "utoipa", modules: &["openapi"], only_in: &["api_types", "http"] },
    Door { krate: "hyper", modules: &[], only_in: &["http"] },
    Door { krate: "anyhow", modules: &[], only_in: &["cli"] },
    Door { krate: "clap", modules: &[], only_in: &["cli"] },
    // Ending the process skips destructors, and with them the wiping of keys.
    Door { krate: "process", modules: &["exit", "abort"], only_in: &[] },
    Door { krate: "libc", modules: &[], only_in: &[] },
];

const LONGEST_FILE: usize = 500;

pub(crate) fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("src/{}:{line}: {what}", source.path));
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        say(1, format!("{lines} lines are more than {LONGEST_FILE}"));
    }
    let reading = match source.read() {
        Ok(reading) => reading,
        Err(error) => {
            say(error.span().start().line, format!("not read: {error}"));
            return found;
        }
    };
    let module = reading.module.first().map_or("", String::as_str);
    let own = floor(module);
    if own.is_none() && !module.is_empty() && !OUTSIDE.contains(&module) {
        say(1, format!("{module} is on no floor: add it to the list, where it belongs"));
    }
    for mention in &reading.mentions {
        if let Some(own) = own
            && let Some(what) = upward(own, mention)
        {
            say(mention.line, what);
        }
        // Tests of several rooms act as clouds, verifiers and attackers, too.
        for door in DOORS.iter().filter(|door| !door.only_in.contains(&module) && module != "tests") {
            if let Some(what) = door.forced_by(mention) {
                say(mention.line, what);
            }
        }
    }
    found
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn upward(own: usize, mention: &Mention) -> Option<String> {
    let (root, rest) = mention.path.split_first()?;
    if root != "crate" {
        return None;
    }
    let Some(used) = rest.first() else {
        return Some("crate itself is named, which hides the floor".to_owned());
    };
    match floor(used) {
        None => Some(format!("crate::{used} is on no floor")),
        Some(other) if other > own => Some(format!("floor {own} uses crate::{used} of floor {other}")),
        Some(_) => None,
    }
}

impl Door {
    fn forced_by(&self, mention: &Mention) -> Option<String> {
        // `process` is a module of std; the name of a crate is first in its path.
        let at = mention.path.iter().position(|name| name == self.krate)?;
        if at > 0 && self.krate != "process" {
            return None;
        }
        let allowed =
            if self.only_in.is_empty() { "nobody".to_owned() } else { self.only_in.join(" and ") + " only" };
        if self.modules.is_empty() {
            return Some(format!("{} is for {allowed}", self.krate));
        }
        match mention.path.get(at + 1).map(String::as_str) {
            None if mention.is_renamed => {
                Some(format!("{} is renamed, which hides what is used of it", self.krate))
            }
            Some("*") => Some(format!("{}::* hides what is used of it", self.krate)),
            Some(used) if self.modules.contains(&used) => {
                Some(format!("{}::{used} is for {allowed}", self.krate))
            }
            _ => None,
        }
    }
}

/// Proves that the checker can fail.
#[test]
fn an_upward_use_a_forced_door_and_a_long_file_are_found() {
    let long = "\n".repeat(LONGEST_FILE + 1);
    for (path, text, expected) in [
        ("values/slug.rs", "use crate::store::Store;", "floor 0 uses crate::store of floor 3"),
        ("jose/jwk.rs", "fn f() { crate::cli::main(); }", "floor 1 uses crate::cli of floor 5"),
        (
            "feed/aws.rs",
            "use crate::{jose::{jwk}, values::slug, issuer::Issuer};",
            "floor 2 uses crate::issuer of floor 4",
        ),
        ("store/mod.rs", "/* x */ use crate\n  ::http::tls;", "floor 3 uses crate::http of floor 5"),
        (
            "values/slug.rs",
            "const A: char = 'a'; use crate::issuer::Rotator;",
            "floor 0 uses crate::issuer of floor 4",
        ),
        ("utils.rs", "", "utils is on no floor"),
        ("cli/mod.rs", "use crate::Carnet;", "crate::Carnet is on no floor"),
        ("store/mod.rs", "use super::issuer::Issuer;", "floor 3 uses crate::issuer of floor 4"),
        ("store/keys/rows.rs", "use super::super::super::issuer;", "floor 3 uses crate::issuer of floor 4"),
        ("values/slug.rs", "mod a { use super::super::super::cli; }", "floor 0 uses crate::cli of floor 5"),
        ("values/slug.rs", "fn f() { say!(1, crate::cli::main()) }", "floor 0 uses crate::cli of floor 5"),
        (
            "values/slug.rs",
            "macro_rules! m { () => { $crate::cli::main() } }",
            "floor 0 uses crate::cli of floor 5",
        ),
        (
            "values/slug.rs",
            "struct A { #[serde(with = \"crate::cli::b\")] b: B }",
            "floor 0 uses crate::cli of floor 5",
        ),
        ("values/slug.rs", "fn f(a: Vec<crate::cli::A>) {}", "floor 0 uses crate::cli of floor 5"),
        ("values/slug.rs", "use crate as here;", "crate itself is named"),
        ("values/slug.rs", "fn f( {", "not read"),
        ("store/mod.rs", "use p256::SecretKey;", "p256 is for jose only"),
        (
            "issuer/mod.rs",
            "use aws_lc_rs::{digest, signature::KeyPair};",
            "aws_lc_rs::signature is for jose only",
        ),
        ("issuer/mod.rs", "use aws_lc_rs as lc;", "aws_lc_rs is renamed"),
        ("issuer/mod.rs", "use aws_lc_rs::{self as lc};", "aws_lc_rs is renamed"),
        ("issuer/mod.rs", "extern crate aws_lc_rs as lc;", "aws_lc_rs is renamed"),
        ("issuer/mod.rs", "use aws_lc_rs::*;", "aws_lc_rs::* hides"),
        ("issuer/mod.rs", "#[sqlx::test] fn f() {}", "sqlx is for store only"),
        ("issuer/mod.rs", "fn f() { sqlx::query!() }", "sqlx is for store only"),
        ("issuer/mod.rs", "fn f() -> anyhow::Result<()> {}", "anyhow is for cli only"),
        ("doctor/fetch.rs", "fn f(e: rustls::Error) {}", "rustls::Error is for http and values only"),
        ("cli/mod.rs", "use std::process::{ExitCode, exit};", "process::exit is for nobody"),
        ("main.rs", "fn main() { std::process::exit(1) }", "process::exit is for nobody"),
        ("values/slug.rs", &long, "501 lines are more than 500"),
    ] {
        let found = violations(&Source { path: path.to_owned(), text: text.to_owned() });
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text:?}\ngave {found:?}");
    }
    for (path, text) in [
        ("values/slug.rs", "// use crate::store::Store;\n/* crate::cli /* nested */ */"),
        (
            "values/slug.rs",
            r##"const A: &str = "crate::store \" josekit"; const B: &str = r#"sqlx " anyhow"#;"##,
        ),
        ("values/slug.rs", "use crate::values::excerpt::excerpt; fn f<'a>(x: &'a str) -> char { '\"' }"),
        ("cli/mod.rs", "use crate::{store::Store, issuer}; pub(in crate::cli) fn f() {}"),
        ("store/mod.rs", "use aws_lc_rs::{aead, hmac}; use self::vault::Vault; mod tests { use super::*; }"),
        ("http/tls.rs", "fn f() { rustls::crypto::aws_lc_rs::default_provider(); }"),
        ("jose/key_pair.rs", "use aws_lc_rs::signature::KeyPair; use p256::SecretKey; use super::Algorithm;"),
        ("main.rs", "use std::process::ExitCode; fn main() -> ExitCode { carnet::cli::main() }"),
    ] {
        let found = violations(&Source { path: path.to_owned(), text: text.to_owned() });
        assert!(found.is_empty(), "{path}: {text:?}\ngave {found:?}");
    }
}
