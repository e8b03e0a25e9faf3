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
    const EXCEPT: [&str; 6] = [
        // The time of last use is not covered.
        "note_grant_uses",
        // The sealed half authenticates itself.
        "reseal_signing_key",
        // A recovery takes the tables as they are.
        "keep_authentic_signing_keys",
        "keep_grants",
        // Its caller appends a state, unless the database has none yet.
        "renew_macs",
        // Another function writes each row again and appends a state.
        "revoke_all_grants",
    ];
    let mut found = String::new();
    let is_looked_at = |source: &Source| source.path.starts_with("store/") && !source.path.contains("tests");
    for Source { path, text } in crate::sources().into_iter().filter(is_looked_at) {
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
