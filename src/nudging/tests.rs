use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::feed::FeedDraft;
use crate::feed::endpoints::Endpoints;
use crate::store::IfMissing;
use crate::values::clock::SimulatedClock;

const MINUTE: Duration = Duration::from_secs(60);

struct World {
    _folder: tempfile::TempDir,
    clock: SimulatedClock,
    carnet: Carnet,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let master_key = MasterKeySource::Folder(folder.path().join("keys"));
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            clock: Arc::new(clock.clone()),
            ..Config::new(folder.path().join("carnet.db").into(), master_key)
        };
        Self { carnet: Carnet::open(config).await.unwrap(), _folder: folder, clock }
    }

    /// Adds feeds of roles in the accounts with these numbers.
    async fn add_feeds(&self, accounts: std::ops::Range<u64>) {
        let mut write = self.carnet.store().write().await.unwrap();
        for number in accounts {
            let account = 100_000_000_000 + number;
            let role = json!({"type": "aws-ecr", "role_arn": format!("arn:aws:iam::{account}:role/pull")});
            let draft = FeedDraft {
                space: "default".parse().unwrap(),
                slug: format!("feed-{number}").parse().unwrap(),
                name: None,
                registry: format!("{account}.dkr.ecr.eu-central-1.amazonaws.com").parse().unwrap(),
                provider: serde_json::from_value(role).unwrap(),
                audience: None,
                subject_keys: None,
                alg: None,
                token_lifetime: None,
                endpoints: Endpoints::default(),
            };
            let id = Uuid::from_u128(u128::from(number) + 1);
            let feed = Feed::new(draft, id, 60 * MINUTE, self.clock.now()).unwrap();
            write.insert_feed(&feed).await.unwrap();
        }
        write.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_verifiers_are_nudged_and_what_is_left_out_is_said() {
    let world = World::new().await;
    let nudging = world.carnet.nudging();
    world.add_feeds(0..1000).await;
    let (verifiers, is_cut) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    assert_eq!((verifiers.len(), is_cut), (1000, false));
    world.add_feeds(1000..1002).await;
    let (verifiers, is_cut) = nudging.verifiers(Algorithm::Es256).await.unwrap();
    assert_eq!((verifiers.len(), is_cut), (1000, true));
    assert!(nudging.verifiers(Algorithm::Rs256).await.unwrap().0.is_empty());
}
