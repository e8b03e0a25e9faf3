use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;

const FEED_ID: Uuid = Uuid::from_u128(0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn identity() -> FeedIdentity {
    FeedIdentity { space: slug("default"), feed: slug("feed-name"), feed_id: FEED_ID }
}

fn context(pairs: &[&str]) -> Context {
    let mut context = Context::empty();
    for pair in pairs {
        let (key, value) = Context::parse_pair(pair).unwrap();
        context.try_insert(key, value).unwrap();
    }
    context
}

fn subject(keys: &str, pairs: &[&str]) -> Result<String, SubjectError> {
    let keys: SubjectKeys = keys.parse().unwrap();
    Ok(keys.subject(&identity(), &context(pairs))?.as_str().to_owned())
}

#[test]
fn subjects_follow_the_fixed_order_and_leave_out_absent_optional_keys() {
    let all = ["project=p", "runbook=r", "tenant=t", "environment=e", "type=y"];
    #[rustfmt::skip]
    let table: [(&str, &[&str], &str); 11] = [
        ("space,feed", &[], "space:default:feed:feed-name"),
        ("feed,space", &[], "space:default:feed:feed-name"),
        ("space,feed", &all, "space:default:feed:feed-name"),
        ("space", &[], "space:default"),
        ("feed_id", &[], "feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"),
        ("space,feed_id", &[], "space:default:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"),
        ("space,tenant?,feed", &[], "space:default:feed:feed-name"),
        ("space,tenant?,feed", &["tenant=acme"], "space:default:tenant:acme:feed:feed-name"),
        ("space,tenant,feed", &["tenant=acme"], "space:default:tenant:acme:feed:feed-name"),
        ("space,tenant,feed", &["tenant=feed"], "space:default:tenant:feed:feed:feed-name"),
        ("feed_id,feed,type,environment,tenant,runbook,project,space", &all,
         "space:default:project:p:runbook:r:tenant:t:environment:e:type:y:feed:feed-name:feed_id:67e55044-10b1-426f-9247-bb680e5fe0c8"),
    ];
    for (keys, pairs, expected) in table {
        assert_eq!(subject(keys, pairs).unwrap(), expected);
    }
}

#[test]
fn a_missing_required_key_is_refused_by_name() {
    for key in ContextKey::ALL {
        let others: Vec<String> = ContextKey::ALL
            .into_iter()
            .filter(|other| *other != key)
            .map(|other| format!("{other}=x"))
            .collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let error = subject(&format!("space,{key},feed"), &others).unwrap_err();
        assert!(matches!(error, SubjectError::Missing(missing) if missing.context_key() == Some(key)));
        assert_eq!(
            error.to_string(),
            format!("the feed's subject needs “{key}”: add it to the context, as in --context {key}=…")
        );
    }
}

#[test]
fn a_choice_of_keys_has_one_written_form() {
    let table = [
        ("space,feed", "space,feed"),
        ("feed,space", "space,feed"),
        (" feed , space ", "space,feed"),
        ("feed_id", "feed_id"),
        ("feed,tenant?,space", "space,tenant?,feed"),
        (
            "type?,environment?,runbook?,project?,tenant,feed_id",
            "project?,runbook?,tenant,environment?,type?,feed_id",
        ),
    ];
    for (text, canonical) in table {
        let keys: SubjectKeys = text.parse().unwrap();
        assert_eq!(keys.to_string(), canonical);
        let json = serde_json::to_value(&keys).unwrap();
        assert_eq!(json, serde_json::json!(canonical.split(',').collect::<Vec<_>>()));
        assert_eq!(serde_json::from_value::<SubjectKeys>(json).unwrap(), keys);
    }
    assert_eq!(SubjectKeys::default().to_string(), "space,feed");
    assert!(SubjectKeys::default().contains(SubjectKey::Feed));
    assert!(!SubjectKeys::default().contains(SubjectKey::FeedId));
}

#[test]
fn a_choice_of_keys_that_cannot_work_is_refused_with_the_reason() {
    use super::keys::SubjectKeysError as Error;
    let unknown = |key: &str| Error::Unknown { key: format!("{key:?}") };
    let table = [
        ("", Error::Empty),
        ("  ", Error::Empty),
        (",", unknown("")),
        ("space,", unknown("")),
        ("space,,feed", unknown("")),
        ("space,?", unknown("")),
        ("space,branch", unknown("branch")),
        ("space,Feed", unknown("Feed")),
        ("space,feed-id", unknown("feed-id")),
        ("space,tenant??", unknown("tenant?")),
        ("space,tenant ?", unknown("tenant ")),
        ("space;feed", unknown("space;feed")),
        ("space,feed,space", Error::Duplicate(SubjectKey::Space)),
        ("space,tenant,tenant?", Error::Duplicate(SubjectKey::Tenant)),
        ("space?,feed", Error::AlwaysPresent(SubjectKey::Space)),
        ("space,feed?", Error::AlwaysPresent(SubjectKey::Feed)),
        ("feed_id?", Error::AlwaysPresent(SubjectKey::FeedId)),
        ("feed", Error::Ambiguous),
        ("project,tenant?,feed", Error::Ambiguous),
    ];
    for (text, error) in table {
        assert_eq!(text.parse::<SubjectKeys>(), Err(error), "{text}");
    }
    for json in [r#"[]"#, r#"["feed"]"#, r#"["space,feed"]"#, r#"[" space"]"#, r#""space,feed""#] {
        assert!(serde_json::from_str::<SubjectKeys>(json).is_err(), "{json}");
    }
}

#[test]
fn limits_count_bytes_and_the_refusal_shows_the_subject() {
    let subject = SubjectKeys::default().subject(&identity(), &Context::empty()).unwrap();
    assert_eq!(subject.as_str().len(), 28);
    assert_eq!(subject.check_limit(28), Ok(()));
    assert_eq!(
        subject.check_limit(27).unwrap_err().to_string(),
        r#"the subject "space:default:feed:feed-name" has 28 bytes, and the provider accepts at most 27"#
    );
    assert_eq!(serde_json::to_string(&subject).unwrap(), r#""space:default:feed:feed-name""#);
}

#[test]
fn context_is_parsed_from_pairs_and_refused_with_the_rule() {
    assert_eq!(Context::parse_pair("tenant=acme").unwrap(), (ContextKey::Tenant, slug("acme")));
    let table = [
        ("tenant", r#""tenant" is not context: write KEY=VALUE, such as tenant=acme"#),
        ("", r#""" is not context: write KEY=VALUE, such as tenant=acme"#),
        ("=acme", r#""" is not a context key: use project, runbook, tenant, environment or type"#),
        ("Tenant=a", r#""Tenant" is not a context key: use project, runbook, tenant, environment or type"#),
        ("space=a", r#""space" is not a context key: use project, runbook, tenant, environment or type"#),
        (
            "tenant=",
            "the context's “tenant” is not valid: a slug cannot be empty: use 1–50 characters of a–z, 0–9 and inner “-”",
        ),
        (
            "tenant=a=b",
            "the context's “tenant” is not valid: \"a=b\" is not a slug: use 1–50 characters of a–z, 0–9 and inner “-”, not '='",
        ),
    ];
    for (text, message) in table {
        assert_eq!(Context::parse_pair(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_context_key_is_given_once() {
    let mut context = context(&["tenant=acme"]);
    let again = context.try_insert(ContextKey::Tenant, slug("acme"));
    assert_eq!(again, Err(ContextError::Twice(ContextKey::Tenant)));
    assert_eq!(context.insert(ContextKey::Tenant, slug("other")), Some(slug("acme")));
    assert_eq!(context.get(ContextKey::Tenant), Some(&slug("other")));
    assert_eq!(context.iter().count(), 1);
    assert!(!context.is_empty());
}

#[test]
fn json_context_is_an_object_of_known_keys_each_once() {
    let both = context(&["type=deployment", "tenant=acme"]);
    let json = r#"{"tenant":"acme","type":"deployment"}"#;
    assert_eq!(serde_json::to_string(&both).unwrap(), json);
    assert_eq!(serde_json::from_str::<Context>(json).unwrap(), both);
    assert_eq!(serde_json::from_str::<Context>("{}").unwrap(), Context::empty());
    let table = [
        (r#"{"branch":"a"}"#, "\"branch\" is not a context key: use project, runbook"),
        (r#"{"tenant":"a","tenant":"a"}"#, "the context gives “tenant” twice"),
        (r#"{"tenant":"A"}"#, "the context's “tenant” is not valid: \"A\" is not a slug"),
        (r#"{"tenant":null}"#, "expected a string"),
        (r#"["tenant"]"#, "expected an object of context keys and slugs"),
    ];
    for (json, message) in table {
        let error = serde_json::from_str::<Context>(json).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// Slugs that are often names of keys, to provoke confusion between keys and values.
fn any_slug() -> impl Strategy<Value = Slug> {
    prop_oneof![
        prop::sample::select(vec!["space", "feed", "tenant", "type", "project", "a", "feed-id"])
            .prop_map(str::to_owned),
        "[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?",
    ]
    .prop_map(|text| slug(&text))
}

fn any_identity() -> impl Strategy<Value = FeedIdentity> {
    let id = prop_oneof![Just(FEED_ID), any::<u128>().prop_map(Uuid::from_u128)];
    (any_slug(), any_slug(), id).prop_map(|(space, feed, feed_id)| FeedIdentity { space, feed, feed_id })
}

fn any_context() -> impl Strategy<Value = Context> {
    prop::collection::btree_map(prop::sample::select(&ContextKey::ALL[..]), any_slug(), 0..=5).prop_map(
        |pairs| {
            pairs.into_iter().fold(Context::empty(), |mut context, (key, value)| {
                context.insert(key, value);
                context
            })
        },
    )
}

/// The items of a valid choice of keys, in canonical order.
fn any_items() -> impl Strategy<Value = Vec<String>> {
    (subsequence(&SubjectKey::ALL[..], 1..=8), any::<[bool; 8]>(), any::<bool>()).prop_map(
        |(mut keys, optional, by_id)| {
            keys.push(if by_id { SubjectKey::FeedId } else { SubjectKey::Space });
            keys.sort_unstable();
            keys.dedup();
            let optional = |key: SubjectKey| key.context_key().is_some() && optional[key as usize];
            keys.iter().map(|key| format!("{key}{}", if optional(*key) { "?" } else { "" })).collect()
        },
    )
}

fn parse(items: &[String]) -> SubjectKeys {
    items.join(",").parse().unwrap()
}

/// The pairs of a subject, derived from the inputs and not from its text.
fn expected_pairs(
    items: &[String],
    identity: &FeedIdentity,
    context: &Context,
) -> Option<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for item in items {
        let name = item.trim_end_matches('?');
        let value = match name {
            "space" => identity.space.to_string(),
            "feed" => identity.feed.to_string(),
            "feed_id" => identity.feed_id.to_string(),
            _ => match context.iter().find(|(key, _)| key.as_str() == name) {
                Some((_, value)) => value.to_string(),
                None if item.ends_with('?') => continue,
                None => return None,
            },
        };
        pairs.insert(name.to_owned(), value);
    }
    Some(pairs)
}

/// Parses a subject without knowing the chosen keys.
fn read_back(subject: &Subject) -> BTreeMap<String, String> {
    let parts: Vec<&str> = subject.as_str().split(':').collect();
    assert!(parts.len().is_multiple_of(2));
    let order: Vec<SubjectKey> = parts.iter().step_by(2).map(|key| key.parse().unwrap()).collect();
    assert!(order.is_sorted_by(|left, right| left < right));
    parts.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

proptest! {
    #[test]
    fn no_feed_gives_the_subject_of_a_nudge(
        items in any_items(), identity in any_identity(), context in any_context(),
    ) {
        if let Ok(subject) = parse(&items).subject(&identity, &context) {
            let first = subject.as_str().split(':').next();
            prop_assert_ne!(subject.as_str(), NUDGE_SUBJECT);
            prop_assert_ne!(first, NUDGE_SUBJECT.split(':').next());
        }
    }

    #[test]
    fn the_order_of_choice_never_matters(
        items in any_items(), swaps in prop::collection::vec((any::<Index>(), any::<Index>()), 0..8),
        identity in any_identity(), context in any_context(),
    ) {
        let mut shuffled = items.clone();
        for (left, right) in swaps {
            shuffled.swap(left.index(items.len()), right.index(items.len()));
        }
        prop_assert_eq!(parse(&shuffled).to_string(), items.join(","));
        prop_assert_eq!(parse(&shuffled).subject(&identity, &context), parse(&items).subject(&identity, &context));
    }

    #[test]
    fn a_subject_reads_back_as_exactly_its_pairs(
        items in any_items(), identity in any_identity(), context in any_context(),
    ) {
        match (parse(&items).subject(&identity, &context), expected_pairs(&items, &identity, &context)) {
            (Ok(subject), Some(pairs)) => prop_assert_eq!(read_back(&subject), pairs),
            (Err(SubjectError::Missing(key)), None) => prop_assert!(items.contains(&key.to_string())),
            (subject, pairs) => prop_assert!(false, "{subject:?} for {pairs:?}"),
        }
    }

    #[test]
    fn different_pairs_never_share_a_subject_whatever_keys_were_chosen(
        left in (any_items(), any_identity(), any_context()), right in (any_items(), any_identity(), any_context()),
        same_keys: bool,
    ) {
        let right_items = if same_keys { &left.0 } else { &right.0 };
        let subjects = (parse(&left.0).subject(&left.1, &left.2), parse(right_items).subject(&right.1, &right.2));
        if let (Ok(first), Ok(second)) = subjects {
            let pairs = (expected_pairs(&left.0, &left.1, &left.2), expected_pairs(right_items, &right.1, &right.2));
            prop_assert_eq!(first == second, pairs.0 == pairs.1);
        }
    }

    #[test]
    fn no_subject_is_shorter_than_the_shortest_or_longer_than_the_longest(
        items in any_items(), identity in any_identity(), context in any_context(),
    ) {
        let keys = parse(&items);
        if let Ok(subject) = keys.subject(&identity, &context) {
            prop_assert!(subject.as_str().len() >= keys.shortest(&identity));
            prop_assert!(subject.as_str().len() <= keys.longest(&identity));
        }
        let required = items.iter().filter(|item| !item.ends_with('?'));
        let bare: Vec<String> = required.filter(|item| ContextKey::ALL.iter().any(|key| key.as_str() == *item))
            .map(|item| format!("{item}=x")).collect();
        let bare: Vec<&str> = bare.iter().map(String::as_str).collect();
        let shortest = keys.subject(&identity, &self::context(&bare)).unwrap();
        prop_assert_eq!(shortest.as_str().len(), keys.shortest(&identity));
    }
}
