//! A flood, and what goes on beside it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::world::{Grant, World, credentials_of, success};
use crate::support::http::{Answer, Connection};

/// Connections of most floods.
const CONNECTIONS: usize = 32;

/// A flood lasts this long, and with `CARNET_TEST_LONG=1` that long.
const USUAL: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// The deployer asks this often: less than what a grant has of its own where its address has nothing left.
const PACE: Duration = Duration::from_millis(150);

/// A revoked key is gone from the JWKS so soon after the revocation's answer.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A request of a flood, given how many its connection has sent.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Whole lines with their ends.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn get(grant: &Grant, path: &str) -> Self {
        let headers = format!("Authorization: Bearer {}\r\n", grant.token);
        Self { method: "GET", path: path.to_owned(), headers, body: String::new() }
    }

    pub(crate) fn post(grant: &Grant, path: &str, body: &Value) -> Self {
        let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", grant.token);
        Self { method: "POST", path: path.to_owned(), headers, body: body.to_string() }
    }

    fn send(&self, connection: &mut Connection) -> Option<Answer> {
        let Self { method, path, headers, body } = self;
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write(head.as_bytes());
        connection.try_answer(method)
    }
}

/// Lets a flood run beside the deployer and a revocation; `of` makes a request of a connection's number and
/// of how many it has sent. Gives how many requests of the flood were answered.
pub(crate) fn beside(world: &World, of: impl Fn(usize, usize) -> Request + Sync) -> usize {
    let answered = beside_connections(world, CONNECTIONS, of);
    assert!(answered > 100, "{answered} requests are no flood");
    answered
}

/// The same, of another number of connections, whose requests need not be answered.
pub(crate) fn beside_connections(
    world: &World,
    connections: usize,
    of: impl Fn(usize, usize) -> Request + Sync,
) -> usize {
    world.add_feed("default/own", &[]);
    let deployer = world.grant(&["--role=deployer", "--space=default", "--context=tenant=*"]);
    let own = |tenant: &str| json!({ "context": { "tenant": tenant } });
    success(&world.credentials(&deployer, "default/own", &own("kept")));
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lasts = if std::env::var("CARNET_TEST_LONG").is_ok_and(|long| long == "1") { LONG } else { USUAL };
    std::thread::scope(|scope| {
        for connection in 0..connections {
            let (of, stop, answered, api) = (&of, &stop, &answered, &world.api);
            scope.spawn(move || {
                let mut open = api.connect();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    match of(connection, number).send(&mut open) {
                        Some(_) => _ = answered.fetch_add(1, Ordering::Relaxed),
                        None => open = api.connect(),
                    }
                }
            });
        }
        let asking = scope.spawn(|| {
            let asked = ask(world, &deployer, &stop);
            stop.store(true, Ordering::Relaxed);
            asked
        });
        let revoked = scope.spawn(|| {
            std::thread::sleep(lasts / 2);
            let took = revoke(world);
            std::thread::sleep(lasts / 2);
            stop.store(true, Ordering::Relaxed);
            took
        });
        // Whatever fails, the flood ends before it is told.
        let (asked, took) = (asking.join(), revoked.join());
        stop.store(true, Ordering::Relaxed);
        let (asked, took) = (asked.unwrap(), took.unwrap());
        assert!(asked >= 10, "the deployer was answered {asked} times only");
        assert!(took < GONE_WITHIN, "the revoked key was there for {took:?}");
    });
    answered.into_inner()
}

/// What the deployer has is given from memory, and what it lacks is fetched; gives how often it was answered.
fn ask(world: &World, deployer: &Grant, stop: &AtomicBool) -> usize {
    let path = credentials_of("default/own");
    let mut connection = world.api.connect();
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let began = now();
        let (tenant, source) = match asked % 5 {
            4 => (format!("own{asked}"), "exchange"),
            _ => ("kept".to_owned(), "cache"),
        };
        let request = Request::post(deployer, &path, &json!({ "context": { "tenant": tenant } }));
        let answer = request.send(&mut connection).expect("the server closed the deployer's connection");
        assert_eq!(answer.status, 200, "the deployer's request {asked} for {tenant}: {answer:?}");
        assert_eq!(answer.json()["source"], source, "the deployer's request {asked} for {tenant}");
        assert_eq!(connection.get("/healthz").status, 200);
        asked += 1;
        std::thread::sleep(PACE.saturating_sub(began.elapsed()));
    }
    asked
}

#[expect(clippy::disallowed_methods, reason = "what is measured happens in other programs, in real time")]
fn now() -> Instant {
    Instant::now()
}

/// Revokes the key that signs, and tells how long after that it was in the JWKS.
fn revoke(world: &World) -> Duration {
    let keys: Value =
        serde_json::from_str(&world.issuer.carnet.ok(&["key", "list", "--output=json"])).unwrap();
    let active =
        keys.as_array().unwrap().iter().find(|key| key["state"] == "active" && key["alg"] == "ES256");
    let kid = active.unwrap()["kid"].as_str().unwrap();
    world.issuer.carnet.ok(&["key", "revoke", kid, "--yes"]);
    let answered = now();
    let mut connection = world.api.connect();
    loop {
        let asked = answered.elapsed();
        let jwks = connection.get("/.well-known/jwks").json();
        let is_there = jwks["keys"].as_array().unwrap().iter().any(|key| key["kid"] == kid);
        if !is_there || asked > 10 * GONE_WITHIN {
            return asked;
        }
    }
}
