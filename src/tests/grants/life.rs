//! A grant between its creation and its end.

use std::time::Duration;

use crate::Carnet;
use crate::access::grants::{AuthenticationError, GrantsError, MAX_GRANTS};
use crate::access::principal::{Principal, PrincipalError};
use crate::carnet::Config;
use crate::grant::{DraftError, Grant, GrantDraft, GrantToken, Permissions, Role, TokenError, Wider};
use crate::values::clock::{Clock as _, SimulatedClock};
use crate::values::random::SecureRandom;
use jiff::Timestamp;
use uuid::Uuid;

use super::{DAY, World, admin_of, config, deployer_of};

#[tokio::test]
async fn a_grant_reads_back_as_it_was_made_by_its_token_and_its_token_is_stored_nowhere() {
    let world = World::new().await;
    for permissions in [Permissions::unlimited_admin(), admin_of(&["a", "b"]), deployer_of("a", "prod-*")] {
        let made = world.make(permissions.clone()).await;
        let found = world.authenticate(&made).await.unwrap();
        assert_eq!((&found, &found.permissions), (&made.grant, &permissions));
        assert_eq!(found.created_by, "local:tester");
        let token = made.token.reveal();
        for file in std::fs::read_dir(world.home.path()).unwrap() {
            let Ok(bytes) = std::fs::read(file.unwrap().path()) else { continue };
            // The random part; the id before it is not secret.
            let secret = &token.as_bytes()[29..72];
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_and_only_its_holder_gets_the_reason() {
    let world = World::new().await;
    let made = world.make(deployer_of("a", "prod")).await;
    let another = GrantToken::generate(made.grant.id, &SecureRandom::default()).unwrap();
    let unknown = GrantToken::generate(Uuid::from_u128(7), &SecureRandom::default()).unwrap();
    let mut mistyped = made.token.reveal().to_owned();
    mistyped.replace_range(30..31, if &mistyped[30..31] == "a" { "b" } else { "a" });
    let refused = async |token: &str| world.grants.authenticate(token, world.now()).await.unwrap_err();
    assert!(matches!(refused(another.reveal()).await, AuthenticationError::Unknown));
    assert!(matches!(refused(unknown.reveal()).await, AuthenticationError::Unknown));
    assert!(matches!(refused("").await, AuthenticationError::Malformed(TokenError::Form)));
    assert!(matches!(refused(&mistyped).await, AuthenticationError::Malformed(TokenError::Checksum)));

    world.clock.advance(30 * DAY - Duration::from_millis(1));
    assert!(world.authenticate(&made).await.is_ok());
    world.clock.advance(Duration::from_millis(1));
    assert!(matches!(world.authenticate(&made).await, Err(AuthenticationError::Expired)));
    world.grants.revoke(made.grant.id, &world.me).await.unwrap();
    assert!(matches!(world.authenticate(&made).await, Err(AuthenticationError::Revoked)));
    // A caller with another token does not even learn that the grant has ended.
    assert!(matches!(refused(another.reveal()).await, AuthenticationError::Unknown));
    for error in
        [refused(made.token.reveal()).await, refused(another.reveal()).await, refused(&mistyped).await]
    {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(&made.token.reveal()[35..50]) && !shown.contains(&another.reveal()[35..50]));
    }
}

#[tokio::test]
async fn a_revocation_is_made_once_and_recorded_once() {
    let world = World::new().await;
    let made = world.make(deployer_of("a", "prod")).await;
    let two = world.make(admin_of(&["a", "b"])).await;
    let by = Principal::Local(&world.me);
    let first = world.grants.revoke(made.grant.id, by).await.unwrap();
    assert!(first.is_new && first.grant.revoked_at == Some(world.now()));
    world.clock.advance(DAY);
    let again = world.grants.revoke(made.grant.id, by).await.unwrap();
    assert_eq!((again.is_new, again.grant.revoked_at), (false, first.grant.revoked_at));
    let id = Uuid::from_u128(7);
    assert!(matches!(world.grants.revoke(id, by).await, Err(GrantsError::Unknown(unknown)) if unknown == id));
    let recorded = world
        .texts(
            "SELECT kind || ' ' || actor || ' ' || coalesce(space, '-') || ' ' || grant_id FROM audit \
             WHERE kind LIKE 'grant%' ORDER BY seq",
        )
        .await;
    let (one, two) = (made.grant.id, two.grant.id);
    let expected = [
        format!("grant.create local:tester a {one}"),
        format!("grant.create local:tester - {two}"),
        format!("grant.revoke local:tester a {one}"),
    ];
    assert_eq!(recorded, expected);
}

#[tokio::test]
async fn no_grant_makes_a_wider_one_or_any_after_its_end() {
    let world = World::new().await;
    let admin = world.make(admin_of(&["a"])).await.grant;
    let deployer = world.make(deployer_of("a", "prod")).await.grant;
    let create = async |draft: GrantDraft, by: &Grant| world.grants.create(draft, by).await;

    let made = create(world.draft(deployer_of("a", "prod")), &admin).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(made.grant.created_by, format!("grant:{}", admin.id));
    let wider = |result: Result<_, GrantsError>| match result {
        Err(GrantsError::Wider(wider)) => wider,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("made"),
    };
    assert_eq!(wider(create(world.draft(deployer_of("b", "prod")), &admin).await), Wider::Spaces);
    let unending = GrantDraft { expires_at: None, ..world.draft(deployer_of("a", "prod")) };
    assert_eq!(wider(create(unending, &admin).await), Wider::Expiry);
    assert_eq!(wider(create(world.draft(deployer_of("a", "prod")), &deployer).await), Wider::NotAnAdmin);
    // The stored row counts, not the grant that was authenticated.
    let inflated = Grant { permissions: Permissions::unlimited_admin(), ..admin.clone() };
    assert_eq!(wider(create(world.draft(Permissions::unlimited_admin()), &inflated).await), Wider::Spaces);

    world.grants.revoke(admin.id, &world.me).await.unwrap();
    let ended = create(world.draft(deployer_of("a", "prod")), &admin).await;
    assert!(matches!(ended, Err(GrantsError::Principal(PrincipalError::Ended(id))) if id == admin.id));
    let revoked_by = world.grants.revoke(deployer.id, &admin).await;
    assert!(matches!(revoked_by, Err(GrantsError::Principal(PrincipalError::Ended(_)))));
}

#[tokio::test]
async fn a_caller_sees_and_revokes_only_grants_that_its_own_covers_in_every_respect() {
    let world = World::new().await;
    let all = world.make(Permissions::unlimited_admin()).await.grant;
    let a = world.make(admin_of(&["a"])).await.grant;
    let ab = world.make(admin_of(&["a", "b"])).await.grant;
    let in_b = world.make(deployer_of("b", "prod")).await.grant;
    let viewer_of_b = world.make(Permissions { role: Role::Viewer, ..admin_of(&["b"]) }).await.grant;
    let everywhere = Permissions { role: Role::Deployer, ..Permissions::unlimited_admin() };
    let everywhere = Permissions { feeds: deployer_of("a", "*").feeds, ..everywhere };
    let everywhere = world.make(everywhere).await.grant;
    for (who, seen) in [
        (Principal::Local(&world.me), vec![&all, &a, &ab, &in_b, &viewer_of_b, &everywhere]),
        (Principal::Grant(&all), vec![&all, &a, &ab, &in_b, &viewer_of_b, &everywhere]),
        (Principal::Grant(&ab), vec![&a, &ab, &in_b, &viewer_of_b]),
        (Principal::Grant(&a), vec![&a]),
        (Principal::Grant(&viewer_of_b), vec![&viewer_of_b]),
    ] {
        let mut expected: Vec<_> = seen.into_iter().map(|grant| grant.id).collect();
        let mut listed: Vec<_> =
            world.grants.list(who).await.unwrap().grants.iter().map(|grant| grant.id).collect();
        expected.sort();
        listed.sort();
        assert_eq!(listed, expected, "{who:?}");
    }
    assert!(matches!(world.grants.list(&in_b).await, Err(GrantsError::Role(Role::Deployer))));

    // A grant outside the caller's view is treated as missing.
    for hidden in [&all, &ab, &in_b, &everywhere] {
        let refused = world.grants.revoke(hidden.id, &a).await;
        assert!(matches!(refused, Err(GrantsError::Unknown(id)) if id == hidden.id));
    }
    let by_viewer = world.grants.revoke(in_b.id, &viewer_of_b).await;
    assert!(matches!(by_viewer, Err(GrantsError::Role(Role::Viewer))));
    assert!(world.grants.revoke(in_b.id, &ab).await.unwrap().is_new);
}

#[tokio::test]
async fn a_contradictory_draft_changes_nothing() {
    let world = World::new().await;
    let ended = GrantDraft { expires_at: Some(world.now()), ..world.draft(admin_of(&["a"])) };
    let by = Principal::Local(&world.me);
    let refused = world.grants.create(ended, by).await;
    assert!(matches!(refused, Err(GrantsError::Draft(DraftError::Ended(_)))));
    assert!(world.grants.list(by).await.unwrap().grants.is_empty());
    assert_eq!(world.texts("SELECT kind FROM audit WHERE kind LIKE 'grant%'").await, Vec::<String>::new());
}

#[tokio::test]
async fn no_grant_is_made_beyond_the_maximum_until_one_has_ended() {
    let world = World::new().await;
    let first = world.make(admin_of(&["a"])).await.grant;
    // Copies with other ids: their rights do not matter for the count.
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         INSERT INTO grants SELECT 'copy-' || i, name, token_hash, role, spaces, feeds, context, scope, created_at, \
         created_by, expires_at, revoked_at, last_used_at, mac FROM grants, n",
    )
    .bind(i64::try_from(MAX_GRANTS).unwrap() - 2)
    .execute(&mut world.sql().await)
    .await
    .unwrap();
    let last = world.make(admin_of(&["a"])).await.grant;
    assert!(last.expires_at > Some(world.now()));
    let refused = world.grants.create(world.draft(admin_of(&["a"])), &world.me).await;
    assert!(matches!(refused, Err(GrantsError::TooMany(_))));
    world.grants.revoke(first.id, &world.me).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    world.make(admin_of(&["a"])).await;
    assert_eq!(world.texts("SELECT CAST(COUNT(*) AS TEXT) FROM grants").await, [MAX_GRANTS.to_string()]);
}

#[tokio::test]
async fn a_grant_is_listed_for_ninety_days_after_its_end() {
    let world = World::new().await;
    let first = world.make(admin_of(&["a"])).await.grant;
    world.clock.advance(30 * DAY);
    let second = world.make(admin_of(&["a"])).await.grant;
    let listed = async || {
        world.make(admin_of(&["b"])).await;
        let all = world.grants.list(&world.me).await.unwrap().grants;
        [&first, &second].map(|grant| all.iter().any(|listed| listed.id == grant.id))
    };
    world.clock.advance(90 * DAY);
    assert_eq!(listed().await, [true, true]);
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(listed().await, [false, true]);
    world.grants.revoke(second.id, &world.me).await.unwrap();
    // It had expired 60 days before it was revoked: the earlier end counts.
    world.clock.advance(30 * DAY);
    assert_eq!(listed().await, [false, false]);
}

#[tokio::test]
async fn the_last_use_is_written_every_minute_and_at_the_end_and_never_goes_back() {
    let home = tempfile::tempdir().unwrap();
    let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let config = Config { issuer: Some("https://issuer.example".parse().unwrap()), ..config(&home, &clock) };
    let carnet = Carnet::open(config).await.unwrap();
    let grants = carnet.grants();
    let me = crate::values::actor::Actor::local("tester");
    let draft = GrantDraft { name: "ci".parse().unwrap(), permissions: admin_of(&["a"]), expires_at: None };
    let made = grants.create(draft, &me).await.unwrap();
    let last_used =
        async || grants.authenticate(made.token.reveal(), clock.now()).await.unwrap().last_used_at;
    let mut maintenance = carnet.maintenance();
    let used_at = clock.now();
    grants.note_used(made.grant.id, used_at);
    clock.advance(Duration::from_secs(59));
    maintenance.tick().await;
    assert_eq!(last_used().await, None);
    clock.advance(Duration::from_secs(11));
    maintenance.tick().await;
    assert_eq!(last_used().await, Some(used_at));
    grants.note_used(made.grant.id, used_at.checked_sub(DAY).unwrap());
    maintenance.finish().await;
    assert_eq!(last_used().await, Some(used_at));
    grants.note_used(made.grant.id, clock.now());
    maintenance.finish().await;
    assert_eq!(last_used().await, Some(clock.now()));
}
