//! A flood, and the requests that must work during it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::world::{Grant, World, credentials_of, success};
use crate::support::http::{Connection, HttpResponse};

/// The connections of most floods.
const CONNECTIONS: usize = 32;

/// The duration of a flood, and its duration with `CARNET_TEST_LONG=1`.
const USUAL: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

/// The deployer's interval: within the minimum rate that a grant has when its address has used up its budget.
const PACE: Duration = Duration::from_millis(150);

/// The maximum time from the revocation's response until the key is gone from the JWKS.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// A request of a flood, made from the number of requests that its connection has sent.
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// Complete lines with their line ends.
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

    fn send(&self, connection: &mut Connection) -> Option<HttpResponse> {
        let Self { method, path, headers, body } = self;
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: carnet.test\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write(head.as_bytes());
        connection.try_answer(method)
    }
}

/// Runs a flood beside the deployer and a revocation; `of` makes a request from a connection's number and the
/// number of requests that it has sent. Returns the number of answered flood requests.
pub(crate) fn beside(world: &World, of: impl Fn(usize, usize) -> Request + Sync) -> usize {
    let answered = beside_connections(world, CONNECTIONS, of);
    assert!(answered > 100, "{answered} requests are no flood");
    answered
}

/// The same, with another number of connections, whose requests need not be answered.
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
        // Stop the flood before any failure is reported.
        let (asked, took) = (asking.join(), revoked.join());
        stop.store(true, Ordering::Relaxed);
        let (asked, took) = (asked.unwrap(), took.unwrap());
        assert!(asked >= 10, "the deployer was answered {asked} times only");
        assert!(took < GONE_WITHIN, "the revoked key was there for {took:?}");
    });
    answered.into_inner()
}

/// Requests cached and new credentials for the deployer; returns the number of responses.
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
        let response = request.send(&mut connection).expect("the server closed the deployer's connection");
        assert_eq!(response.status, 200, "the deployer's request {asked} for {tenant}: {response:?}");
        assert_eq!(response.json()["source"], source, "the deployer's request {asked} for {tenant}");
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

/// Revokes the active key and returns how long it stayed in the JWKS.
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
