//! Feeds that cannot work, or may fail for some contexts.

use std::time::Duration;

use super::{Finding, count, listed};
use crate::feed::Feed;

const LIFETIME: &str = "feed-lifetime";
const SUBJECT: &str = "feed-subject";

/// The counts of feeds, and the feeds that a finding names.
#[derive(Debug, Default)]
pub struct Seen {
    /// The number of all feeds.
    pub feeds: usize,
    /// The feeds whose token lifetime exceeds the policy's maximum.
    pub beyond_lifetime: Vec<Feed>,
    /// The number of feeds whose provider limits the length of subjects.
    pub limited: usize,
    /// Those of the limited feeds that [`can_exceed`] the limit.
    pub too_long: Vec<Feed>,
}

/// Judges the feeds under a policy with this maximum token lifetime.
#[must_use]
pub fn check(seen: &Seen, max_token_lifetime: Duration) -> Vec<Finding> {
    vec![check_lifetimes(seen, max_token_lifetime), check_subjects(seen)]
}

/// Returns true if some context gives a subject that is longer than the provider accepts.
#[must_use]
pub fn can_exceed(feed: &Feed) -> bool {
    feed.provider.subject_limit().is_some_and(|limit| longest_subject(feed) > limit)
}

fn longest_subject(feed: &Feed) -> usize {
    feed.subject_keys.longest(&feed.identity())
}

fn check_lifetimes(seen: &Seen, longest: Duration) -> Finding {
    let exceeding: Vec<String> = seen
        .beyond_lifetime
        .iter()
        .map(|feed| format!("{} uses {} s", feed.path(), feed.token_lifetime.as_secs()))
        .collect();
    let policy = format!("max-token-lifetime of {} s", longest.as_secs());
    if exceeding.is_empty() {
        return Finding::ok(LIFETIME, format!("{} within the policy's {policy}", count(seen.feeds, "feed")));
    }
    Finding::failed(LIFETIME, format!("{} beyond the policy's {policy}", count(exceeding.len(), "feed")))
        .detail(format!("{}. No token is minted for them.", listed(&exceeding)))
        .hint("`carnet feed update SPACE/FEED --token-lifetime …`, or `carnet key policy --max-token-lifetime …`")
}

fn check_subjects(seen: &Seen) -> Finding {
    let exceeding: Vec<String> = seen
        .too_long
        .iter()
        .filter_map(|feed| {
            let (path, limit) = (feed.path(), feed.provider.subject_limit()?);
            Some(format!("{path}: up to {} bytes, and the maximum is {limit}", longest_subject(feed)))
        })
        .collect();
    if exceeding.is_empty() {
        return Finding::ok(
            SUBJECT,
            format!("no subject of {} can be too long", count(seen.limited, "Google feed")),
        );
    }
    Finding::warning(SUBJECT, format!("{} could get a subject that Google refuses", count(exceeding.len(), "feed")))
        .detail(format!(
            "{}. Counted with values of 50 characters in every key of the context; a mint that exceeds the limit is \
             refused, shorter ones work.",
            listed(&exceeding)
        ))
        .hint("choose fewer --subject-keys (then set up the trust again), or keep the slugs in the context short")
}
