//! Statements that change rows covered by a state.

use std::fmt::Write as _;

use crate::source::Source;

/// A statement that changes such a row must append a state. Otherwise carnet would take its own change for a
/// forgery.
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
    /// Functions that need not append a state.
    const EXCEPT: [&str; 5] = [
        // The time of last use is not covered.
        "note_grant_uses",
        // The sealed half authenticates itself.
        "reseal_signing_key",
        // The commit of a recovery refuses every row that it did not write or keep.
        "keep_grants",
        // Its caller appends a state, unless the database has none yet.
        "renew_macs",
        // Another function writes each row again and appends a state.
        "revoke_all_grants",
    ];
    let mut found = String::new();
    let is_checked = |source: &Source| source.path.starts_with("store/") && !source.path.contains("tests");
    for Source { path, text } in crate::sources().into_iter().filter(is_checked) {
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

/// A statement that succeeds need not have done anything. So each one that changes rows states the number of
/// rows that it must affect, or is listed here with the reason why that number is not known in advance.
#[test]
fn every_statement_that_changes_rows_checks_the_number_of_rows_that_it_affects() {
    /// Functions that may count the rows instead.
    const UNCOUNTED: [(&str, &str); 27] = [
        ("count_affected", "the implementation"),
        ("affects", "the comparison"),
        ("note_grant_uses", "a later use may be recorded already, and the grant be gone"),
        ("note_rotation", "there may be no failure to clear"),
        ("raise_times", "without effect after the times were set back"),
        ("finish_erasure", "more may have been destroyed meanwhile; the number is the result"),
        ("insert_key_state", "the row may exist"),
        ("insert_feed", "the space may exist"),
        ("remove_feed", "no row if the feed is gone; the number is counted"),
        ("insert_state", "there may be no state that is old enough to be deleted"),
        ("accept_time", "the high-water time may be later"),
        ("set_time_back", "as many times as are later"),
        ("prune_audit", "as many ended epochs as are older"),
        ("forget_removed_subject_keys", "as many marks of a feed as it has more than one"),
        ("forget_confirmed_keys", "as many as the feed has; read without an index"),
        ("register_target", "the number is the result"),
        ("forget_target", "the number is the result"),
        ("note_publication_failed", "without effect if the target is not registered"),
        ("note_publication_works", "there may be no failure to clear"),
        ("add_jwks_fetches", "as many as there are too many"),
        ("note_server_master_keys", "as many as the server had, and those of stopped ones"),
        ("claim_nudge", "the number is the result"),
        ("with_claim", "without effect if another process has claimed it"),
        ("use_write_ahead_log", "changes no row"),
        ("parse_again", "changes no row"),
        ("hide_audit", "a test"),
        ("show_audit", "a test"),
    ];
    let mut found = String::new();
    let mut used = std::collections::BTreeSet::new();
    let is_checked = |source: &Source| source.path.starts_with("store/") && !source.path.contains("tests");
    for Source { path, text } in crate::sources().into_iter().filter(is_checked) {
        let text = text.split("mod tests {").next().unwrap_or_default();
        for call in [".execute(", ".count_affected("] {
            for (position, _) in text.match_indices(call) {
                let start = text[..position].rfind("fn ").unwrap_or_default();
                let name = text[start + 3..].split(['(', '<']).next().unwrap_or_default();
                let is_listed = UNCOUNTED.iter().any(|(function, _)| *function == name);
                let is_bare = call == ".execute("
                    && !["count_affected", "use_write_ahead_log", "parse_again", "hide_audit", "show_audit"]
                        .contains(&name);
                if is_listed && !is_bare {
                    used.insert(name.to_owned());
                } else {
                    let _ = writeln!(found, "{path}: {name} calls {call}…)");
                }
            }
        }
    }
    assert!(found.is_empty(), "use `affects` or `affects_one`:\n{found}");
    for (function, reason) in UNCOUNTED {
        assert!(!reason.is_empty() && used.contains(function), "{function} is listed without need");
    }
}
