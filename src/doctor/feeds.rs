//! Feeds that cannot work, or may not in every context.

use std::time::Duration;

use super::{Finding, count, listed};
use crate::feed::Feed;

const LIFETIME: &str = "feed-lifetime";
const SUBJECT: &str = "feed-subject";

/// What is to be said of all feeds under a policy with this longest token lifetime.
#[must_use]
pub fn check(feeds: &[Feed], max_token_lifetime: Duration) -> Vec<Finding> {
    vec![check_lifetimes(feeds, max_token_lifetime), check_subjects(feeds)]
}

fn check_lifetimes(feeds: &[Feed], longest: Duration) -> Finding {
    let exceeding: Vec<String> = feeds
        .iter()
        .filter(|feed| feed.token_lifetime > longest)
        .map(|feed| format!("{} asks for {} s", feed.path(), feed.token_lifetime.as_secs()))
        .collect();
    let policy = format!("max-token-lifetime of {} s", longest.as_secs());
    if exceeding.is_empty() {
        return Finding::ok(LIFETIME, format!("{} within the policy's {policy}", count(feeds.len(), "feed")));
    }
    Finding::failed(LIFETIME, format!("{} beyond the policy's {policy}", count(exceeding.len(), "feed")))
        .detail(format!("{}. No token is minted for them.", listed(&exceeding)))
        .hint("`carnet feed update SPACE/FEED --token-lifetime …`, or `carnet key policy --max-token-lifetime …`")
}

fn check_subjects(feeds: &[Feed]) -> Finding {
    let limited: Vec<_> =
        feeds.iter().filter_map(|feed| Some((feed, feed.provider.subject_limit()?))).collect();
    let exceeding: Vec<String> = limited
        .iter()
        .map(|(feed, limit)| (feed, feed.subject_keys.longest(&feed.identity()), limit))
        .filter(|(_, longest, limit)| longest > limit)
        .map(|(feed, longest, limit)| {
            format!("{}: up to {longest} bytes, of which {limit} are taken", feed.path())
        })
        .collect();
    if exceeding.is_empty() {
        return Finding::ok(
            SUBJECT,
            format!("no subject of {} can be too long", count(limited.len(), "Google feed")),
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
