use std::collections::BTreeSet;

use serde_json::json;
use sqlx::Row as _;
use tempfile::TempDir;

use super::*;
use crate::feed::FeedDraft;
use crate::grant::FeedPattern;
use crate::store::master_key::MasterKey;
use crate::store::{IfMissing, Trusted};
use crate::values::random::SecureRandom;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-central-1.amazonaws.com";

fn feed(path: &str, uploaded: bool) -> Feed {
    let path: FeedPath = path.parse().unwrap();
    let (registry, provider) = if uploaded {
        let provider = "projects/123456/locations/global/workloadIdentityPools/pool/providers/carnet";
        let google = json!({
            "type": "google-artifact-registry", "workload_identity_provider": provider, "jwks": "uploaded",
        });
        ("europe-west1-docker.pkg.dev", google)
    } else {
        (REGISTRY, json!({ "type": "aws-ecr", "role_arn": "arn:aws:iam::123456789012:role/pull" }))
    };
    let draft = FeedDraft {
        space: path.space,
        slug: path.slug,
        name: None,
        registry: registry.parse().unwrap(),
        provider: serde_json::from_value(provider).unwrap(),
        audience: None,
        // With these keys, a feed leaves no mark when it is removed.
        subject_keys: Some("space,feed_id".parse().unwrap()),
        alg: None,
        token_lifetime: None,
        endpoints: Default::default(),
    };
    let name = format!("{:0>16}", format!("{}/{}", draft.space, draft.slug));
    let id = Uuid::from_slice(name.as_bytes()).unwrap();
    Feed::new(draft, id, Duration::MAX, Timestamp::UNIX_EPOCH).unwrap()
}

async fn open(folder: &TempDir) -> Store {
    Store::open(&folder.path().join("carnet.db").into(), IfMissing::Create).await.unwrap()
}

async fn store(folder: &TempDir) -> Trusted {
    open(folder).await.set_up_new(&MasterKey::generate(&SecureRandom::default()).unwrap()).await
}

async fn insert(store: &Trusted, feeds: &[Feed]) {
    let mut write = store.write().await.unwrap();
    for feed in feeds {
        write.insert_feed(feed).await.unwrap();
    }
    write.commit().await.unwrap();
}

/// Returns the stored counts, and the counts of the rows.
async fn counts(store: &Store) -> [Vec<(String, i64)>; 2] {
    let kept = "SELECT 'feeds', feeds FROM feed_counts UNION ALL SELECT 'spaces', spaces FROM feed_counts \
                UNION ALL SELECT slug, feeds FROM spaces";
    let counted = "SELECT 'feeds', (SELECT COUNT(*) FROM feeds) UNION ALL SELECT 'spaces', (SELECT COUNT(*) FROM spaces) \
                   UNION ALL SELECT slug, (SELECT COUNT(*) FROM feeds WHERE space = spaces.slug) FROM spaces";
    let mut found = [Vec::new(), Vec::new()];
    for (found, query) in found.iter_mut().zip([kept, counted]) {
        *found = sqlx::query_as(query).fetch_all(&store.readers.lists).await.unwrap();
    }
    found
}

#[tokio::test]
async fn feeds_and_spaces_are_counted_as_they_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let feeds = ["a/one", "a/two", "b/one"].map(|path| feed(path, false));
    insert(&store, &feeds).await;
    let [kept, counted] = counts(&store).await;
    assert_eq!(kept, counted);
    let mut write = store.write().await.unwrap();
    let of_a = write.count_feeds(&"a".parse().unwrap()).await.unwrap();
    assert_eq!((of_a.in_space, of_a.feeds, of_a.spaces, of_a.space_exists), (2, 3, 2, true));
    let of_c = write.count_feeds(&"c".parse().unwrap()).await.unwrap();
    assert_eq!((of_c.in_space, of_c.feeds, of_c.spaces, of_c.space_exists), (0, 3, 2, false));
    // A transaction that is rolled back counts nothing.
    write.insert_feed(&feed("c/one", false)).await.unwrap();
    drop(write);
    let mut write = store.write().await.unwrap();
    for _ in 0..2 {
        // The second removal finds no feed, and leaves the counts as they are.
        write.remove_feed(&feeds[1], Timestamp::UNIX_EPOCH).await.unwrap();
    }
    write.commit().await.unwrap();
    assert_eq!(store.feed_count().await.unwrap(), 2);
    let [kept, counted] = counts(&store).await;
    assert_eq!(kept, counted);
}

#[tokio::test]
async fn a_database_from_before_there_were_counts_gets_them() {
    const BEFORE: [&str; 9] = [
        "DROP INDEX feeds_with_uploaded_jwks",
        "ALTER TABLE feeds DROP COLUMN has_uploaded_jwks",
        "DROP INDEX feeds_by_registry_and_slug",
        "DROP INDEX feeds_by_lifetime",
        "DROP INDEX feeds_by_alg",
        "DROP TABLE feed_counts",
        "ALTER TABLE spaces DROP COLUMN feeds",
        "DROP INDEX key_events_by_event",
        "DELETE FROM _sqlx_migrations WHERE version >= 13",
    ];
    let folder = tempfile::tempdir().unwrap();
    let older = store(&folder).await;
    insert(&older, &[feed("a/one", false), feed("a/two", true), feed("b/one", false)]).await;
    let before = counts(&older).await;
    let mut connection = older.writer.acquire().await.unwrap();
    for statement in BEFORE {
        sqlx::query(statement).execute(&mut *connection).await.unwrap();
    }
    drop(connection);
    older.close().await;
    let upgraded = open(&folder).await;
    assert_eq!(counts(&upgraded).await, before);
    let uploaded: Vec<(String,)> = sqlx::query_as("SELECT slug FROM feeds WHERE has_uploaded_jwks = TRUE")
        .fetch_all(&upgraded.readers.lists)
        .await
        .unwrap();
    assert_eq!(uploaded, [("two".to_owned(),)]);
}

#[tokio::test]
async fn the_feeds_inside_a_grants_limits_are_those_that_its_patterns_match() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let slugs = ["a", "a-b", "ab", "a-bc", "b", "ba", "z", "zz", "a0", "a-b-c"];
    let feeds: Vec<Feed> = ["x", "y"]
        .iter()
        .flat_map(|space| slugs.map(|slug| feed(&format!("{space}/{slug}"), false)))
        .collect();
    insert(&store, &feeds).await;
    let registry = REGISTRY.parse().unwrap();
    let space: Slug = "x".parse().unwrap();
    for patterns in [
        &["a"][..],
        &["a*"],
        &["a-*"],
        &["*b"],
        &["a*c"],
        &["*"],
        &["z*", "a"],
        &["a", "a*", "*a*"],
        &["nosuch"],
        &["z"],
    ] {
        let patterns: BTreeSet<FeedPattern> =
            patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let limit = FeedLimit::Matching(patterns.clone());
        for (spaces, of) in [
            (SpaceLimit::All, FeedsOf::Registry(&registry)),
            (SpaceLimit::Only([space.clone()].into()), FeedsOf::Registry(&registry)),
            (SpaceLimit::All, FeedsOf::Space(&space)),
        ] {
            let is_inside = |feed: &&Feed| {
                let in_space =
                    matches!((&spaces, of), (SpaceLimit::All, FeedsOf::Registry(_))) || feed.space == space;
                in_space && limit.contains(&feed.slug)
            };
            let mut expected: Vec<_> =
                feeds.iter().filter(is_inside).map(|feed| feed.path().to_string()).collect();
            expected.sort();
            let found = store.feeds_inside((&spaces, &limit), of).await.unwrap();
            let mut found: Vec<_> = found.iter().map(|feed| feed.path().to_string()).collect();
            found.sort();
            assert_eq!(found, expected, "{patterns:?} {of:?}");
        }
    }
}

/// Covers the statements that are built at run time. `plan_tests` covers the others.
#[tokio::test]
async fn feeds_are_found_by_an_index_whatever_a_grant_is_limited_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let pattern = |text: &str| -> FeedPattern { text.parse().unwrap() };
    let all = FeedLimit::All;
    let some = FeedLimit::Matching(["a", "b-*", "c*d"].map(pattern).into());
    let space = "x".parse::<Slug>().unwrap();
    let two = SpaceLimit::Only([space.clone(), "y".parse().unwrap()].into());
    let registry = REGISTRY.parse().unwrap();
    let mut statements = Vec::new();
    for spaces in [&SpaceLimit::All, &two] {
        for feeds in [&all, &some] {
            statements.push(inside(spaces, feeds, FeedsOf::Registry(&registry)));
            statements.push(inside(spaces, feeds, FeedsOf::Space(&space)));
            statements.push(of_registry(&registry, Uuid::nil(), Some((spaces, feeds)), 10));
        }
    }
    let identity = FeedIdentity { space: space.clone(), feed: space.clone(), feed_id: Uuid::nil() };
    statements.push(of_registry(&registry, Uuid::nil(), None, 10));
    statements.push(sharing_subject(&[SubjectKeys::default()], &identity, 1));
    statements.push(versions_of(&[Uuid::nil(), Uuid::max()]));
    for statement in statements {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql().as_str());
        let plan =
            sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_all(&store.readers.lists).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        assert!(!plan.iter().any(|step| step.starts_with("SCAN feeds")), "{sql}\n{plan:#?}");
        if sql.contains(" UNION ") {
            // One range for each pattern.
            let ranges =
                plan.iter().filter(|step| step.contains("slug=?") || step.contains("slug>?")).count();
            assert!(ranges >= 3, "{sql}\n{plan:#?}");
        }
    }
}
