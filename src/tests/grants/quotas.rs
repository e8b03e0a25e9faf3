//! Quotas of grants, and the revocation of a stolen grant with the grants that it made.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::access::grants::GrantsError;
use crate::access::grants::quotas::{MAX_IN_SPACE, MAX_OF_LIMITED, MAX_OF_MAKER, QuotaExceeded};
use crate::access::principal::Principal;
use crate::grant::{Grant, GrantState, Permissions};

use super::{DAY, World, admin_of, deployer_of};

impl World {
    /// Adds copies of `grant`'s row, made by `maker`. Their rights do not matter for quotas.
    async fn copy(&self, grant: &Grant, maker: &str, copies: usize) {
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
             INSERT INTO grants SELECT 'copy-' || $2 || i, name, token_hash, role, spaces, feeds, context, scope, \
             created_at, $2, expires_at, revoked_at, last_used_at, mac FROM grants, n WHERE id = $3",
        )
        .bind(i64::try_from(copies).unwrap())
        .bind(maker)
        .bind(grant.id.to_string())
        .execute(&mut self.sql().await)
        .await
        .unwrap();
    }

    async fn end_copies(&self) {
        let now = self.now().as_millisecond();
        let end = "UPDATE grants SET revoked_at = $1 WHERE id LIKE 'copy-%'";
        sqlx::query(end).bind(now).execute(&mut self.sql().await).await.unwrap();
    }

    async fn makes(
        &self,
        by: impl Into<Principal<'_>>,
        permissions: Permissions,
    ) -> Result<Grant, QuotaExceeded> {
        match self.grants.create(self.draft(permissions), by).await {
            Ok(new) => Ok(new.grant),
            Err(GrantsError::TooMany(quota)) => Err(quota),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn an_admin_with_limits_makes_no_more_than_its_quota_itself_or_through_others() {
    let world = World::new().await;
    let maker = world.make(admin_of(&["a"])).await.grant;
    let made = world.makes(&maker, admin_of(&["a"])).await.unwrap();
    world.copy(&maker, &format!("grant:{}", made.id), MAX_OF_MAKER - 2).await;
    let last = world.makes(&made, deployer_of("a", "prod")).await.unwrap();
    for by in [&maker, &made] {
        assert_eq!(world.makes(by, deployer_of("a", "prod")).await, Err(QuotaExceeded::OfMaker));
    }
    // Others are not affected: another maker of the same space, and those without limits.
    let other = world.make(admin_of(&["a"])).await.grant;
    world.makes(&other, deployer_of("a", "prod")).await.unwrap();
    let unlimited = world.make(Permissions::unlimited_admin()).await.grant;
    world.makes(&unlimited, deployer_of("a", "prod")).await.unwrap();
    // Ended grants do not count.
    world.grants.revoke(last.id, &made).await.unwrap();
    world.makes(&maker, deployer_of("a", "prod")).await.unwrap();
}

#[tokio::test]
async fn admins_with_limits_fill_neither_a_space_nor_the_reserve_of_those_without() {
    let world = World::new().await;
    let of_both = world.make(admin_of(&["a", "b"])).await.grant;
    let of_a = world.make(admin_of(&["a"])).await.grant;
    world.copy(&of_a, "local:somebody", MAX_IN_SPACE - 2).await;
    let full = world.makes(&of_both, deployer_of("a", "prod")).await.unwrap_err();
    assert!(matches!(full, QuotaExceeded::InSpace(ref space) if space.as_str() == "a"), "{full}");
    world.makes(&of_both, deployer_of("b", "prod")).await.unwrap();
    world.make(admin_of(&["a"])).await;

    world.copy(&of_both, "local:others", MAX_OF_LIMITED - MAX_IN_SPACE).await;
    let of_c = world.make(admin_of(&["c"])).await.grant;
    assert_eq!(world.makes(&of_c, deployer_of("c", "x")).await, Err(QuotaExceeded::All(MAX_OF_LIMITED)));
    let unlimited = world.make(Permissions::unlimited_admin()).await.grant;
    world.makes(&unlimited, deployer_of("c", "x")).await.unwrap();
    // Ended grants are removed to make room.
    world.end_copies().await;
    world.clock.advance(Duration::from_millis(1));
    let of_c = world.make(admin_of(&["c"])).await.grant;
    world.makes(&of_c, deployer_of("c", "x")).await.unwrap();
}

#[tokio::test]
async fn the_grants_that_a_grant_made_are_revoked_with_their_descendants() {
    let world = World::new().await;
    let thief = world.make(admin_of(&["a"])).await.grant;
    let child = world.makes(&thief, admin_of(&["a"])).await.unwrap();
    let grandchild = world.makes(&child, deployer_of("a", "prod")).await.unwrap();
    let innocent = world.make(admin_of(&["a"])).await.grant;
    let of_innocent = world.makes(&innocent, deployer_of("a", "prod")).await.unwrap();
    world.grants.revoke(thief.id, &world.me).await.unwrap();
    let revoked = world.grants.revoke_made_by(thief.id, &world.me).await.unwrap();
    let revoked: BTreeSet<_> = revoked.iter().map(|grant| grant.id).collect();
    assert_eq!(revoked, BTreeSet::from([child.id, grandchild.id]));
    let states = async || {
        let list = world.grants.list(&world.me).await.unwrap().grants;
        let state =
            |of: &Grant| list.iter().find(|grant| grant.id == of.id).map(|grant| grant.state(world.now()));
        [&thief, &child, &grandchild, &innocent, &of_innocent].map(state)
    };
    let (valid, ended) = (Some(GrantState::Valid), Some(GrantState::Revoked));
    assert_eq!(states().await, [ended, ended, ended, valid, valid]);
    // Repeating it changes nothing; each revocation was recorded once.
    assert!(world.grants.revoke_made_by(thief.id, &world.me).await.unwrap().is_empty());
    let rows = world.texts("SELECT grant_id FROM audit WHERE kind = 'grant.revoke' ORDER BY seq").await;
    assert_eq!(rows.len(), 3);
    let rows: BTreeSet<_> = rows.into_iter().collect();
    assert_eq!(rows, [thief.id, child.id, grandchild.id].map(|id| id.to_string()).into());
    // A grant outside the caller's view is treated as missing.
    let of_b = world.make(admin_of(&["b"])).await.grant;
    let refused = world.grants.revoke_made_by(innocent.id, &of_b).await;
    assert!(matches!(refused, Err(GrantsError::Unknown(id)) if id == innocent.id));
}

#[tokio::test]
async fn a_grant_that_ended_stays_for_as_long_as_one_that_it_made() {
    let world = World::new().await;
    let maker = world.make(admin_of(&["a"])).await.grant;
    let made = world.makes(&maker, deployer_of("a", "prod")).await.unwrap();
    world.grants.revoke(maker.id, &world.me).await.unwrap();
    world.clock.advance(110 * DAY);
    world.make(admin_of(&["b"])).await;
    let kept = world.texts("SELECT id FROM grants ORDER BY created_at, id").await;
    assert!(kept.contains(&maker.id.to_string()) && kept.contains(&made.id.to_string()), "{kept:?}");
    // The grant that it made expired after 30 days, and is listed for 90 more.
    world.clock.advance(20 * DAY);
    world.make(admin_of(&["b"])).await;
    let kept = world.texts("SELECT id FROM grants ORDER BY created_at, id").await;
    assert!(!kept.contains(&maker.id.to_string()) && !kept.contains(&made.id.to_string()), "{kept:?}");
}
