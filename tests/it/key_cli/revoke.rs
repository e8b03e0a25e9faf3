//! `key revoke`: its warning, its effect and its report, for a key in every state.

use crate::key_cli::{USAGE, assert_noted, assert_refused, founded, rows};
use crate::support::keys::{assert_invariants, kids, list, list_all, the};

#[test]
fn revoking_the_active_key_lets_the_prepared_one_take_over() {
    let mut carnet = founded("-2d");
    carnet.turn_clock("+0");
    let before = list(&carnet);
    let (active, prepared) = (the(&before, "RS256", "active"), the(&before, "RS256", "prepared"));
    let refused = carnet.run(&["key", "revoke", active]);
    assert_refused(
        &refused,
        USAGE,
        &[
            &format!("{active} signs RS256 tokens and was published 2 days ago"),
            "every token that it has signed stops verifying",
            "accept it for up to 300 s more",
            "Most fetch again only for a kid that they do not know",
            &format!("{prepared} takes over; verifiers know it already"),
            "this needs a confirmation",
            "hint: --yes",
        ],
    );
    assert_eq!(list(&carnet), before);

    let output = carnet.run(&["key", "revoke", active, "--yes"]);
    assert_noted(
        &output,
        &[
            &format!("{active} signs RS256 tokens"),
            &format!("RS256: {active} is out of the JWKS and destroyed. {prepared} signs from now on."),
            "No revocation undoes what was already issued",
            "aws iam delete-open-id-connect-provider",
            "az ad app federated-credential delete",
            "gcloud iam workload-identity-pools providers update-oidc",
        ],
    );
    let after = list(&carnet);
    assert_invariants(&after);
    assert_eq!((the(&after, "RS256", "revoked"), the(&after, "RS256", "active")), (active, prepared));
    assert!(!kids(&before).contains(the(&after, "RS256", "prepared")));
    for state in ["active", "prepared"] {
        assert_eq!(the(&after, "ES256", state), the(&before, "ES256", state));
    }

    let again = carnet.run(&["key", "revoke", active]);
    assert_noted(&again, &[&format!("Nothing to do: {active} is revoked already.")]);
    assert_eq!(list(&carnet), after);

    // The next key is young: the warning names the affected verifiers and the time.
    let young = the(&after, "RS256", "prepared");
    let refused = carnet.run(&["key", "revoke", prepared]);
    assert_refused(
        &refused,
        USAGE,
        &[
            &format!("{young} takes over. It has been published since "),
            "refuses new RS256 tokens until it fetches again, at the latest in 24 hours",
        ],
    );
}

#[test]
fn revoking_a_prepared_key_prepares_another_that_waits_anew() {
    let mut carnet = founded("-2d");
    carnet.turn_clock("+0");
    let before = list(&carnet);
    let prepared = the(&before, "ES256", "prepared");
    let output = carnet.run(&["key", "revoke", prepared, "--yes"]);
    assert_noted(
        &output,
        &[
            &format!("{prepared} is the prepared ES256 key, published 2 days ago; it has signed nothing"),
            "the new one waits its 86400 s",
            "another key is prepared in its place",
        ],
    );
    let after = list(&carnet);
    assert_invariants(&after);
    assert_eq!(the(&after, "ES256", "revoked"), prepared);
    assert_eq!(the(&after, "ES256", "active"), the(&before, "ES256", "active"));
    let table = carnet.ok(&["key", "list"]);
    let successor = the(&after, "ES256", "prepared");
    let row = rows(&table).into_iter().find(|row| row[0] == successor).unwrap();
    assert_eq!(row[4], "may sign in 24 hours");
    assert_refused(&carnet.run(&["key", "rotate", "--alg=ES256"]), 1, &[successor]);
}

#[test]
fn a_revoked_retired_key_leaves_the_jwks_and_a_gone_one_needs_nothing() {
    let mut carnet = founded("-3h");
    let first = the(&list(&carnet), "RS256", "active").to_owned();
    carnet.ok(&["key", "rotate", "--alg=RS256", "--force", "--yes"]);
    carnet.turn_clock("+0");
    let second = the(&list(&carnet), "RS256", "active").to_owned();
    carnet.ok(&["key", "rotate", "--alg=RS256", "--force", "--yes"]);
    let before = list_all(&carnet);
    let unknown = "A".repeat(43);

    let pruned = carnet.run(&["key", "revoke", &first, "--yes"]);
    assert_noted(&pruned, &[&format!("Nothing to do: {first} is pruned already.")]);
    let refused = carnet.run(&["key", "revoke", &unknown, "--yes"]);
    assert_refused(&refused, 1, &[&format!("this issuer has no signing key {unknown}")]);
    assert_refused(&carnet.run(&["key", "revoke", "no-kid", "--yes"]), USAGE, &["KID"]);
    assert_refused(&carnet.run(&["key", "revoke"]), USAGE, &["--all"]);
    assert_refused(&carnet.run(&["key", "revoke", &second, "--all", "--yes"]), USAGE, &["--all"]);
    assert_eq!(list_all(&carnet), before);

    let output = carnet.run(&["key", "revoke", &second, "--yes"]);
    assert_noted(
        &output,
        &[
            &format!("{second} no longer signs; its last tokens would verify until "),
            &format!("RS256: {second} is out of the JWKS."),
        ],
    );
    let after = list(&carnet);
    assert_eq!(the(&after, "RS256", "revoked"), second);
    for state in ["active", "prepared"] {
        assert_eq!(the(&after, "RS256", state), the(&before, "RS256", state));
    }
}

#[test]
fn revoking_everything_replaces_active_and_prepared_keys_and_takes_the_retired_away() {
    let carnet = founded("+0");
    carnet.ok(&["key", "rotate", "--alg=RS256", "--force", "--yes"]);
    let before = list(&carnet);
    assert_refused(
        &carnet.run(&["key", "revoke", "--all"]),
        USAGE,
        &[
            "All 5 published keys leave the JWKS at once",
            "keys that no verifier has seen",
            "do so in 86400 s at the latest",
            "hint: --yes",
        ],
    );
    assert_eq!(list(&carnet), before);
    let output = carnet.run(&["key", "revoke", "--all", "--yes"]);
    assert_noted(
        &output,
        &[
            "RS256: 3 keys are out of the JWKS and destroyed; new ones are in their place.",
            "ES256: 2 keys are out of the JWKS",
            "No revocation undoes what was already issued",
        ],
    );
    let after = list(&carnet);
    assert_invariants(&after);
    let (revoked, fresh): (Vec<_>, Vec<_>) = after.iter().partition(|key| key["state"] == "revoked");
    assert_eq!(kids(revoked), kids(&before));
    assert_eq!(fresh.len(), 4);
}

#[test]
fn a_kid_that_begins_with_a_hyphen_is_a_kid() {
    let carnet = founded("+0");
    for start in ["-Z", "-h", "-V", "--", "--all", "--yes", "--help", "-_"] {
        let kid = format!("{start:A<43}");
        let printed = format!("this issuer has no signing key {kid}");
        assert_refused(&carnet.run(&["key", "revoke", &kid, "--yes"]), 1, &[&printed]);
        assert_refused(&carnet.run(&["key", "revoke", "--yes", &kid]), 1, &[&printed]);
    }
    assert_refused(&carnet.run(&["key", "revoke", "--al"]), USAGE, &["KID"]);
    assert_eq!(carnet.run(&["key", "revoke", "--help"]).status, 0);
    assert_eq!(carnet.run(&["key", "revoke", "-h"]).status, 0);
}
