//! Events that become durable in the audit log in a second: by group commit, and with one transaction each.
//! A growing number of clients each wait for their event before they record the next one.
//!
//! Both write to their own databases, in turns, so that a slow disk slows both down.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]
#![allow(dead_code, reason = "this bench uses a part of what benches share")]

mod support;

use std::sync::Arc;

use carnet::internals::Parts as _;
use carnet::internals::audit::{Event, EventKind, Outcome as Became};
use carnet::internals::audit_log::AuditLog;
use carnet::internals::store::Trusted;
use carnet::internals::values::actor::Actor;
use carnet::internals::values::clock::{Clock, SystemClock};
use support::{Outcome, Row, Spread, TemporaryIssuer, report};

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const ROUNDS: usize = 15;
/// So many events are written in a round, or two for each client if that is more.
const EVENTS: usize = 128;

/// One of the two.
#[derive(Clone)]
enum Recorder {
    Group(AuditLog),
    Each(Trusted, Arc<dyn Clock>),
}

impl Recorder {
    async fn record(&self, event: Event) -> Outcome {
        match self {
            Self::Group(log) => log.record(event).await.map(drop)?,
            Self::Each(store, clock) => {
                let mut write = store.write().await?;
                write.append_audit(clock.now(), &[event]).await?;
                write.commit().await?;
            }
        }
        Ok(())
    }

    /// Events a second.
    async fn rate(&self, clients: usize) -> Outcome<f64> {
        let each = (EVENTS / clients).max(2);
        let clock = SystemClock::new();
        let start = clock.monotonic();
        let working: Vec<_> = (0..clients)
            .map(|_| {
                let recorder = self.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        recorder.record(event()).await?;
                    }
                    Outcome::Ok(())
                })
            })
            .collect();
        for client in working {
            client.await??;
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred events")]
        let events = (clients * each) as f64;
        Ok(events / (clock.monotonic() - start).as_secs_f64())
    }
}

fn main() -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run())
}

async fn run() -> Outcome {
    let (ours, theirs) = (TemporaryIssuer::open().await?, TemporaryIssuer::open().await?);
    let group = Recorder::Group(ours.carnet.audit_log().clone());
    let each = Recorder::Each(theirs.carnet.store().clone(), Arc::clone(theirs.carnet.clock()));
    let mut rows = Vec::new();
    for clients in CLIENTS {
        let (mut rates, mut other_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            // Either goes first as often as the other.
            let (ours, theirs) = if round % 2 == 0 {
                let ours = group.rate(clients).await?;
                (ours, each.rate(clients).await?)
            } else {
                let theirs = each.rate(clients).await?;
                (group.rate(clients).await?, theirs)
            };
            // The first round makes files and caches warm.
            if round > 0 {
                rates.push(ours);
                other_rates.push(theirs);
                ratios.push(ours / theirs);
            }
        }
        rows.push(Row {
            name: format!("{clients} clients"),
            ours: format!("{:.0}/s", Spread::of(rates).median),
            theirs: format!("{:.0}/s", Spread::of(other_rates).median),
            ratio: Spread::of(ratios),
            to_reach: None,
        });
    }
    let title = format!("audit: {ROUNDS} rounds; rate of group commit ÷ rate of one transaction an event");
    println!("{}", report(&title, &rows)?);
    for store in [ours.carnet.store(), theirs.carnet.store()] {
        let verified = store.verify_audit(&[]).await?;
        println!("{} rows verified, {} findings", verified.rows, verified.findings.len());
    }
    Ok(())
}

fn event() -> Event {
    Event::new(EventKind::Credential, Became::Done, &Actor::server())
        .detail("cache, expires at 2026-03-01T13:00:00Z")
}
