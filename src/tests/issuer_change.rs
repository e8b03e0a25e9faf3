//! A change of the issuer URL, seen by a process that still runs under the old one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::carnet::{Carnet, Config, MasterKeySource};
use crate::jose::Algorithm;
use crate::signing_keys::rotation::RotationRequest;
use crate::store::IfMissing;
use crate::values::actor::Actor;
use crate::values::clock::SimulatedClock;
use jiff::Timestamp;

async fn open(folder: &Path, url: &str, clock: &SimulatedClock, change_issuer: bool) -> Carnet {
    let config = Config {
        if_missing: IfMissing::Create,
        issuer: Some(url.parse().unwrap()),
        change_issuer,
        clock: Arc::new(clock.clone()),
        ..Config::new(folder.join("carnet.db").into(), MasterKeySource::Folder(folder.join("keys")))
    };
    Carnet::open(config).await.unwrap()
}

#[tokio::test]
async fn a_process_that_runs_under_the_old_url_confirms_nothing_and_rotates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = SimulatedClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    let old = open(folder.path(), "https://old.example", &clock, false).await;
    let new = open(folder.path(), "https://new.example", &clock, true).await;

    // The keys are the same, sealed again for the new URL.
    assert_eq!(new.issuer().key_set().active_kids(), old.issuer().key_set().active_kids());
    assert!(new.issuer().key_set().signer(Algorithm::Es256).is_some());

    clock.advance(Duration::from_secs(6));
    let changed = "the issuer was changed from https://old.example to https://new.example";
    assert!(old.issuer().refresh().await.unwrap_err().to_string().starts_with(changed));
    assert!(old.issuer().unconfirmed_for() >= Duration::from_secs(6), "it would go on minting");

    let request = RotationRequest {
        algorithms: Algorithm::ALL.to_vec(),
        seen: old.issuer().key_set().active_kids(),
        force: true,
    };
    let refused = old.rotator().rotate(&request, &Actor::local("test")).await.unwrap_err();
    assert!(refused.to_string().starts_with(changed), "{refused}");
    assert_eq!(new.rotator().rotate(&request, &Actor::local("test")).await.unwrap().changes.len(), 2);
}
