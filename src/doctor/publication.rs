//! The published copies that keys wait for: their content, and changes by somebody else.

use jiff::{SignedDuration, Timestamp};

use super::{Finding, count, listed};
use crate::jose::jwk::Kid;
use crate::signing_keys::publication::{KeyLocation, is_current, still_shown};
use crate::signing_keys::{SigningKey, published};
use crate::store::publications::PublicationTarget;

const PUBLICATIONS: &str = "publications";
const ALTERED: &str = "publication-altered";

/// The time for which an altered copy is reported. The writer may have used the content for longer, but it is
/// no longer news.
const RECENT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Judges the copies at `now`. Returns no finding if there are no copies.
#[must_use]
pub fn check(
    keys: &[SigningKey],
    locations: &[KeyLocation],
    targets: &[PublicationTarget],
    now: Timestamp,
) -> Vec<Finding> {
    if targets.is_empty() {
        return Vec::new();
    }
    vec![check_state(keys, locations, targets, now), check_altered(targets, now)]
}

fn check_state(
    keys: &[SigningKey],
    locations: &[KeyLocation],
    targets: &[PublicationTarget],
    now: Timestamp,
) -> Finding {
    let hint = "make sure that a server runs with --publish for each of them and can write there; `carnet \
                publish TARGET` writes one now, and with --forget no key waits for it any more";
    let copies: Vec<&KeyLocation> = locations.iter().filter(|location| location.is_copy()).collect();
    let revoked: Vec<String> = copies
        .iter()
        .flat_map(|location| {
            still_shown(keys, location).into_iter().map(|kid| format!("{kid} at {}", location.name))
        })
        .collect();
    if !revoked.is_empty() {
        return Finding::failed(
            PUBLICATIONS,
            format!("{} still published", count(revoked.len(), "revoked key")),
        )
        .detail(format!("{}. Verifiers that read there accept the key.", listed(&revoked)))
        .hint(hint);
    }
    let kids: Vec<Kid> = published(keys, now).into_iter().map(SigningKey::kid).collect();
    let behind: Vec<String> = copies
        .iter()
        .filter(|location| !is_current(&kids, location))
        .map(|location| {
            let failure = targets
                .iter()
                .find(|target| target.target.to_string() == location.name)
                .and_then(|target| target.failure.as_ref());
            match failure {
                Some(failure) => format!("{}: {} (at {})", location.name, failure.error, failure.failed_at),
                None => location.name.clone(),
            }
        })
        .collect();
    if !behind.is_empty() {
        return Finding::failed(PUBLICATIONS, format!("{} out of date", count(behind.len(), "target")))
            .detail(format!("{}. The rotation waits for it.", listed(&behind)))
            .hint(hint);
    }
    Finding::ok(
        PUBLICATIONS,
        format!("{} up to date when carnet last wrote there", count(targets.len(), "target")),
    )
}

fn check_altered(targets: &[PublicationTarget], now: Timestamp) -> Finding {
    let altered: Vec<String> = targets
        .iter()
        .filter_map(|target| {
            let at = target.altered_at.filter(|at| now.duration_since(*at) < RECENT)?;
            Some(format!("{} (found at {at})", target.target))
        })
        .collect();
    if altered.is_empty() {
        return Finding::ok(ALTERED, "no write by anything other than carnet was found in 30 days");
    }
    let changed = count(altered.len(), "target");
    Finding::warning(ALTERED, format!("something other than carnet has changed {changed}"))
        .detail(format!(
            "{}. carnet has overwritten the change; anyone with write access there can publish keys as this issuer.",
            listed(&altered)
        ))
        .hint("find out who wrote there and revoke their write access; `carnet audit list --kind publication.altered` has the times")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::doctor::Status;
    use crate::jose::jwk::PublicKey;
    use crate::signing_keys::Stage;
    use crate::store::publications::PublicationFailures;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + day * 24 * 3600).unwrap()
    }

    fn target(failure: Option<PublicationFailures>, altered_at: Option<Timestamp>) -> PublicationTarget {
        PublicationTarget {
            target: "s3://bucket".parse().unwrap(),
            registered_at: at(0),
            generation: None,
            shown_at: None,
            altered_at,
            failure,
        }
    }

    fn location(shown: &[&SigningKey]) -> KeyLocation {
        let shows: BTreeMap<_, _> = shown.iter().map(|key| (key.kid(), at(0))).collect();
        KeyLocation { name: "s3://bucket".to_owned(), feed: None, algorithm: None, shows }
    }

    #[test]
    fn an_issuer_without_copies_has_no_finding_about_them() {
        assert_eq!(check(&[], &[], &[], at(0)), []);
    }

    #[test]
    fn a_copy_is_judged_by_its_keys_and_its_writer() {
        let key = SigningKey::prepared(PublicKey::P256 { x: [1; 32], y: [2; 32] }, at(0));
        let mut revoked = SigningKey::prepared(PublicKey::P256 { x: [3; 32], y: [4; 32] }, at(0));
        revoked.stage = Stage::Revoked { activated_at: None, revoked_at: at(1) };
        let keys = [key.clone(), revoked.clone()];
        let failure = || {
            let error = "no route to host".to_owned();
            Some(PublicationFailures { count: 3, failed_at: at(1), error })
        };
        for (shown, failure, altered, expected, words) in [
            (vec![&key], None, None, [Status::Ok, Status::Ok], "up to date"),
            (vec![], failure(), None, [Status::Failed, Status::Ok], "no route to host"),
            (vec![], None, None, [Status::Failed, Status::Ok], "s3://bucket"),
            (vec![&key, &revoked], None, None, [Status::Failed, Status::Ok], "accept the key"),
            (vec![&key], None, Some(at(1)), [Status::Ok, Status::Warning], "anyone with write access there"),
            (vec![&key], None, Some(at(-40)), [Status::Ok, Status::Ok], "up to date"),
        ] {
            let findings = check(&keys, &[location(&shown)], &[target(failure, altered)], at(2));
            let statuses: Vec<_> = findings.iter().map(|finding| finding.status).collect();
            assert_eq!(statuses, expected, "{findings:?}");
            assert!(format!("{findings:?}").contains(words), "{words}: {findings:?}");
        }
    }
}
