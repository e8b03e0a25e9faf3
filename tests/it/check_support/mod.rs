//! Snapshots of what `feed check` prints: what varies from run to run is replaced by fixed words.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which clippy does not see as such")]

pub(crate) mod said;
mod table;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{in_package, snapshots};

/// The failures at SeaweedFS, which are tried where that is installed: `tests/peers/check_sts.rs`.
pub(crate) const AT_SEAWEEDFS: [&str; 4] =
    ["seaweedfs-subject", "seaweedfs-audience", "seaweedfs-other-key", "seaweedfs-expired"];

/// The cases whose table is a snapshot beside their JSON: one for each provider and each kind of failure.
pub(crate) const TABLES: [&str; 12] = [
    // A document that is wrong, and a token that cannot be minted.
    "discovery-not-found",
    "mint-needs-context",
    // A trust or a role that refuses, at each cloud.
    "aws-sts-other-subject",
    "azure-acr-no-role",
    "google-sts-issuer-unreachable",
    // A code in no table, a success that cannot be used, a failure that passes.
    "azure-entra-new-code",
    "aws-ecr-malformed",
    "aws-ecr-public-throttled",
    "google-account-unavailable",
    // No response: no connection, and too late.
    "network-tls-unknown-ca",
    "slow-registry",
    // An image that cannot be pulled.
    "pull-denied",
];

const FOLDER: &str = "tests/it/feed_check/snapshots";

/// The beginning of a JWKS, whose keys and their order vary.
const JWKS: &str = "{\"keys\":[{";

/// Identifiers that are part of the cases and do not vary.
const FIXED: [&str; 3] = [
    "8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
    "0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e",
    "11111111-2222-4333-8444-555555555555",
];

/// Compares a check's JSON with the snapshot of the case, and its table with the JSON. Cases in [`TABLES`] have a
/// snapshot of the table as well.
pub(crate) fn compare(name: &str, stdout: &str, response: &Value) {
    let (table, json) = (of_table(stdout), of_json(response));
    table::assert_shows(&table, &serde_json::from_str(&json).unwrap());
    if TABLES.contains(&name) {
        compare_text(&format!("{name}.txt"), &table);
    }
    compare_text(&format!("{name}.json"), &json);
}

/// Compares `text` with a snapshot among those of the cases.
pub(crate) fn compare_text(name: &str, text: &str) {
    snapshots::compare(FOLDER, name, text);
}

/// The files of the snapshots.
pub(crate) fn kept() -> BTreeSet<String> {
    let entries = std::fs::read_dir(in_package(FOLDER)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The table and the explanation under it.
fn of_table(stdout: &str) -> String {
    let mut text = String::new();
    for line in stdout.lines().filter(|line| !is_about_time(line)) {
        let line = match line.split_once(JWKS) {
            Some((before, _)) => format!("{before}JWKS"),
            None => steady(line),
        };
        // The width of the time column depends on the times.
        let line = match (line.split_once("TIME ms"), line.split_once("FOUND")) {
            (Some((before, after)), _) => format!("{before}TIME ms  {}", after.trim_start()),
            (None, Some((before, ""))) => format!("{}  FOUND", before.trim_end()),
            _ => line,
        };
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The JSON.
fn of_json(response: &Value) -> String {
    let mut response = response.clone();
    response["warnings"].as_array_mut().unwrap().retain(|warning| !is_about_time(warning.as_str().unwrap()));
    for step in response["steps"].as_array_mut().unwrap() {
        step["duration_ms"] = "TIME".into();
        if let Some(message) = step.pointer_mut("/upstream/message")
            && message.as_str().is_some_and(|message| message.starts_with(JWKS))
        {
            *message = "JWKS".into();
        }
    }
    steady(&serde_json::to_string_pretty(&response).unwrap()) + "\n"
}

/// Returns whether the line is the warning about a slow issuer, which depends on the machine.
fn is_about_time(line: &str) -> bool {
    line.contains("the issuer's two documents took")
}

/// Returns `text` with fixed words for ports, times, durations, key ids and other identifiers.
pub(crate) fn steady(text: &str) -> String {
    let text = words(&times(text), |word| match word.len() {
        36 if is_uuid(word) && !FIXED.contains(&word) => Some("ID"),
        // A request id of SeaweedFS.
        24 if word.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)) => Some("ID"),
        // A thumbprint.
        43 if word.bytes().any(|byte| byte.is_ascii_uppercase()) => Some("KID"),
        _ => None,
    });
    let text = ["127.0.0.1:", "127.0.0.2:", "127.0.0.3:", "localhost:"]
        .iter()
        .fold(text, |text, host| after(&text, host, "PORT"));
    // The resolver's reason depends on the machine.
    let text = ["Name or service not known", "Temporary failure in name resolution"]
        .iter()
        .fold(text, |text, reason| text.replace(reason, "REASON"));
    durations(&after(&authority_file(&text), "has port ", "PORT"))
}

/// Replaces the path of the CA file, which is in the test's own folder.
fn authority_file(text: &str) -> String {
    const OPTION: &str = "--ca-file ";
    let mut parts = text.split(OPTION);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest =
            part.split_once("/ca.crt").filter(|(path, _)| path.starts_with('/') && !path.contains(' '));
        result += OPTION;
        result += &rest.map_or_else(|| part.to_owned(), |(_, rest)| format!("/CA{rest}"));
    }
    result
}

/// Replaces whole words of letters, digits, `-` and `_`.
fn words(text: &str, replacement: impl Fn(&str) -> Option<&'static str>) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut result = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let between = rest[word..].find(is_part).unwrap_or(rest.len() - word);
        result += replacement(&rest[..word]).unwrap_or(&rest[..word]);
        result += &rest[word..word + between];
        rest = &rest[word + between..];
    }
    result
}

fn is_uuid(word: &str) -> bool {
    word.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// Replaces the digits after each `before`.
fn after(text: &str, before: &str, word: &str) -> String {
    let mut parts = text.split(before);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        result += before;
        result += if digits > 0 { word } else { "" };
        result += &part[digits..];
    }
    result
}

/// Replaces `2026-03-01T12:00:00.5Z`, with a space for the `T` as well.
fn times(text: &str) -> String {
    const FORM: &[u8] = b"0000-00-00_00:00:00";
    let mut result = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let is_time = rest.len() > FORM.len()
            && rest.bytes().zip(FORM).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                b'_' => matches!(byte, b'T' | b' '),
                form => byte == *form,
            });
        if is_time {
            result += "TIME";
            rest = rest[FORM.len()..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            rest = rest.strip_prefix('Z').unwrap_or(rest);
        } else {
            result.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    result
}

/// Replaces `41 ms`.
fn durations(text: &str) -> String {
    let mut parts = text.split(" ms").peekable();
    let mut result = String::new();
    while let Some(part) = parts.next() {
        let before = part.trim_end_matches(|c: char| c.is_ascii_digit());
        result += if parts.peek().is_some() && before != part { before } else { part };
        if parts.peek().is_some() {
            result += if before == part { " ms" } else { "TIME ms" };
        }
    }
    result
}

#[test]
fn variable_values_are_replaced_and_those_of_the_case_are_kept() {
    let kid = "rDoGyKrrQmhdoYl542lOWmvb8jGVD7yTcYBOTS3vnOY";
    for (text, expected) in [
        ("http://127.0.0.1:4242/x and localhost:1.", "http://127.0.0.1:PORT/x and localhost:PORT."),
        ("at 2026-11-23T05:05:41.25Z, 2026-11-23 05:05:41Z", "at TIME, TIME"),
        ("a519ea03-08f6-4a50-9094-a807ec84a0bd!", "ID!"),
        (FIXED[0], FIXED[0]),
        (&format!("key {kid} is one of"), "key KID is one of"),
        ("ok  41 ms  x, no ms", "ok  TIME ms  x, no ms"),
    ] {
        assert_eq!(steady(text), expected);
    }
}
