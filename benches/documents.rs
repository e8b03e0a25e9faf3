//! Requests for the JWKS: `serve` beside a bare hyper service and beside nginx, same bytes, same headers.
//!
//! All servers run at once and are asked in turn, a few milliseconds each, so that what slows the
//! machine down slows all of them down; ratios are taken in each round, and the median of the
//! rounds is reported. The client is one thread, and each server has one.
//!
//! Two ratios: of the answers per second, and of the processor time that the server's thread takes
//! for an answer. The second is the stricter one where the client is as busy as the server.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]

#[path = "documents/client.rs"]
mod client;
#[path = "documents/nginx.rs"]
mod nginx;
#[path = "documents/servers.rs"]
mod servers;
mod support;

use std::time::Duration;

use carnet::internals::oidc::metadata::JWKS_PATH;
use carnet::internals::values::clock::SystemClock;
use client::Client;
use servers::Server;
use support::{Outcome, Row, Spread, TemporaryIssuer, report};

const ROUNDS: usize = 200;
/// The time for which each server is measured in each round.
const TURN: Duration = Duration::from_millis(40);
const CONNECTIONS: usize = 32;

/// A server that is compared, its client, and what was measured in each round.
struct Contender {
    name: &'static str,
    to_reach: Option<f64>,
    server: Server,
    client: Client,
    /// Answers per second.
    rates: Vec<f64>,
    /// Microseconds of processor time for an answer.
    costs: Vec<f64>,
}

impl Contender {
    fn new(name: &'static str, to_reach: Option<f64>, server: Server) -> Outcome<Self> {
        let client = Client::connect(server.address, JWKS_PATH, CONNECTIONS)?;
        Ok(Self { name, to_reach, server, client, rates: Vec::new(), costs: Vec::new() })
    }

    fn take_a_turn(&mut self, clock: &SystemClock) -> Outcome {
        let before = self.server.processor_time()?;
        let (responses, elapsed) = self.client.run(TURN, clock)?;
        let busy = self.server.processor_time()? - before;
        self.rates.push(responses / elapsed.as_secs_f64());
        self.costs.push(busy.as_secs_f64() * 1e6 / responses);
        Ok(())
    }
}

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let temporary = runtime.block_on(TemporaryIssuer::open())?;
    let document = temporary.issuer().documents().jwks.clone();
    let mut carnet = Contender::new("carnet", None, servers::carnet(temporary.issuer().clone())?)?;
    let mut others = vec![Contender::new("bare hyper", Some(0.98), servers::bare_hyper(document.clone())?)?];
    let nginx = nginx::start(&document)?;
    let nginx_is_missing = nginx.is_none();
    for (index, (name, server)) in nginx.into_iter().flatten().enumerate() {
        others.push(Contender::new(name, (index == 0).then_some(1.5), server)?);
    }
    for other in &others {
        let (ours, theirs) = (carnet.client.response(), other.client.response());
        if ours != theirs {
            return Err(format!("{} answers otherwise: {ours:#?} {theirs:#?}", other.name).into());
        }
    }

    let clock = SystemClock::new();
    for _ in 0..ROUNDS {
        carnet.take_a_turn(&clock)?;
        for other in &mut others {
            other.take_a_turn(&clock)?;
        }
    }

    let mut rows = Vec::new();
    for other in &others {
        rows.push(Row {
            name: format!("{}, rate", other.name),
            ours: format!("{:.0} /s", Spread::of(carnet.rates.clone()).median),
            theirs: format!("{:.0} /s", Spread::of(other.rates.clone()).median),
            ratio: Spread::of(ratios(&carnet.rates, &other.rates)),
            to_reach: other.to_reach,
        });
        rows.push(Row {
            name: format!("{}, processor", other.name),
            ours: format!("{:.2} µs", Spread::of(carnet.costs.clone()).median),
            theirs: format!("{:.2} µs", Spread::of(other.costs.clone()).median),
            ratio: Spread::of(ratios(&other.costs, &carnet.costs)),
            to_reach: None,
        });
    }
    let bytes = document.body.len();
    let title = format!("documents: {ROUNDS} rounds, {bytes} bytes over {CONNECTIONS} connections");
    println!("{}", report(&title, &rows)?);
    if nginx_is_missing {
        println!("SKIPPED: the comparison with nginx, which is not installed\n");
    }
    Ok(())
}

fn ratios(dividends: &[f64], divisors: &[f64]) -> Vec<f64> {
    dividends.iter().zip(divisors).map(|(dividend, divisor)| dividend / divisor).collect()
}
