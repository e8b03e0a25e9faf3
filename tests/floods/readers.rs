//! Floods of viewers who ask a large log for what it takes long to find.

use ::carnet::actor::Actor;
use ::carnet::audit::{Event, EventKind, Outcome};
use ::carnet::carnet::{Carnet, Config, MasterKeySource};

use crate::beside::{Request, beside};
use crate::world::{Grant, World};

const ROWS: usize = 100_000;

/// Records as many events as a busy month leaves.
fn fill(world: &World) {
    let ours = &world.issuer.carnet;
    let config = Config::new(ours.database().into(), MasterKeySource::Folder(ours.keys_dir()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let carnet = Carnet::open(config).await.unwrap();
        for begin in (0..ROWS).step_by(2_000) {
            let recorded: Vec<_> = (begin..begin + 2_000)
                .map(|number| {
                    let event = Event::new(EventKind::Credential, Outcome::Done, &Actor::local("filler"));
                    let (log, event) = (carnet.audit_log().clone(), event.detail(&format!("{number}")));
                    tokio::spawn(async move { log.record(event).await })
                })
                .collect();
            for recorded in recorded {
                recorded.await.unwrap().unwrap();
            }
        }
        carnet.store().close().await;
    });
}

#[test]
fn readers_of_a_large_log_stop_nobody() {
    let world = World::new("");
    fill(&world);
    let viewers: Vec<Grant> = (0..8).map(|_| world.grant(&["--role=viewer"])).collect();
    let paths = [
        "/audit?outcome=failed",
        "/audit?feed=nosuch",
        "/audit?since=2020-01-01T00:00:00Z",
        "/audit?since=2020-01-01T00:00:00Z&outcome=refused",
    ];
    beside(&world, |connection, number| {
        Request::get(
            &viewers[connection % viewers.len()],
            paths[(connection / viewers.len() + number) % paths.len()],
        )
    });
}
