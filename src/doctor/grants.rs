//! Grants that expire soon, that are unused, or that carnet did not write.

use jiff::{SignedDuration, Timestamp};

use super::{Finding, count, listed};
use crate::grant::{Grant, GrantState};
use crate::store::grants::GrantRow;

const ROWS: &str = "grant-rows";
const EXPIRY: &str = "grant-expiry";
const USE: &str = "grant-use";

/// The warning time before an expiry: a grant's user needs time to get a new one.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A grant that is this old and was never used is probably forgotten.
const NEVER_USED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A grant that was not used for this long is probably forgotten, too.
const UNUSED_FOR: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Judges all grants at `now`.
#[must_use]
pub fn check(rows: &[GrantRow], now: Timestamp) -> Vec<Finding> {
    let mut forged = Vec::new();
    let mut valid = Vec::new();
    for row in rows {
        match row {
            GrantRow::Forged { id } => forged.push(id.escape_debug().to_string()),
            GrantRow::Authentic(stored) if stored.grant.state(now) == GrantState::Valid => {
                valid.push(&stored.grant)
            }
            GrantRow::Authentic(_) => {}
        }
    }
    vec![check_rows(rows.len(), &forged), check_expiry(&valid, now), check_use(&valid, now)]
}

fn check_rows(all: usize, forged: &[String]) -> Finding {
    if forged.is_empty() {
        return Finding::ok(ROWS, format!("the MAC of {} is correct", count(all, "grant")));
    }
    Finding::failed(ROWS, format!("carnet did not write {}", count(forged.len(), "row")))
        .detail(format!("{}. carnet does not honour them, but something other than carnet can write to the database.", listed(forged)))
        .hint(
            "find out who wrote to the database and revoke their write access; keep a copy as it is, then delete these \
             rows of `grants`",
        )
}

fn check_expiry(valid: &[&Grant], now: Timestamp) -> Finding {
    let soon = |grant: &&&Grant| grant.expires_at.is_some_and(|end| end.duration_since(now) <= SOON);
    let ending: Vec<String> = valid
        .iter()
        .filter(soon)
        .filter_map(|grant| Some(format!("{} ({}) ends at {}", grant.name, grant.id, grant.expires_at?)))
        .collect();
    if ending.is_empty() {
        return Finding::ok(
            EXPIRY,
            format!("none of {} ends within 14 days", count(valid.len(), "valid grant")),
        );
    }
    Finding::warning(EXPIRY, format!("{} about to end, within 14 days", count(ending.len(), "grant")))
        .detail(format!("{}. Requests with them get 401 from then on.", listed(&ending)))
        .hint("`carnet grant create` makes a new one; give its token to the users of the old one")
}

fn check_use(valid: &[&Grant], now: Timestamp) -> Finding {
    let idle: Vec<String> = valid
        .iter()
        .filter_map(|grant| match grant.last_used_at {
            None if now.duration_since(grant.created_at) > NEVER_USED_FOR => {
                Some(format!("{} ({}) was never used since {}", grant.name, grant.id, grant.created_at))
            }
            Some(used) if now.duration_since(used) > UNUSED_FOR => {
                Some(format!("{} ({}) was last used at {used}", grant.name, grant.id))
            }
            _ => None,
        })
        .collect();
    if idle.is_empty() {
        return Finding::ok(USE, "every valid grant is in use");
    }
    Finding::warning(USE, format!("{} not in use", count(idle.len(), "valid grant")))
        .detail(format!("{}. The theft of an unused token is not noticed.", listed(&idle)))
        .hint("`carnet grant revoke ID`, if it is not needed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;
    use crate::grant::Permissions;

    const DAY: i64 = 24;

    fn now() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn days(days: i64) -> Timestamp {
        now() + SignedDuration::from_hours(DAY * days)
    }

    fn grant(created: i64, used: Option<i64>, expires: Option<i64>) -> Grant {
        Grant {
            id: uuid::Uuid::from_u128(1),
            name: "CI".parse().unwrap(),
            permissions: Permissions::unlimited_admin(),
            created_at: days(created),
            created_by: "local:tester".to_owned(),
            expires_at: expires.map(days),
            revoked_at: None,
            last_used_at: used.map(days),
        }
    }

    #[test]
    fn a_row_that_carnet_did_not_write_leads_to_who_wrote_it() {
        let findings = check(&[GrantRow::Forged { id: "forged".to_owned() }], now());
        let hint = findings[0].hint.as_deref().unwrap();
        assert!(findings[0].status == Status::Failed && hint.contains("revoke their write access"), "{hint}");
    }

    #[test]
    fn a_grant_that_ends_within_two_weeks_is_reported() {
        for (expires, expected) in [
            (None, Status::Ok),
            (Some(15), Status::Ok),
            (Some(14), Status::Warning),
            (Some(1), Status::Warning),
        ] {
            let grant = grant(-1, None, expires);
            assert_eq!(check_expiry(&[&grant], now()).status, expected, "{expires:?}");
        }
    }

    #[test]
    fn an_unused_grant_is_reported_after_a_while() {
        for (created, used, expected) in [
            (-30, None, Status::Ok),
            (-31, None, Status::Warning),
            (-365, Some(-90), Status::Ok),
            (-365, Some(-91), Status::Warning),
        ] {
            let grant = grant(created, used, None);
            assert_eq!(check_use(&[&grant], now()).status, expected, "{created} {used:?}");
        }
    }
}
