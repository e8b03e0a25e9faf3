//! `feed check` and the API's `…/check` and `…/setup`: for every failure that can be produced here, the
//! failed step, the cloud's own words and the first cause; and the proof that its fix works.

mod aws;
mod azure;
mod cases;
mod cloud_calls;
mod clouds;
mod documents;
mod fixes;
mod gate;
mod google;
mod logins;
mod network;
mod progress;
mod records;
mod registry;
mod routes;
mod slow;
mod world;

use std::collections::BTreeSet;

use cases::{Case, Fix};

use crate::check_support::{AT_SEAWEEDFS, TABLES};

/// Every failure that a table has.
const ALL: &[&[Case]] = &[
    documents::DOCUMENTS,
    documents::MINT,
    documents::MINT_AT_GOOGLE,
    aws::AT_STS,
    aws::AT_ECR,
    aws::AT_ECR_PUBLIC,
    azure::AT_ENTRA,
    azure::AT_ACR,
    google::AT_STS,
    google::AT_ACCOUNT,
    network::NETWORK,
    network::AT_GOOGLE,
    logins::LOGIN,
    logins::AT_PULL,
    slow::SLOW,
];

/// The list of all failures, beside their snapshots.
const LIST: &str = "FIXES";

#[test]
fn every_snapshot_is_of_a_failure_that_is_shown() {
    let shown = ALL.iter().flat_map(|cases| *cases).map(|case| case.name);
    let names: Vec<&str> = shown.chain(AT_SEAWEEDFS).chain(records::SHOWN.iter().copied()).collect();
    let mut expected: BTreeSet<String> = names.iter().map(|name| format!("{name}.json.snap")).collect();
    assert_eq!(expected.len(), names.len(), "a name is given twice");
    for name in TABLES {
        assert!(names.contains(&name), "{name} is not a failure that is shown");
        expected.insert(format!("{name}.txt.snap"));
    }
    expected.insert(format!("{LIST}.snap"));
    assert_eq!(crate::check_support::kept(), expected);
}

#[test]
fn every_fix_that_is_not_carried_out_has_a_reason() {
    let cases = || ALL.iter().flat_map(|cases| *cases);
    let count = |is: fn(&Fix) -> bool| cases().filter(|case| is(&case.fix)).count();
    let commands = count(|fix| matches!(fix, Fix::Run(_) | Fix::Lifts(_) | Fix::Wait));
    let lifts = count(|fix| matches!(fix, Fix::Lifts(_)));
    let ended = count(|fix| matches!(fix, Fix::Ends(_)));
    let acts = count(|fix| matches!(fix, Fix::Way(_) | Fix::Hand(..)));
    let not = count(|fix| matches!(fix, Fix::Not(_)));
    let mut list = format!(
        "{} failures. The fix is a command for {commands}, and was executed; for {lifts} of them the fault ended because \
         of what is named.\nIt is one for {ended} more, where the test ended the fault with it. It is an act for {acts}, \
         and was done by the test.\nIt was not executed for {not}.\n\n",
        cases().count()
    );
    for case in cases() {
        list += &(case.in_one_line() + "\n");
    }
    crate::check_support::compare_text(LIST, &list);
}
