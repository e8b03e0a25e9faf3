//! Grants in a real database: created, listed, used and ended; and rows that carnet did not write.

mod forged;
mod life;
mod quotas;

use std::sync::Arc;
use std::time::Duration;

use crate::access::grants::{AuthenticationError, Grants, NewGrant};
use crate::carnet::{Config, MasterKeySource};
use crate::clock_watch::ClockWatch;
use crate::grant::{FeedLimit, Grant, GrantDraft, Permissions, Role, SpaceLimit};
use crate::store::IfMissing;
use crate::values::actor::Actor;
use crate::values::clock::{Clock as _, SimulatedClock};
use crate::values::random::SecureRandom;
use jiff::Timestamp;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A database and a simulated clock.
struct World {
    home: TempDir,
    clock: SimulatedClock,
    grants: Grants,
    me: Actor,
}

impl World {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let store = config(&home, &clock).open_trusted().await.unwrap();
        let watch = Arc::new(ClockWatch::new(Arc::new(clock.clone())));
        let grants = Grants::new(store, watch, Arc::new(SecureRandom::default()));
        Self { home, clock, grants, me: Actor::local("tester") }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn make(&self, permissions: Permissions) -> NewGrant {
        self.grants.create(self.draft(permissions), &self.me).await.unwrap()
    }

    /// Returns a draft that expires in 30 days.
    fn draft(&self, permissions: Permissions) -> GrantDraft {
        let expires_at = Some(self.now().checked_add(30 * DAY).unwrap());
        GrantDraft { name: "ci".parse().unwrap(), permissions, expires_at }
    }

    async fn authenticate(&self, made: &NewGrant) -> Result<Grant, AuthenticationError> {
        self.grants.authenticate(made.token.reveal(), self.now()).await
    }

    async fn sql(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.home.path().join("carnet.db"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn texts(&self, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(&mut self.sql().await).await.unwrap()
    }
}

fn config(home: &TempDir, clock: &SimulatedClock) -> Config {
    let path = |name| home.path().join(name);
    Config {
        if_missing: IfMissing::Create,
        clock: Arc::new(clock.clone()),
        ..Config::new(path("carnet.db").into(), MasterKeySource::Folder(path("keys")))
    }
}

/// Returns all rights in these spaces.
fn admin_of(spaces: &[&str]) -> Permissions {
    Permissions { spaces: spaces_of(spaces), ..Permissions::unlimited_admin() }
}

/// Returns the rights of a deployer of one feed.
fn deployer_of(space: &str, feed: &str) -> Permissions {
    Permissions {
        role: Role::Deployer,
        feeds: FeedLimit::Matching([feed.parse().unwrap()].into()),
        ..admin_of(&[space])
    }
}

fn spaces_of(spaces: &[&str]) -> SpaceLimit {
    SpaceLimit::Only(spaces.iter().map(|space| space.parse().unwrap()).collect())
}
