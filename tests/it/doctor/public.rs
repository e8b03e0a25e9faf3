//! An issuer that serves its own documents.

use crate::doctor::{FAILED, Found, USAGE};
use crate::support::ca::Ca;
use crate::support::carnet::{Carnet, Issuer};
use crate::support::database::execute;
use crate::support::process::free_ports;

/// Returns the date in `days` days, as a certificate's expiry takes it.
#[expect(clippy::disallowed_methods, reason = "the commands under test read this machine's clock, too")]
fn day(days: i64) -> (i32, u8, u8) {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
    let text = then.to_string();
    (text[..4].parse().unwrap(), text[5..7].parse().unwrap(), text[8..10].parse().unwrap())
}

fn ending_in(days: i64) -> Ca {
    let (year, month, day) = day(days);
    Ca::with_certificate_until(year, month, day)
}

fn private(ca: &str) -> [&str; 3] {
    ["--allow-private", "--ca", ca]
}

#[test]
fn a_sound_issuer_has_no_finding_except_about_the_view() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    let certificate = ca.certificate();
    let flags = private(certificate.to_str().unwrap());
    let found = Found::of(&issuer.carnet, &flags);
    assert_eq!(found.complaints(), [("view", "warning"), ("issuer-url", "warning")], "{:#?}", found.report);
    assert_eq!(
        found.ids(),
        [
            "database",
            "database-size",
            "database-integrity",
            "database-references",
            "master-key",
            "database-state",
            "row-macs",
            "audit-log",
            "grant-rows",
            "grant-expiry",
            "grant-use",
            "key-rows",
            "signing-keys",
            "rotation",
            "key-count",
            "verifiers",
            "erasure",
            "clock-high-water",
            "feed-lifetime",
            "feed-subject",
            "view",
            "issuer-url",
            "discovery",
            "issuer",
            "metadata",
            "jwks",
            "active-keys",
            "other-keys",
            "cache",
            "certificate",
            "speed",
            "clock",
            "database-files",
            "keys-folder",
            "master-key-file",
        ]
    );
    found.assert("view", "warning", "(--allow-private)");
    found.assert("view", "warning", &format!("only the certificates in {} (--ca)", certificate.display()));
    found.assert("view", "warning", "only `carnet feed check` proves");

    let strict = Found::of(&issuer.carnet, &[&flags[..], &["--strict"]].concat());
    assert_eq!(strict.status, FAILED);
    let table = issuer.carnet.ok(&[&["doctor"], &flags[..]].concat());
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines.iter().any(|line| line.starts_with("ok       discovery            https://localhost:")),
        "{table}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("warning  issuer-url           no cloud can reach")),
        "{table}"
    );
    assert!(table.contains("hint: run it without --ca and --allow-private"), "{table}");
}

#[test]
fn an_issuer_on_this_machine_is_reported_and_fetched_only_if_allowed() {
    let issuer = Issuer::http();
    let found = Found::of(&issuer.carnet, &[]);
    found.assert("issuer-url", "failed", "no cloud can reach http://127.0.0.1:");
    found.assert("view", "ok", "trusting only the public web roots");
    assert_eq!(found.complaints().len(), 1, "{:#?}", found.report);
    assert_eq!(found.get("discovery"), None);

    let found = Found::of(&issuer.carnet, &["--allow-private"]);
    assert_eq!(found.complaints(), [("view", "warning"), ("issuer-url", "warning")], "{:#?}", found.report);
    found.assert("discovery", "ok", "is served");
    // Plain HTTP has no certificate.
    assert_eq!(found.get("certificate"), None);
}

#[test]
fn an_authority_that_only_this_machine_trusts_is_not_trusted() {
    let ca = Ca::new();
    let issuer = Issuer::https(&ca);
    // Like a CA that an administrator adds to the operating system's store.
    let mut command = issuer.carnet.command(&["doctor", "--output=json", "--allow-private"]);
    command.envs(ca.environment());
    let output = crate::doctor::Output::of(&mut command, b"");
    assert_eq!(output.status, FAILED);
    assert!(output.stdout.contains("its chain does not lead to a trusted authority"), "{}", output.stdout);
    let found = Found::of(&issuer.carnet, &["--allow-private"]);
    found.assert("certificate", "failed", "trusted authority");
    found.assert("discovery", "failed", "trusted authority");
    assert_eq!(found.get("jwks"), None);
}

#[test]
fn a_certificate_that_ends_soon_warns_and_one_that_has_ended_fails() {
    for (days, status, words) in [(5, "warning", "it ends at 2"), (-5, "failed", "it has expired")] {
        let ca = ending_in(days);
        let issuer = Issuer::https(&ca);
        let certificate = ca.certificate();
        let found = Found::of(&issuer.carnet, &private(certificate.to_str().unwrap()));
        found.assert("certificate", status, words);
    }
}

#[test]
fn a_clock_that_is_off_is_found_by_the_date_of_the_answers() {
    let mut issuer = Issuer::http();
    for (offset, status) in [("+2m", "warning"), ("+1h", "failed")] {
        issuer.carnet.turn_clock(offset);
        let found = Found::of(&issuer.carnet, &["--allow-private"]);
        found.assert("clock", status, "ahead of the issuer URL's");
    }
    issuer.carnet.turn_clock("-1h");
    let found = Found::of(&issuer.carnet, &["--allow-private"]);
    found.assert("clock", "failed", "behind the issuer URL's");
    issuer.carnet.turn_clock("+0");
    execute(&issuer.carnet.database(), "UPDATE key_state SET high_water = 4000000000000");
    Found::of(&issuer.carnet, &["--allow-private"]).assert(
        "clock-high-water",
        "failed",
        "the latest time known to the database",
    );
}

#[test]
fn an_issuer_that_no_cloud_can_reach_is_reported_with_the_reason() {
    let [port] = free_ports();
    for (issuer, words) in [
        (format!("http://127.0.0.1:{port}"), "no connection"),
        ("https://carnet.invalid".to_owned(), "the name carnet.invalid cannot be resolved"),
        ("https://169.254.169.254".to_owned(), "link-local"),
    ] {
        let carnet = Carnet::new();
        crate::doctor::stop(carnet.serve(&issuer, "127.0.0.1:0", &[]).unwrap());
        Found::of(&carnet, &["--allow-private"]).assert("discovery", "failed", words);
    }
    for issuer in ["https://10.1.2.3", "https://[fd12:3456::1]", "https://100.64.0.1"] {
        let carnet = Carnet::new();
        crate::doctor::stop(carnet.serve(issuer, "127.0.0.1:0", &[]).unwrap());
        let found = Found::of(&carnet, &[]);
        found.assert("discovery", "failed", " is ");
        let hint = found.get("discovery").unwrap()["hint"].as_str().unwrap();
        assert!(hint.contains("every address of the name must be public"), "{hint}");
    }
}

#[test]
fn an_invalid_certificate_and_a_missing_database_end_the_command() {
    let issuer = Issuer::http();
    let file = issuer.carnet.home().join("junk.pem");
    std::fs::write(&file, "junk").unwrap();
    let output = issuer.carnet.run(&["doctor", "--ca", file.to_str().unwrap()]);
    assert_eq!((output.status, output.stdout.as_str()), (USAGE, ""), "{}", output.stderr);
    assert!(output.stderr.contains("junk.pem holds no certificate in PEM"), "{}", output.stderr);

    let empty = Carnet::new();
    let output = empty.run(&["doctor"]);
    assert_eq!((output.status, output.stdout.as_str()), (FAILED, ""), "{}", output.stderr);
    assert!(output.stderr.contains("there is no database"), "{}", output.stderr);
    assert!(!empty.database().exists());

    let output = issuer.carnet.run(&["doctor", "--issuer=https://other.example"]);
    assert_eq!(output.status, FAILED);
    assert!(output.stderr.contains("belongs to the issuer"), "{}", output.stderr);
}
