//! The rules between feeds: the subjects and registries that a feed may have, and the maximum number of
//! feeds.

use std::fmt;

use jiff::Timestamp;
use url::Url;

use super::{FeedsError, Sharing};
use crate::access::principal::Confirmed;
use crate::exchange::address::{Loopback, vet_host};
use crate::feed::registry_host::RegistryHost;
use crate::feed::{Feed, FeedPath};
use crate::store::ReadTransaction;
use crate::store::feeds::FeedCounts;

/// The maximum number of feeds in one space.
pub const MAX_FEEDS_IN_SPACE: i64 = 50_000;
/// The maximum number of feeds in all spaces.
pub const MAX_FEEDS: i64 = 500_000;
/// The maximum number of spaces.
pub const MAX_SPACES: i64 = 10_000;

/// The part of the feeds and spaces, a tenth, that is reserved for the command line and for admins without
/// limits.
const RESERVED_PART: i64 = 10;

/// The number of marks of removed subjects in a space from which admins with limits can add no more there.
const MAX_MARKS_IN_SPACE: i64 = 50_000;
/// The number of marks of removed subjects of one feed name from which admins with limits can add no more for
/// it.
const MAX_MARKS_OF_NAME: i64 = 32;

/// The maximum number of feeds that a message names.
const NAMED: u32 = 5;

/// A consequence of a feed's change for trust or for callers, beyond the feed itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedNote {
    /// Other feeds can have the feed's subject.
    SharedSubject {
        /// Some of them.
        with: Vec<FeedPath>,
    },
    /// A feed that had the subject was removed, or got another subject.
    InheritedSubject {
        /// The feed.
        from: FeedPath,
        /// The time at which that happened.
        removed_at: Timestamp,
    },
    /// Other feeds have the same registry.
    SharedRegistry {
        /// The registry.
        registry: RegistryHost,
        /// Some of them.
        with: Vec<FeedPath>,
    },
}

impl fmt::Display for FeedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SharedSubject { with } => write!(
                f,
                "this feed can have the same subject as {}: a cloud that trusts one trusts the other",
                named(with)
            ),
            Self::InheritedSubject { from, removed_at } => write!(
                f,
                "this feed can have a subject that {from} had until {removed_at}: a cloud that still trusts \
                 that feed trusts this one"
            ),
            Self::SharedRegistry { registry, with } => write!(
                f,
                "{registry} is also the registry of {}: a caller whose grant allows several of them must name the \
                 feed",
                named(with)
            ),
        }
    }
}

/// Lists at most [`NAMED`] names, and says if there are more.
pub(super) fn named(feeds: &[FeedPath]) -> String {
    let most = NAMED as usize;
    let mut text = feeds.iter().take(most).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if feeds.len() > most {
        text.push_str(" and others");
    }
    text
}

/// Refuses hosts of endpoints and the registry to which the rule about addresses never allows a connection.
/// Loopback depends on the process that connects. Hosts of an earlier version of the feed stay: a feed that was
/// stored before this rule can still be changed.
pub(super) fn check_hosts(before: Option<&Feed>, feed: &Feed) -> Result<(), FeedsError> {
    let hosts = |feed: &Feed| {
        let registry = [("registry".to_owned(), format!("https://{}/", feed.registry))];
        let endpoints = feed.endpoints.iter();
        let endpoints = endpoints.map(|(name, url)| (format!("endpoints.{name}"), url.as_str().to_owned()));
        registry.into_iter().chain(endpoints).collect::<Vec<_>>()
    };
    let known = before.map(hosts).unwrap_or_default();
    for (field, url) in hosts(feed).into_iter().filter(|host| !known.contains(host)) {
        if let Ok(url) = url.parse::<Url>() {
            vet_host(&url, Loopback::Allow).map_err(|error| FeedsError::Address { field, error })?;
        }
    }
    Ok(())
}

/// Refuses a subject that another feed of the space can give, present or removed, unless an unlimited principal said
/// that this is wanted.
pub(super) async fn check_subject(
    read: &mut ReadTransaction,
    feed: &Feed,
    by: &Confirmed,
    sharing: Sharing,
) -> Result<Vec<FeedNote>, FeedsError> {
    let (keys, identity, path) = (&feed.subject_keys, feed.identity(), feed.path());
    let is_limited = !by.is_unlimited();
    let mut notes = Vec::new();
    let with = read.feeds_sharing_subject(keys, &identity, NAMED + 1).await?;
    if !with.is_empty() {
        if is_limited || !sharing.share_subject {
            return Err(FeedsError::SubjectShared { path, with, is_limited });
        }
        notes.push(FeedNote::SharedSubject { with });
    }
    for removed in read.removed_subjects_of(keys, &identity).await? {
        let (from, removed_at) = (removed.path(), removed.removed_at);
        if is_limited || !sharing.reuse_slug {
            return Err(FeedsError::SlugReused { path, from, removed_at, is_limited });
        }
        let is_named = notes
            .iter()
            .any(|note| matches!(note, FeedNote::InheritedSubject { from: named, .. } if *named == from));
        if !is_named {
            notes.push(FeedNote::InheritedSubject { from, removed_at });
        }
    }
    Ok(notes)
}

/// Refuses a principal with limits the registry of a feed outside its limits, because look-ups by host that
/// find one feed today would find two. A principal without limits gets a note that names the other feeds.
pub(super) async fn check_registry(
    read: &mut ReadTransaction,
    feed: &Feed,
    by: &Confirmed,
) -> Result<Vec<FeedNote>, FeedsError> {
    if by.is_unlimited() {
        let with = read.names_of_registry(&feed.registry, feed.id, None, NAMED + 1).await?;
        let note = FeedNote::SharedRegistry { registry: feed.registry.clone(), with };
        let is_shared = matches!(&note, FeedNote::SharedRegistry { with, .. } if !with.is_empty());
        return Ok(if is_shared { vec![note] } else { Vec::new() });
    }
    let outside = Some((&by.permissions.spaces, &by.permissions.feeds));
    match read.names_of_registry(&feed.registry, feed.id, outside, 1).await?.is_empty() {
        true => Ok(Vec::new()),
        false => Err(FeedsError::RegistryElsewhere),
    }
}

/// Refuses a feed for which there is no room.
pub(super) async fn check_room(
    read: &mut ReadTransaction,
    feed: &Feed,
    by: &Confirmed,
) -> Result<(), FeedsError> {
    let counts = read.count_feeds(&feed.space).await?;
    match exhausted(counts, by.is_unlimited()) {
        Some((what, most)) => Err(FeedsError::TooMany { what, most }),
        None => Ok(()),
    }
}

/// Returns the limit that one more feed would exceed.
fn exhausted(counts: FeedCounts, is_unlimited: bool) -> Option<(&'static str, i64)> {
    let most = |most: i64| if is_unlimited { most } else { most - most / RESERVED_PART };
    [
        ("feeds in the space", counts.in_space, MAX_FEEDS_IN_SPACE),
        ("feeds", counts.feeds, most(MAX_FEEDS)),
        ("spaces", if counts.space_exists { 0 } else { counts.spaces }, most(MAX_SPACES)),
    ]
    .into_iter()
    .find(|(_, have, most)| have >= most)
    .map(|(what, _, most)| (what, most))
}

/// Refuses a limited principal a change that ends the feed's subject, if there is no room for its mark. Marks are never
/// removed, and later changes in the space read those that may fit.
pub(super) async fn check_marks(
    read: &mut ReadTransaction,
    feed: &Feed,
    by: &Confirmed,
) -> Result<(), FeedsError> {
    if by.is_unlimited() || !feed.trust_follows_the_slug() {
        return Ok(());
    }
    let (in_space, of_name) = read.count_removed_subjects(feed, MAX_MARKS_IN_SPACE).await?;
    for (what, have, most) in [
        ("former subjects of feeds of this name", of_name, MAX_MARKS_OF_NAME),
        ("former subjects of feeds of the space", in_space, MAX_MARKS_IN_SPACE),
    ] {
        if have >= most {
            return Err(FeedsError::TooMany { what, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::feed::FeedDraft;
    use crate::feed::endpoints::Endpoints;

    #[test]
    fn feeds_and_spaces_are_made_up_to_the_maximum_with_a_tenth_reserved() {
        let counts =
            |in_space, feeds, spaces, space_exists| FeedCounts { in_space, feeds, spaces, space_exists };
        for (counts, limited, unlimited) in [
            (counts(0, 0, 0, false), None, None),
            (counts(49_999, 49_999, 1, true), None, None),
            (counts(50_000, 50_000, 1, true), Some("feeds in the space"), Some("feeds in the space")),
            (counts(1, 449_999, 9, true), None, None),
            (counts(1, 450_000, 9, true), Some("feeds"), None),
            (counts(1, 499_999, 9, true), Some("feeds"), None),
            (counts(1, 500_000, 9, true), Some("feeds"), Some("feeds")),
            (counts(0, 9_000, 8_999, false), None, None),
            (counts(0, 9_000, 9_000, false), Some("spaces"), None),
            (counts(0, 10_000, 9_999, false), Some("spaces"), None),
            (counts(0, 10_000, 10_000, false), Some("spaces"), Some("spaces")),
            (counts(1, 10_000, 10_000, true), None, None),
        ] {
            for (is_unlimited, expected) in [(false, limited), (true, unlimited)] {
                let what = exhausted(counts, is_unlimited).map(|(what, _)| what);
                assert_eq!(what, expected, "{counts:?}, unlimited: {is_unlimited}");
            }
        }
    }

    fn feed(registry: &str, endpoints: [&str; 2]) -> Feed {
        let draft = FeedDraft {
            endpoints: Endpoints::from_pairs(crate::feed::aws::ENDPOINT_NAMES, endpoints).unwrap(),
            ..FeedDraft::new(
                "default/a".parse().unwrap(),
                registry.parse().unwrap(),
                serde_json::from_str(
                    r#"{"type":"aws-ecr","role_arn":"arn:aws:iam::123456789012:role/pull"}"#,
                )
                .unwrap(),
            )
        };
        Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn hosts_that_are_never_connected_to_are_refused_with_field_and_rule_when_they_are_new() {
        const STS: &str = "sts=https://sts.example";
        const ECR: &str = "ecr=http://localhost:1";
        for (registry, endpoints, refused) in [
            ("r.example", [STS, ECR], None),
            ("127.0.0.1:5000", ["sts=http://127.0.0.1:1", "ecr=https://[::1]"], None),
            ("10.0.0.1", ["sts=https://10.0.0.1", "ecr=https://[fd12::1]"], None),
            ("r.example", ["sts=https://169.254.169.254/x", ECR], Some(("endpoints.sts", "link-local"))),
            ("r.example", [STS, "ecr=https://[fd00:ec2::254]"], Some(("endpoints.ecr", "metadata service"))),
            (
                "r.example",
                ["sts=https://metadata.google.internal", ECR],
                Some(("endpoints.sts", "metadata service")),
            ),
            ("r.example", ["sts=https://[::ffff:a9fe:a9fe]", ECR], Some(("endpoints.sts", "link-local"))),
            ("r.example", ["sts=https://0.0.0.0:8443", ECR], Some(("endpoints.sts", "no host's address"))),
            ("169.254.169.254:5000", [STS, ECR], Some(("registry", "link-local"))),
        ] {
            let feed = feed(registry, endpoints);
            let error = check_hosts(None, &feed).err().map(|error| error.to_string());
            match (&error, refused) {
                (Some(error), Some((field, rule))) => {
                    assert!(error.starts_with(&format!("{field}: ")) && error.contains(rule), "{error}");
                }
                (error, refused) => assert_eq!(error.is_some(), refused.is_some(), "{error:?} {refused:?}"),
            }
            check_hosts(Some(&feed), &feed).unwrap();
        }
    }
}
