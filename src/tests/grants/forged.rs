//! Rows of `grants` that an attacker wrote who has the database but not the master key.

use crate::access::grants::{AuthenticationError, GrantsError, NewGrant};
use crate::access::principal::{Principal, PrincipalError};
use crate::grant::Permissions;
use sqlx::AssertSqlSafe;

use super::{DAY, World, admin_of, deployer_of};

/// Returns an unlimited admin and a deployer, with the deployer's row changed.
async fn with_change(column: &str, value: &str) -> (World, NewGrant, NewGrant) {
    let world = World::new().await;
    let admin = world.make(Permissions::unlimited_admin()).await;
    world.clock.advance(DAY);
    let deployer = world.make(deployer_of("a", "prod")).await;
    let statement = format!("UPDATE grants SET {column} = {value} WHERE id = $1");
    let done = sqlx::query(AssertSqlSafe(statement)).bind(deployer.grant.id.to_string());
    assert_eq!(done.execute(&mut world.sql().await).await.unwrap().rows_affected(), 1, "{column}");
    (world, admin, deployer)
}

#[tokio::test]
async fn a_row_with_any_column_changed_is_not_honoured_and_is_reported() {
    let of_admin = |column: &str| format!("(SELECT {column} FROM grants ORDER BY created_at LIMIT 1)");
    for (column, value) in [
        ("name", "'other'".to_owned()),
        ("token_hash", of_admin("token_hash")),
        ("role", "'admin'".to_owned()),
        ("spaces", "NULL".to_owned()),
        ("spaces", r#"'["a","b"]'"#.to_owned()),
        ("feeds", "NULL".to_owned()),
        ("feeds", r#"'["*"]'"#.to_owned()),
        ("context", of_admin("replace(context, 'x', 'y') || ' '")),
        ("scope", r#"'{"actions":["push"]}'"#.to_owned()),
        ("created_at", "created_at - 1".to_owned()),
        ("created_by", "'local:other'".to_owned()),
        ("expires_at", "NULL".to_owned()),
        ("expires_at", "expires_at + 1".to_owned()),
        ("revoked_at", "1".to_owned()),
        ("mac", of_admin("mac")),
        ("mac", "''".to_owned()),
    ] {
        let (world, admin, deployer) = with_change(column, &value).await;
        let refused = world.authenticate(&deployer).await;
        assert!(matches!(refused, Err(AuthenticationError::Forged)), "{column}");
        assert!(world.authenticate(&admin).await.is_ok(), "{column}");
        let by = Principal::Local(&world.me);
        let list = world.grants.list(by).await.unwrap();
        assert_eq!(list.grants, [admin.grant], "{column}");
        assert_eq!(list.forged, [deployer.grant.id.to_string()], "{column}");
        let revoked = world.grants.revoke(deployer.grant.id, by).await;
        assert!(matches!(revoked, Err(GrantsError::Forged(_))), "{column}");
        let limited = world.make(admin_of(&["a"])).await.grant;
        assert!(world.grants.list(&limited).await.unwrap().forged.is_empty());
    }
}

#[tokio::test]
async fn a_revoked_grant_cannot_be_brought_back() {
    let world = World::new().await;
    let made = world.make(Permissions::unlimited_admin()).await;
    world.grants.revoke(made.grant.id, &world.me).await.unwrap();
    sqlx::query("UPDATE grants SET revoked_at = NULL").execute(&mut world.sql().await).await.unwrap();
    assert!(matches!(world.authenticate(&made).await, Err(AuthenticationError::Forged)));
    let made_by = world.grants.create(world.draft(admin_of(&["a"])), &made.grant).await;
    assert!(matches!(made_by, Err(GrantsError::Principal(PrincipalError::Ended(_)))));
}

#[tokio::test]
async fn an_added_or_renamed_row_is_not_honoured() {
    let world = World::new().await;
    let made = world.make(Permissions::unlimited_admin()).await;
    sqlx::query("UPDATE grants SET id = '00000000-0000-4000-8000-000000000001'")
        .execute(&mut world.sql().await)
        .await
        .unwrap();
    assert!(matches!(world.authenticate(&made).await, Err(AuthenticationError::Unknown)));
    let list = world.grants.list(&world.me).await.unwrap();
    assert_eq!((list.grants.len(), list.forged.len()), (0, 1));
}

#[tokio::test]
async fn only_the_last_use_may_be_changed_by_others() {
    let (world, _, deployer) = with_change("last_used_at", "5").await;
    assert_eq!(world.authenticate(&deployer).await.unwrap().last_used_at.unwrap().as_millisecond(), 5);
}

#[tokio::test]
async fn an_empty_list_never_means_no_limit() {
    // The MAC does not distinguish NULL from an empty text; carnet neither writes nor accepts an empty text
    // for a list.
    let world = World::new().await;
    let made = world.make(Permissions::unlimited_admin()).await;
    sqlx::query("UPDATE grants SET spaces = ''").execute(&mut world.sql().await).await.unwrap();
    assert!(matches!(world.authenticate(&made).await, Err(AuthenticationError::Store(_))));
}
