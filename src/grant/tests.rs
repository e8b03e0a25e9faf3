use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::feed::FeedPath;
use crate::feed::scope::{Action, Scope};
use crate::oidc::subject::{Context, ContextKey};
use crate::values::slug::Slug;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn rules(json: &str) -> ContextRules {
    serde_json::from_str(json).unwrap()
}

fn context(json: &str) -> Context {
    serde_json::from_str(json).unwrap()
}

fn only(spaces: &[&str]) -> SpaceLimit {
    SpaceLimit::Only(spaces.iter().map(|space| slug(space)).collect())
}

fn matching(patterns: &[&str]) -> FeedLimit {
    FeedLimit::Matching(patterns.iter().map(|pattern| pattern.parse().unwrap()).collect())
}

fn actions(actions: &[Action]) -> Scope {
    Scope::new(None::<Vec<_>>, Some(actions.to_vec())).unwrap()
}

fn repositories(names: &[&str]) -> Scope {
    Scope::new(Some(names.iter().map(|name| name.parse().unwrap())), None::<Vec<_>>).unwrap()
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn grant(permissions: Permissions, expires_at: Option<Timestamp>) -> Grant {
    Grant {
        id: Uuid::nil(),
        name: "ci".parse().unwrap(),
        permissions,
        created_at: second(0),
        created_by: "local:tester".to_owned(),
        expires_at,
        revoked_at: None,
        last_used_at: None,
    }
}

fn draft(permissions: Permissions, expires_at: Option<Timestamp>) -> GrantDraft {
    GrantDraft { name: "ci".parse().unwrap(), permissions, expires_at }
}

/// An admin with a limit in every respect.
fn limited() -> Permissions {
    Permissions {
        role: Role::Admin,
        spaces: only(&["a", "b"]),
        feeds: matching(&["prod-*"]),
        context: rules(r#"{"tenant":"acme","environment":"*"}"#),
        scope: repositories(&["app/one", "app/two"]),
    }
}

#[test]
fn a_grant_makes_equal_grants_and_no_wider_one_in_any_respect() {
    let own = || limited();
    let later = Some(second(100));
    let table: [(Permissions, Option<Timestamp>, Result<(), Wider>); 18] = [
        (own(), later, Ok(())),
        (Permissions { role: Role::Viewer, ..own() }, later, Ok(())),
        (Permissions { role: Role::Deployer, ..own() }, Some(second(99)), Ok(())),
        (Permissions { spaces: only(&["a"]), ..own() }, later, Ok(())),
        (Permissions { spaces: only(&["a", "c"]), ..own() }, later, Err(Wider::Spaces)),
        (Permissions { spaces: SpaceLimit::All, ..own() }, later, Err(Wider::Spaces)),
        (Permissions { feeds: matching(&["prod-eu", "prod-*-x"]), ..own() }, later, Ok(())),
        (Permissions { feeds: matching(&["prod-eu", "test"]), ..own() }, later, Err(Wider::Feeds)),
        (Permissions { feeds: matching(&["prod*"]), ..own() }, later, Err(Wider::Feeds)),
        (Permissions { feeds: FeedLimit::All, ..own() }, later, Err(Wider::Feeds)),
        (Permissions { context: rules(r#"{"tenant":"acme","environment":"test"}"#), ..own() }, later, Ok(())),
        (
            Permissions { context: rules(r#"{"environment":"*"}"#), ..own() },
            later,
            Err(Wider::Context(ContextKey::Tenant)),
        ),
        (
            Permissions { context: rules(r#"{"tenant":"acme","project":"p"}"#), ..own() },
            later,
            Err(Wider::Context(ContextKey::Project)),
        ),
        (Permissions { scope: repositories(&["app/two"]), ..own() }, later, Ok(())),
        (Permissions { scope: repositories(&["app/other"]), ..own() }, later, Err(Wider::Repositories)),
        (Permissions { scope: actions(&[Action::Pull]), ..own() }, later, Err(Wider::Repositories)),
        (own(), Some(second(101)), Err(Wider::Expiry)),
        (own(), None, Err(Wider::Expiry)),
    ];
    let maker = grant(limited(), later);
    for (permissions, expires_at, expected) in table {
        let draft = draft(permissions, expires_at);
        assert_eq!(maker.may_create(&draft), expected, "{draft:?}");
    }
    let puller = Permissions { scope: actions(&[Action::Pull]), ..Permissions::unlimited_admin() };
    let everything = draft(Permissions::unlimited_admin(), None);
    assert_eq!(grant(puller, None).may_create(&everything), Err(Wider::Actions));
    assert_eq!(grant(Permissions::unlimited_admin(), None).may_create(&everything), Ok(()));
}

#[test]
fn only_an_admin_makes_grants_even_of_the_same_role() {
    for role in [Role::Viewer, Role::Deployer] {
        let permissions = Permissions { role, ..limited() };
        let maker = grant(permissions.clone(), None);
        assert_eq!(maker.may_create(&draft(permissions, None)), Err(Wider::NotAnAdmin));
    }
}

#[test]
fn a_deployer_gets_credentials_of_the_named_feeds_and_a_viewer_of_none() {
    let path = |text: &str| text.parse::<FeedPath>().unwrap();
    for (role, feed, sees, deploys) in [
        (Role::Admin, "a/prod-eu", true, true),
        (Role::Viewer, "a/prod-eu", true, false),
        (Role::Deployer, "b/prod-2", true, true),
        (Role::Deployer, "a/test", false, false),
        (Role::Deployer, "c/prod-eu", false, false),
        (Role::Admin, "c/prod-eu", false, false),
    ] {
        let permissions = Permissions { role, ..limited() };
        let seen = (permissions.may_see(&path(feed)), permissions.may_deploy(&path(feed)));
        assert_eq!(seen, (sees, deploys), "{role} {feed}");
    }
    assert!(!limited().may_see(&path("a/prod")));
}

#[test]
fn signing_keys_need_an_admin_without_limits() {
    let all = Permissions::unlimited_admin;
    assert!(all().is_unlimited_admin());
    assert!(Permissions { feeds: matching(&["*"]), ..all() }.is_unlimited_admin());
    for limited in [
        Permissions { role: Role::Viewer, ..all() },
        Permissions { spaces: only(&["a"]), ..all() },
        Permissions { feeds: matching(&["a*"]), ..all() },
        Permissions { context: rules(r#"{"tenant":"acme"}"#), ..all() },
        Permissions { scope: actions(&[Action::Pull]), ..all() },
    ] {
        assert!(!limited.is_unlimited_admin(), "{limited:?}");
    }
}

#[test]
fn a_request_gives_the_allowed_context_and_gets_the_fixed_one() {
    let allowed = rules(r#"{"tenant":"acme","environment":"*"}"#);
    for (requested, admitted) in [
        ("{}", r#"{"tenant":"acme"}"#),
        (r#"{"tenant":"acme"}"#, r#"{"tenant":"acme"}"#),
        (r#"{"environment":"test"}"#, r#"{"tenant":"acme","environment":"test"}"#),
    ] {
        assert_eq!(allowed.admit(&context(requested)).unwrap(), context(admitted), "{requested}");
    }
    for (requested, key, words) in [
        (r#"{"tenant":"other"}"#, ContextKey::Tenant, "fixes “tenant” to “acme”"),
        (r#"{"project":"p"}"#, ContextKey::Project, "no “project”"),
        (r#"{"type":"t","project":"p"}"#, ContextKey::Project, "no “project”"),
    ] {
        let refusal = allowed.admit(&context(requested)).unwrap_err();
        assert!(refusal.key() == key && refusal.to_string().contains(words), "{refusal}");
    }
}

#[test]
fn context_rules_are_written_as_they_are_read() {
    for json in ["{}", r#"{"project":"p","tenant":"*"}"#] {
        assert_eq!(serde_json::to_string(&rules(json)).unwrap(), json);
    }
    for (json, words) in [
        (r#"{"tenant":"*","tenant":"acme"}"#, "twice"),
        (r#"{"colour":"red"}"#, "not a context key"),
        (r#"{"tenant":"a*"}"#, "not a slug"),
        (r#"{"tenant":null}"#, "invalid type"),
    ] {
        let error = serde_json::from_str::<ContextRules>(json).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
    }
    let pair = |text| ContextRules::parse_pair(text);
    assert_eq!(pair("tenant=*"), Ok((ContextKey::Tenant, ContextRule::Open)));
    assert_eq!(pair("tenant=acme"), Ok((ContextKey::Tenant, ContextRule::Fixed(slug("acme")))));
    assert!(pair("tenant").is_err() && pair("tenant=").is_err() && pair("tenant=a*").is_err());
}

#[test]
fn an_admin_may_give_any_context_by_default_and_other_roles_none() {
    assert_eq!(ContextRules::of_role(Role::Admin), ContextRules::open());
    assert_eq!(ContextRules::of_role(Role::Deployer), ContextRules::closed());
    assert_eq!(ContextRules::of_role(Role::Viewer), ContextRules::closed());
    let mut rules = ContextRules::open();
    for key in ContextKey::ALL {
        rules.set(key, ContextRule::Closed);
    }
    assert_eq!(rules, ContextRules::closed());
}

#[test]
fn a_revocation_counts_at_any_time_and_an_expiry_from_its_exact_time() {
    let expiring = grant(limited(), Some(second(10)));
    assert_eq!(expiring.state(second(9)), GrantState::Valid);
    assert_eq!(expiring.state(second(10)), GrantState::Expired);
    let revoked = Grant { revoked_at: Some(second(5)), ..expiring };
    assert_eq!(revoked.state(second(4)), GrantState::Revoked);
    assert_eq!(revoked.state(second(10)), GrantState::Revoked);
}

#[test]
fn contradictory_drafts_are_refused_by_field() {
    let now = second(10);
    let all = Permissions::unlimited_admin;
    let deployer = || Permissions { role: Role::Deployer, ..all() };
    let many: BTreeSet<Slug> = (0..257).map(|n| slug(&format!("s{n}"))).collect();
    for (draft, expected) in [
        (draft(all(), None), Ok(())),
        (draft(all(), Some(second(11))), Ok(())),
        (draft(all(), Some(now)), Err(DraftError::Ended(now))),
        (draft(deployer(), None), Err(DraftError::NothingNamed)),
        (draft(Permissions { spaces: only(&["a"]), ..deployer() }, None), Ok(())),
        (draft(Permissions { feeds: matching(&["*"]), ..deployer() }, None), Ok(())),
        (draft(Permissions { spaces: only(&[]), ..all() }, None), Err(DraftError::Empty("spaces"))),
        (draft(Permissions { feeds: matching(&[]), ..all() }, None), Err(DraftError::Empty("feeds"))),
        (
            draft(Permissions { spaces: SpaceLimit::Only(many), ..all() }, None),
            Err(DraftError::TooMany("spaces")),
        ),
    ] {
        assert_eq!(draft.check(now), expected, "{draft:?}");
    }
}

#[test]
fn json_shows_every_limit_and_null_for_none() {
    let shown = |grant: &Grant| serde_json::to_value(grant).unwrap();
    assert_eq!(
        shown(&grant(limited(), Some(second(60)))),
        serde_json::json!({
            "id": "00000000-0000-0000-0000-000000000000",
            "name": "ci",
            "role": "admin",
            "spaces": ["a", "b"],
            "feeds": ["prod-*"],
            "context": {"tenant": "acme", "environment": "*"},
            "repositories": ["app/one", "app/two"],
            "actions": ["pull", "push"],
            "created_at": "1970-01-01T00:00:00Z",
            "created_by": "local:tester",
            "expires_at": "1970-01-01T00:01:00Z",
            "revoked_at": null,
            "last_used_at": null,
        })
    );
    let all = shown(&grant(Permissions::unlimited_admin(), None));
    assert!(
        ["spaces", "feeds", "repositories", "expires_at"].iter().all(|member| all[member].is_null()),
        "{all}"
    );
}

fn limits() -> impl Strategy<Value = (SpaceLimit, FeedLimit)> {
    let spaces = proptest::collection::btree_set("[ab]".prop_map(|text| slug(&text)), 1..3);
    let feeds = proptest::collection::btree_set("\\*|[xy]\\*?|\\*[xy]", 1..3)
        .prop_map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<FeedPattern>>());
    (proptest::option::of(spaces), proptest::option::of(feeds))
        .prop_map(|(spaces, feeds)| (spaces.into(), feeds.into()))
}

fn any_rules() -> impl Strategy<Value = ContextRules> {
    let rule = prop_oneof![
        Just(ContextRule::Open),
        Just(ContextRule::Closed),
        "[pq]".prop_map(|text| ContextRule::Fixed(slug(&text))),
    ];
    proptest::collection::vec(rule, 5).prop_map(|chosen| {
        let mut rules = ContextRules::closed();
        for (key, rule) in ContextKey::ALL.into_iter().zip(chosen) {
            rules.set(key, rule);
        }
        rules
    })
}

fn any_scope() -> impl Strategy<Value = Scope> {
    let names = proptest::collection::btree_set("[mn]", 1..3)
        .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>());
    let actions = proptest::sample::subsequence(Action::ALL.to_vec(), 1..=2);
    (proptest::option::of(names), actions)
        .prop_map(|(repositories, actions)| Scope::new(repositories, Some(actions)).unwrap())
}

fn any_permissions() -> impl Strategy<Value = Permissions> {
    (proptest::sample::select(Role::ALL.to_vec()), limits(), any_rules(), any_scope()).prop_map(
        |(role, (spaces, feeds), context, scope)| Permissions { role, spaces, feeds, context, scope },
    )
}

fn any_draft() -> impl Strategy<Value = GrantDraft> {
    (any_permissions(), proptest::option::of(1_i64..5))
        .prop_map(|(permissions, end)| draft(permissions, end.map(second)))
}

/// `narrow` with the respects of `wide` whose bits are set. Two random permissions are seldom within each
/// other.
fn taking_over(mut narrow: Permissions, wide: &Permissions, respects: u8) -> Permissions {
    let is_taken = |bit: u8| respects & (1 << bit) != 0;
    if is_taken(0) {
        narrow.role = wide.role;
    }
    if is_taken(1) {
        narrow.spaces = wide.spaces.clone();
    }
    if is_taken(2) {
        narrow.feeds = wide.feeds.clone();
    }
    if is_taken(3) {
        narrow.context = wide.context.clone();
    }
    if is_taken(4) {
        narrow.scope = wide.scope.clone();
    }
    narrow
}

/// A request for credentials: feed, context, one repository and one action.
fn any_request() -> impl Strategy<Value = (FeedPath, Context, Scope)> {
    let feed = "[abc]/[xyz]{1,2}".prop_map(|text| text.parse().unwrap());
    let context = proptest::collection::vec(proptest::option::of("[pq]"), 5).prop_map(|values| {
        let mut context = Context::empty();
        for (key, value) in ContextKey::ALL.into_iter().zip(values) {
            if let Some(value) = value {
                context.insert(key, slug(&value));
            }
        }
        context
    });
    let one = ("[mno]", proptest::sample::select(Action::ALL.to_vec()))
        .prop_map(|(name, action)| Scope::new(Some([name.parse().unwrap()]), Some([action])).unwrap());
    (feed, context, one)
}

/// Returns whether the holder can get a credential of exactly this context and scope.
fn allows(permissions: &Permissions, (feed, context, scope): &(FeedPath, Context, Scope)) -> bool {
    permissions.may_deploy(feed)
        && permissions.context.admit(context).is_ok_and(|admitted| admitted == *context)
        && permissions.scope.contains(scope)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_covering_grant_allows_everything_that_the_covered_one_allows(
        wide in any_permissions(),
        narrow in any_permissions(),
        request in any_request(),
        take_over in proptest::bits::u8::masked(0b1_1111),
    ) {
        let narrow = taking_over(narrow, &wide, take_over);
        if wide.covers(&narrow).is_ok() {
            prop_assert!(!allows(&narrow, &request) || allows(&wide, &request));
            prop_assert!(!narrow.may_see(&request.0) || wide.may_see(&request.0));
            prop_assert!(!narrow.is_unlimited_admin() || wide.is_unlimited_admin());
            prop_assert!(wide.role.covers(narrow.role));
        }
    }

    #[test]
    fn everything_covers_itself_and_is_covered_by_the_unlimited_admin(permissions in any_permissions()) {
        prop_assert_eq!(permissions.covers(&permissions), Ok(()));
        prop_assert_eq!(Permissions::unlimited_admin().covers(&permissions), Ok(()));
    }

    #[test]
    fn no_chain_of_grants_ends_wider_than_it_began(
        first in any_draft(),
        drafts in proptest::collection::vec((any_draft(), proptest::bits::u8::masked(0b1_1111)), 1..12),
        request in any_request(),
    ) {
        let first = GrantDraft {
            permissions: Permissions { role: Role::Admin, ..first.permissions },
            ..first
        };
        let root = grant(first.permissions, first.expires_at);
        let mut last = root.clone();
        for (draft, take_over) in drafts {
            let permissions = taking_over(draft.permissions, &last.permissions, take_over);
            let draft = GrantDraft { permissions, ..draft };
            if last.may_create(&draft).is_ok() {
                prop_assert_eq!(root.permissions.covers(&draft.permissions), Ok(()));
                last = grant(draft.permissions, draft.expires_at);
            }
        }
        prop_assert!(!allows(&last.permissions, &request) || allows(&root.permissions, &request));
        prop_assert!(root.expires_at.is_none_or(|end| last.expires_at.is_some_and(|own| own <= end)));
    }

    #[test]
    fn admitted_contexts_are_exactly_those_that_the_rules_allow(rules in any_rules(), request in any_request()) {
        let requested = request.1;
        let refused = ContextKey::ALL.into_iter().find(|key| match (rules.rule(*key), requested.get(*key)) {
            (ContextRule::Closed, Some(_)) => true,
            (ContextRule::Fixed(fixed), Some(value)) => fixed != value,
            _ => false,
        });
        match rules.admit(&requested) {
            Err(refusal) => prop_assert_eq!(Some(refusal.key()), refused),
            Ok(admitted) => {
                prop_assert_eq!(refused, None);
                prop_assert_eq!(rules.admit(&admitted), Ok(admitted.clone()));
                for key in ContextKey::ALL {
                    match rules.rule(key) {
                        ContextRule::Fixed(fixed) => prop_assert_eq!(admitted.get(key), Some(fixed)),
                        ContextRule::Open => prop_assert_eq!(admitted.get(key), requested.get(key)),
                        ContextRule::Closed => prop_assert_eq!(admitted.get(key), None),
                    }
                }
            }
        }
    }
}
