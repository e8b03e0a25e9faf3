//! Dependencies point strictly downward, and what only some modules may touch stays there: read off the
//! source text, and told file by line when it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a source tree that cannot be read should fail the test where it stands"
)]

use std::fmt::Write as _;
use std::path::Path;

/// The floors, lowest first. A module uses those of its own floor and of lower ones. `lib.rs` and `main.rs`
/// stand outside: they only name the others.
const FLOORS: [&[&str]; 6] = [
    &[
        "actor",
        "authority",
        "clock",
        "duration",
        "excerpt",
        "issuer_url",
        "network",
        "random",
        "regular_file",
        "secret",
        "shares",
        "slug",
        "target_url",
        "visible",
        "x509",
    ],
    &["jose", "oidc"],
    &["audit", "feed", "grant", "knowledge", "metrics", "signing_keys", "states"],
    &["store"],
    &[
        "api",
        "audit_log",
        "audited_issuer",
        "broker",
        "carnet",
        "clock_watch",
        "database_clock",
        "doctor",
        "evidence",
        "exchange",
        "feeds",
        "grants",
        "issuer",
        "keeper",
        "nudging",
        "principal",
        "publication",
        "rotator",
        "trust",
        "uploads",
    ],
    &["cli", "client", "http", "sandbox"],
];

/// A crate, or one of its modules, that only some of ours may name.
struct Door {
    krate: &'static str,
    /// The modules concerned; none means all of the crate.
    modules: &'static [&'static str],
    only_in: &'static [&'static str],
}

const DOORS: &[Door] = &[
    // One door to keys and signatures. aws-lc's digests, HMAC and AEAD are used elsewhere, too.
    Door { krate: "josekit", modules: &[], only_in: &["jose"] },
    Door { krate: "p256", modules: &[], only_in: &["jose"] },
    Door { krate: "aws_lc_rs", modules: &["encoding", "rsa", "signature", "unstable"], only_in: &["jose"] },
    // The sandbox verifies with an implementation that did not sign: by design past that door.
    Door { krate: "jsonwebtoken", modules: &[], only_in: &["sandbox"] },
    Door { krate: "sqlx", modules: &[], only_in: &["store"] },
    Door { krate: "reqwest", modules: &[], only_in: &["cli", "client", "doctor", "exchange", "publication"] },
    Door { krate: "object_store", modules: &[], only_in: &["publication"] },
    // Only the command line sends traces anywhere; the library names spans, and their host decides.
    Door { krate: "opentelemetry_otlp", modules: &[], only_in: &["cli"] },
    Door { krate: "prometheus_client", modules: &[], only_in: &["metrics"] },
    Door { krate: "axum", modules: &[], only_in: &["http", "sandbox"] },
    Door { krate: "utoipa", modules: &["openapi"], only_in: &["api", "http"] },
    Door { krate: "hyper", modules: &[], only_in: &["http"] },
    Door { krate: "anyhow", modules: &[], only_in: &["cli"] },
    Door { krate: "clap", modules: &[], only_in: &["cli"] },
    // Whoever ends the process skips destructors, and with them the wiping of keys.
    Door { krate: "process", modules: &["exit", "abort"], only_in: &[] },
    Door { krate: "libc", modules: &[], only_in: &[] },
];

const LONGEST_FILE: usize = 500;

struct Source {
    /// Below `src/`, with `/`.
    path: String,
    text: String,
}

#[test]
fn dependencies_point_downward_and_doors_stay_shut() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 20, "the source tree was not found");
    let violations: Vec<String> = sources.iter().flat_map(violations).collect();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// A statement that changes a row for which a state vouches, without saying so, would make the change pass for one that
/// something other than carnet made.
#[test]
fn every_statement_that_changes_a_row_that_counts_appends_a_state() {
    const STATEMENTS: [&str; 8] = [
        "INSERT INTO signing_keys",
        "UPDATE signing_keys",
        "DELETE FROM signing_keys",
        "INSERT INTO grants",
        "UPDATE grants",
        "DELETE FROM grants",
        "INSERT INTO issuer",
        "UPDATE key_state SET rotate_every",
    ];
    /// Functions that need not.
    const EXCEPT: [&str; 5] = [
        // The last use does not count.
        "note_grant_uses",
        // The sealed half authenticates itself.
        "reseal_signing_key",
        // A recovery takes the tables as they are.
        "keep_authentic_signing_keys",
        "keep_grants",
        // Each row is written again by a function that says so.
        "revoke_all_grants",
    ];
    let mut found = String::new();
    let is_looked_at = |source: &Source| source.path.starts_with("store/") && !source.path.contains("tests");
    for Source { path, text } in
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).into_iter().filter(is_looked_at)
    {
        for statement in STATEMENTS {
            for (position, _) in text.match_indices(statement) {
                let start = text[..position].rfind("fn ").unwrap_or_default();
                let end = text[position..].find("\n    }\n").map_or(text.len(), |length| position + length);
                let function = &text[start..end];
                let says = function.contains("begin_change()") && function.contains("self.changed(");
                if !says && !EXCEPT.iter().any(|except| function.contains(&format!("fn {except}("))) {
                    let _ = writeln!(
                        found,
                        "{path}: {statement}: {}",
                        function.lines().next().unwrap_or_default()
                    );
                }
            }
        }
    }
    assert!(found.is_empty(), "without begin_change and changed:\n{found}");
}

/// A checker that cannot fail proves nothing.
#[test]
fn the_checker_finds_what_it_looks_for() {
    let long = "\n".repeat(LONGEST_FILE + 1);
    for (path, text, expected) in [
        ("slug.rs", "use crate::store::Store;", "floor 0 uses crate::store of floor 3"),
        ("jose/jwk.rs", "fn f() { crate::cli::main(); }", "floor 1 uses crate::cli of floor 5"),
        (
            "feed/aws.rs",
            "use crate::{jose::{jwk}, slug, issuer::Issuer};",
            "floor 2 uses crate::issuer of floor 4",
        ),
        ("store/mod.rs", "/* x */ use crate\n  ::http::tls;", "floor 3 uses crate::http of floor 5"),
        ("slug.rs", "let path = 'a'; use crate::rotator::Rotator;", "floor 0 uses crate::rotator of floor 4"),
        ("utils.rs", "", "utils is on no floor"),
        ("cli/mod.rs", "use crate::Carnet;", "crate::Carnet is on no floor"),
        ("store/mod.rs", "use super::issuer::Issuer;", "super:: is the crate's root here"),
        ("cli/key.rs", "use super::super::issuer;", "super::super hides the floor"),
        ("store/mod.rs", "use p256::SecretKey;", "p256 is for jose only"),
        (
            "issuer.rs",
            "use aws_lc_rs::{digest, signature::KeyPair};",
            "aws_lc_rs::signature is for jose only",
        ),
        ("issuer.rs", "use aws_lc_rs as lc;", "aws_lc_rs is renamed"),
        ("issuer.rs", "fn f() -> anyhow::Result<()> {}", "anyhow is for cli only"),
        ("cli/mod.rs", "use std::process::{ExitCode, exit};", "process::exit is for nobody"),
        ("main.rs", "std::process::exit(1)", "process::exit is for nobody"),
        ("slug.rs", &long, "501 lines are more than 500"),
    ] {
        let found = violations(&Source { path: path.to_owned(), text: text.to_owned() });
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text:?}\ngave {found:?}");
    }
    for (path, text) in [
        ("slug.rs", "// use crate::store::Store;\n/* crate::cli /* nested */ */"),
        ("slug.rs", r##"const A: &str = "crate::store \" josekit"; const B: &str = r#"sqlx " anyhow"#;"##),
        ("slug.rs", "use crate::excerpt::excerpt; fn f<'a>(x: &'a str) -> char { '\"' }"),
        ("cli/mod.rs", "use crate::{store::Store, issuer}; pub(in crate::cli) fn f() {}"),
        ("store/mod.rs", "use aws_lc_rs::{aead, hmac}; use self::vault::Vault; mod tests { use super::*; }"),
        ("http/tls.rs", "rustls::crypto::aws_lc_rs::default_provider()"),
        ("jose/key_pair.rs", "use aws_lc_rs::signature::KeyPair; use p256::SecretKey; use super::Algorithm;"),
        ("main.rs", "use std::process::ExitCode; fn main() -> ExitCode { carnet::cli::main() }"),
    ] {
        let found = violations(&Source { path: path.to_owned(), text: text.to_owned() });
        assert!(found.is_empty(), "{path}: {text:?}\ngave {found:?}");
    }
}

fn sources(src: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![src.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path, text });
            }
        }
    }
    sources
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|modules| modules.contains(&module))
}

fn violations(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |at: usize, what: String| {
        let line = source.text[..at].matches('\n').count() + 1;
        found.push(format!("src/{}:{line}: {what}", source.path));
    };
    let lines = source.text.lines().count();
    if lines > LONGEST_FILE {
        say(0, format!("{lines} lines are more than {LONGEST_FILE}"));
    }
    let module = source.path.split('/').next().unwrap().trim_end_matches(".rs");
    let code = without_comments_and_strings(&source.text);
    if !matches!(module, "lib" | "main") {
        match floor(module) {
            None => say(0, format!("{module} is on no floor: add it to the list, where it belongs")),
            Some(own) => {
                for mention in mentions(&code, "crate") {
                    for used in &mention.members {
                        match floor(used) {
                            None => say(mention.at, format!("crate::{used} is on no floor")),
                            Some(other) if other > own => {
                                say(mention.at, format!("floor {own} uses crate::{used} of floor {other}"));
                            }
                            Some(_) => {}
                        }
                    }
                }
            }
        }
        for (at, what) in hidden_roots(&source.path, &code) {
            say(at, what);
        }
    }
    for door in DOORS.iter().filter(|door| !door.only_in.contains(&module)) {
        let allowed =
            if door.only_in.is_empty() { "nobody".into() } else { door.only_in.join(" and ") + " only" };
        for mention in mentions(&code, door.krate) {
            // `process` is a module of std; a crate's name stands first in its path.
            if door.krate != "process" && !mention.is_root {
                continue;
            }
            if door.modules.is_empty() {
                say(mention.at, format!("{} is for {allowed}", door.krate));
            } else if mention.is_renamed {
                say(mention.at, format!("{} is renamed, which hides what is used of it", door.krate));
            }
            for used in mention.members.iter().filter(|used| door.modules.contains(&used.as_str())) {
                say(mention.at, format!("{}::{used} is for {allowed}", door.krate));
            }
        }
    }
    found
}

/// Where `super` climbs to the crate's root, past which a path could name any floor unseen.
fn hidden_roots(path: &str, code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for mention in mentions(code, "super").iter().filter(|mention| mention.is_root) {
        if mention.members.iter().any(|member| member == "super") {
            found.push((mention.at, "super::super hides the floor: write the path from crate".to_owned()));
        }
        let is_floor_module =
            !path.contains('/') || path.split_once('/').is_some_and(|(_, file)| file == "mod.rs");
        let depth = code[..mention.at].matches('{').count().abs_diff(code[..mention.at].matches('}').count());
        if is_floor_module && depth == 0 {
            found
                .push((mention.at, "super:: is the crate's root here: write the path from crate".to_owned()));
        }
    }
    found
}

/// One place where a name stands as an identifier.
struct Mention {
    at: usize,
    /// Nothing stands before it in its path.
    is_root: bool,
    is_renamed: bool,
    /// What the path names below it: one, or several in braces.
    members: Vec<String>,
}

fn mentions(code: &str, name: &str) -> Vec<Mention> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name)
        .filter(|(at, _)| !code[..*at].ends_with(is_part) && !code[at + name.len()..].starts_with(is_part))
        .map(|(at, _)| {
            let before = code[..at].trim_end();
            let after = code[at + name.len()..].trim_start();
            Mention {
                at,
                is_root: !before
                    .strip_suffix("::")
                    .is_some_and(|before| before.trim_end().ends_with(is_part)),
                is_renamed: after.starts_with("as "),
                members: after.strip_prefix("::").map(members).unwrap_or_default(),
            }
        })
        .collect()
}

/// The first identifiers of what follows a `::`.
fn members(path: &str) -> Vec<String> {
    let first = |text: &str| {
        let text = text.trim_start();
        text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '*')).collect::<String>()
    };
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![first(path)] };
    let (mut members, mut depth, mut item) = (Vec::new(), 0, String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => members.push(first(&std::mem::take(&mut item))),
            _ => {}
        }
        if c != ',' || depth > 0 {
            let _ = write!(item, "{c}");
        }
    }
    members.push(first(&item));
    members.retain(|member| !member.is_empty());
    members
}

/// The same text, of the same length and lines, with blanks for comments, strings and characters.
fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = at + opaque(&bytes[at..]);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// The length of the comment, string or character that `rest` begins with; 0 if it begins with code.
fn opaque(rest: &[u8]) -> usize {
    let until = |from: usize, end: &[u8]| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    match rest {
        [b'/', b'/', ..] => until(2, b"\n"),
        [b'/', b'*', ..] => {
            let (mut depth, mut at) = (1, 2);
            while depth > 0 && at < rest.len() {
                match &rest[at..] {
                    [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                    [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                    _ => at += 1,
                }
            }
            at
        }
        [b'r', b'"' | b'#', ..] => {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            if rest.get(1 + hashes) != Some(&b'"') {
                return 0; // A raw identifier.
            }
            until(2 + hashes, &[b"\"".as_slice(), &b"#".repeat(hashes)].concat())
        }
        [b'"', ..] => quoted(rest, b'"'),
        // A character, not a lifetime: `'a'`, `'\n'`, or one of several bytes.
        [b'\'', b'\\', ..] | [b'\'', _, b'\'', ..] | [b'\'', 0x80..=0xff, ..] => quoted(rest, b'\''),
        _ => 0,
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}
