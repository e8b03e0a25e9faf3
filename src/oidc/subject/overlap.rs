//! Overlap of subject keys: a context in which two feeds have the same subject.
//!
//! A subject splits into its pairs in exactly one way, so two feeds share a subject exactly if some context
//! gives both the same pairs. This is decided key by key, without trying contexts.

use super::keys::Presence;
use super::{FeedIdentity, SubjectKey, SubjectKeys};

impl SubjectKeys {
    /// Returns whether the feed `own` with these keys and the feed `other` with `keys` can have the same
    /// subject in some pair of contexts. Exact, except that it ignores the providers' limits on the length of
    /// subjects.
    #[must_use]
    pub fn overlap(&self, own: &FeedIdentity, keys: &Self, other: &FeedIdentity) -> bool {
        SubjectKey::ALL.into_iter().all(|key| match (self.is_required(key), keys.is_required(key)) {
            // A caller chooses the values of the context freely; the values of the feed itself must be equal.
            (Some(_), Some(_)) => match key {
                SubjectKey::Space => own.space == other.space,
                SubjectKey::Feed => own.feed == other.feed,
                SubjectKey::FeedId => own.feed_id == other.feed_id,
                _ => true,
            },
            // Only one of them has this key, so it must be able to omit the pair.
            (Some(required), None) | (None, Some(required)) => !required,
            (None, None) => true,
        })
    }

    /// Returns whether these subjects belong to one feed: no feed with another slug in the same space can
    /// have one of them.
    #[must_use]
    pub fn names_one_feed(&self) -> bool {
        self.contains(SubjectKey::Feed) || self.contains(SubjectKey::FeedId)
    }

    /// Every choice of keys without `feed` and `feed_id` that can give one of these subjects in the same
    /// space.
    ///
    /// There are at most 243 (if all keys of the context are optional), so that a database can find the feeds
    /// that have one of them by an index. Empty if these keys name one feed, because then there is no such
    /// choice.
    #[must_use]
    pub fn overlapping_without_feed(&self) -> Vec<Self> {
        if self.names_one_feed() {
            return Vec::new();
        }
        let mut found = vec![Self([(SubjectKey::Space, Presence::Required)].into())];
        for key in SubjectKey::ALL.into_iter().filter(|key| key.context_key().is_some()) {
            let mut choices = vec![None, Some(Presence::Optional)];
            match self.is_required(key) {
                // A pair that these keys require must be possible for the other choice.
                Some(true) => choices = vec![Some(Presence::Optional), Some(Presence::Required)],
                Some(false) => choices.push(Some(Presence::Required)),
                None => {}
            }
            found = found
                .into_iter()
                .flat_map(|keys| {
                    choices.iter().map(move |presence| {
                        let mut keys = keys.clone();
                        if let Some(presence) = presence {
                            keys.0.insert(key, *presence);
                        }
                        keys
                    })
                })
                .collect();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::oidc::subject::{Context, ContextKey, Subject};

    fn feed(space: &str, feed: &str, id: u128) -> FeedIdentity {
        FeedIdentity {
            space: space.parse().unwrap(),
            feed: feed.parse().unwrap(),
            feed_id: Uuid::from_u128(id),
        }
    }

    /// Every subject that the keys give in contexts whose values are `a` or `b`.
    fn subjects(keys: &SubjectKeys, feed: &FeedIdentity) -> BTreeSet<Subject> {
        let mut contexts = vec![Context::empty()];
        for key in ContextKey::ALL {
            contexts = contexts
                .into_iter()
                .flat_map(|context| {
                    [None, Some("a"), Some("b")].map(|value| {
                        let mut context = context.clone();
                        if let Some(value) = value {
                            context.insert(key, value.parse().unwrap());
                        }
                        context
                    })
                })
                .collect();
        }
        contexts.iter().filter_map(|context| keys.subject(feed, context).ok()).collect()
    }

    fn any_keys() -> impl Strategy<Value = SubjectKeys> {
        let identity = prop::sample::subsequence(vec!["space", "feed", "feed_id"], 0..=3);
        let context = prop::collection::vec(0..3_u8, ContextKey::ALL.len());
        (identity, context).prop_filter_map("neither space nor feed_id", |(identity, context)| {
            let mut items: Vec<String> = identity.into_iter().map(ToOwned::to_owned).collect();
            for (key, presence) in ContextKey::ALL.into_iter().zip(context) {
                match presence {
                    0 => {}
                    1 => items.push(format!("{}?", key.as_str())),
                    _ => items.push(key.as_str().to_owned()),
                }
            }
            SubjectKeys::try_from(items).ok()
        })
    }

    fn any_feed() -> impl Strategy<Value = FeedIdentity> {
        ("[ab]", "[ab]", 0..2_u128).prop_map(|(space, slug, id)| feed(&space, &slug, id))
    }

    proptest! {
        #[test]
        fn two_choices_of_keys_overlap_exactly_if_some_contexts_give_one_subject(
            (own, one) in (any_keys(), any_feed()),
            (other, two) in (any_keys(), any_feed()),
        ) {
            let shared = !subjects(&own, &one).is_disjoint(&subjects(&other, &two));
            prop_assert_eq!(own.overlap(&one, &other, &two), shared, "{} {:?} {} {:?}", own, one, other, two);
            prop_assert_eq!(other.overlap(&two, &own, &one), shared);
        }

        #[test]
        fn the_list_of_overlapping_choices_without_a_feed_is_complete(
            (own, other) in (any_keys(), any_keys()),
        ) {
            let (one, two) = (feed("a", "a", 1), feed("a", "b", 2));
            let listed: BTreeSet<String> =
                own.overlapping_without_feed().iter().map(ToString::to_string).collect();
            prop_assert_eq!(listed.contains(&other.to_string()), own.overlap(&one, &other, &two));
        }
    }

    #[test]
    fn a_key_that_may_be_absent_overlaps_with_keys_that_lack_it() {
        let (one, two) = (feed("s", "one", 1), feed("s", "two", 2));
        for (own, other, expected) in [
            ("space,project", "space,project", true),
            ("space,project,tenant?", "space,project", true),
            ("space,project,tenant", "space,project", false),
            ("space,project?", "space,tenant?", true),
            ("space,project", "space,tenant?", false),
            ("space,feed", "space,feed", false),
            ("space,feed", "space,project?", false),
            ("space,feed_id", "space", false),
        ] {
            let [own, other] = [own, other].map(|keys| keys.parse::<SubjectKeys>().unwrap());
            assert_eq!(own.overlap(&one, &other, &two), expected, "{own} {other}");
        }
        let again = feed("s", "one", 3);
        let keys: SubjectKeys = "space,feed".parse().unwrap();
        assert!(keys.overlap(&one, &keys, &again), "a slug that is used again");
    }
}
