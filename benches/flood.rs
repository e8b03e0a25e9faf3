//! A deployer's requests beside floods, and the same alone, in turns.
//!
//! The real binary with the sandbox's clouds. In each round the deployer asks for a while with nothing beside
//! it, then beside each flood; the ratio of the two 99th percentiles is taken in each round, and the median of
//! the rounds is reported. Client, servers and flood share the machine, so that on few cores the ratio is
//! mostly that of the processor's time.

#![expect(clippy::print_stdout, reason = "the report is what a benchmark is run for")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "set-up that fails should end the benchmark where it stands"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;
#[path = "../tests/it/api/world.rs"]
#[allow(dead_code, reason = "a benchmark uses a part")]
mod world;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use carnet::internals::values::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use support::carnet::Issuer;
use support::http::Connection;
use world::{Api, Grant, World, credentials_of};

const ROUNDS: usize = 12;
/// The length of each turn of a round.
const TURN: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 32;
/// The address that a flood comes from.
const FLOODS_ADDRESS: &str = "X-Forwarded-For: 192.0.2.2\r\n";

/// Makes the request of a connection's number and of how many it has sent.
type Flood<'a> = (&'static str, Box<dyn Fn(usize, usize) -> String + Sync + 'a>);

fn main() {
    // The deployer and the flood come from different addresses, as a proxy says: one address has a rate of its own.
    let issuer = Issuer::http_with(&["--trusted-proxies=127.0.0.1"]);
    let sandbox = issuer.carnet.sandbox(&issuer.url, "");
    let admin = world::grant(&issuer.carnet, &["--role=admin", "--expires-in=never"]);
    let world = World { api: Api::of(&issuer.server), issuer, sandbox, admin };
    world.add_feed("default/own", &[]);
    let (deployer, hostile) = (
        world.grant(&["--role=deployer", "--space=default", "--context=tenant=*"]),
        world.grant(&["--role=deployer", "--space=default", "--context=tenant=*"]),
    );
    let viewer = world.grant(&["--role=viewer"]);
    let path = credentials_of("default/own");
    let contexts = |connection: usize, number: usize| {
        let body = json!({ "context": { "tenant": format!("t{connection}-{}-{number}", nonce()) } });
        request("POST", &path, &hostile, Some(&body))
    };
    let strangers = Grant { id: String::new(), token: "garbage".to_owned() };
    let floods: [Flood<'_>; 4] = [
        ("invented contexts", Box::new(contexts)),
        ("refusals of a grant", Box::new(|_, _| request("POST", &path, &viewer, Some(&json!({}))))),
        ("strangers", Box::new(|_, _| request("GET", "/audit", &strangers, None))),
        ("readers of the log", Box::new(|_, _| request("GET", "/audit?outcome=failed", &viewer, None))),
    ];
    println!("\nflood: a deployer beside {CONNECTIONS} connections of a flood; {ROUNDS} rounds\n");
    println!("{:<22}{:>12}{:>12}{:>8}{:>18}{:>12}", "", "alone", "beside", "ratio", "10 % – 90 %", "flood");
    for (name, flood) in &floods {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (alone, _) = turn(&world, &deployer, None);
            let (beside, answered) = turn(&world, &deployer, Some(flood.as_ref()));
            rounds.push((alone, beside, beside / alone, answered as f64 / TURN.as_secs_f64()));
        }
        let of = |part: fn(&(f64, f64, f64, f64)) -> f64, at: f64| quantile(rounds.iter().map(part), at);
        println!(
            "{name:<22}{:>9.1} ms{:>9.1} ms{:>8.2}{:>8.2} – {:<7.2}{:>8.0} /s",
            of(|round| round.0, 0.5) * 1e3,
            of(|round| round.1, 0.5) * 1e3,
            of(|round| round.2, 0.5),
            of(|round| round.2, 0.1),
            of(|round| round.2, 0.9),
            of(|round| round.3, 0.5),
        );
    }
    println!();
}

/// The deployer's 99th percentile in seconds, and how many requests of the flood were answered.
fn turn(
    world: &World,
    deployer: &Grant,
    flood: Option<&(dyn Fn(usize, usize) -> String + Sync)>,
) -> (f64, usize) {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let own = request("POST", &credentials_of("default/own"), deployer, Some(&json!({})));
    let own = own.replace(FLOODS_ADDRESS, "X-Forwarded-For: 192.0.2.1\r\n");
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (Some(flood), stop, answered) = (flood, &stop, &answered) else { break };
            scope.spawn(move || {
                let mut open = world.api.connect();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match send(&mut open, &flood(connection, number)) {
                        Some(_) => _ = answered.fetch_add(1, Ordering::Relaxed),
                        None => open = world.api.connect(),
                    }
                }
            });
        }
        let mut connection = world.api.connect();
        let (clock, mut took) = (SystemClock::new(), Vec::new());
        while clock.monotonic() < TURN {
            let asked = clock.monotonic();
            assert_eq!(send(&mut connection, &own), Some(200), "the deployer is always served");
            took.push((clock.monotonic() - asked).as_secs_f64());
            // Below what its grant may have.
            std::thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        (quantile(took.into_iter(), 0.99), answered.load(Ordering::Relaxed))
    })
}

fn request(method: &str, path: &str, of: &Grant, body: Option<&Value>) -> String {
    let body = body.map(Value::to_string).unwrap_or_default();
    format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n{FLOODS_ADDRESS}\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        of.token,
        body.len()
    )
}

fn send(connection: &mut Connection, request: &str) -> Option<u16> {
    connection.write(request.as_bytes());
    connection.try_answer(request.split(' ').next().unwrap_or_default()).map(|response| response.status)
}

/// A number that no other call gets.
fn nonce() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn quantile(values: impl Iterator<Item = f64>, at: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get((values.len() as f64 * at) as usize).or(values.last()).copied().unwrap_or(f64::NAN)
}
