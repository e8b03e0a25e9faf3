//! One of the two servers, and the requests that both are asked.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use carnet::internals::values::clock::{Clock as _, SystemClock};
use serde_json::json;

use crate::fill::{self, Known, POPULAR, Size};
use crate::spread::Spread;
use crate::support::http::Connection;
use crate::world::{Grant, REGISTRY, World};

/// A page of the same length on both sides, whatever the log holds.
const LIMIT: &str = "limit=10";

/// A registry that no feed has.
const NOBODYS: &str = "999999999999.dkr.ecr.eu-central-1.amazonaws.com";

/// Nothing that is measured is refused for its rate.
const RATES: [&str; 4] =
    ["--grant-rate=100000", "--grant-burst=100000", "--address-rate=100000", "--address-burst=100000"];

/// Seconds that both needed in each round.
#[derive(Debug, Default)]
pub(crate) struct Timed {
    pub(crate) small: Vec<f64>,
    pub(crate) large: Vec<f64>,
}

/// A server, whoever calls it, and what is in its database.
pub(crate) struct Side {
    world: World,
    known: Known,
    viewer: Grant,
    viewer_of_space: Grant,
    viewer_of_feed: Grant,
    viewer_of_pattern: Grant,
    admin_of_space: Grant,
    deployer: Grant,
    deployer_of_space: Grant,
    deployer_of_feed: Grant,
    deployer_of_nothing: Grant,
}

/// One request that is asked again and again.
pub(crate) struct Asked {
    connection: Connection,
    request: String,
    method: &'static str,
    expected: u16,
}

impl Asked {
    /// The median of so many times, in seconds.
    pub(crate) fn median_of(&mut self, times: usize) -> f64 {
        let clock = SystemClock::new();
        let took = (0..times).map(|_| {
            let began = clock.monotonic();
            self.connection.write(self.request.as_bytes());
            let response = self.connection.response(self.method);
            let took = clock.monotonic() - began;
            assert_eq!(response.status, self.expected, "{}\n{response:?}", self.request);
            took.as_secs_f64()
        });
        Spread::of(took.collect()).median
    }
}

impl Side {
    /// Sets up an issuer, fills its database while no server runs, and serves it.
    pub(crate) fn filled(size: Size) -> Self {
        let clock = SystemClock::new();
        let mut world = World::new("");
        world.add_feed("default/own", &[]);
        world.add_feed("default/popular", &["--registry", POPULAR]);
        for slug in ["a", "b", "c"] {
            world.add_feed(
                &format!("here/{slug}"),
                &["--registry", "111111111111.dkr.ecr.eu-central-1.amazonaws.com"],
            );
        }
        stop(&mut world);
        let began = clock.monotonic();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let known = runtime.block_on(fill::fill(&world.issuer.carnet, size));
        println!("filled {} feeds and {} rows in {:.1?}", size.feeds, size.rows, clock.monotonic() - began);
        let of_space = format!("--space={}", known.space);
        let of_feed = format!("--feed={}", known.feed);
        let mut side = Self {
            viewer: world.grant(&["--role=viewer"]),
            viewer_of_space: world.grant(&["--role=viewer", &of_space]),
            viewer_of_feed: world.grant(&["--role=viewer", &of_feed]),
            viewer_of_pattern: world.grant(&["--role=viewer", "--feed=feed-*"]),
            admin_of_space: world.grant(&["--role=admin", &of_space]),
            deployer: world.grant(&["--role=deployer", "--feed=*"]),
            deployer_of_space: world.grant(&["--role=deployer", "--space=default"]),
            deployer_of_feed: world.grant(&["--role=deployer", "--feed=popular"]),
            deployer_of_nothing: world.grant(&["--role=deployer", "--feed=no-*"]),
            world,
            known,
        };
        side.serve();
        side
    }

    fn serve(&mut self) {
        let issuer = &mut self.world.issuer;
        let listen = issuer.url.trim_start_matches("http://");
        issuer.server = issuer.carnet.serve(&issuer.url, listen, &RATES).unwrap();
    }

    /// A connection on which the request is asked.
    pub(crate) fn ask(&self, of: &Request) -> Asked {
        let request = (of.request)(self);
        let method = if request.starts_with("POST") { "POST" } else { "GET" };
        Asked { connection: self.world.api.connect(), request, method, expected: of.expected }
    }

    /// Ends the server and measures how long the next one takes to announce itself, in seconds.
    pub(crate) fn restart(&mut self) -> f64 {
        stop(&mut self.world);
        let issuer = &self.world.issuer;
        let listen = issuer.url.trim_start_matches("http://");
        let mut command = issuer.carnet.command(&["serve", "--issuer", &issuer.url, "--listen", listen]);
        let clock = SystemClock::new();
        let began = clock.monotonic();
        let mut started = Started::of(&mut command);
        let mut line = String::new();
        BufReader::new(started.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let took = clock.monotonic() - began;
        assert!(line.contains("listening"), "{line}");
        started.stop();
        took.as_secs_f64()
    }

    /// Runs a command on the database and measures that, in seconds. Its outcome does not matter: `doctor` misses a server.
    pub(crate) fn run(&self, arguments: &[&str]) -> f64 {
        let (clock, mut command) = (SystemClock::new(), self.world.issuer.carnet.command(arguments));
        let began = clock.monotonic();
        let output = command.stdin(Stdio::null()).output().unwrap();
        let took = clock.monotonic() - began;
        assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        took.as_secs_f64()
    }

    fn get(path: &str, of: &Grant) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n\r\n", of.token)
    }

    fn page(query: &str, of: &Grant) -> String {
        Self::get(&format!("/api/v1/audit?{LIMIT}&{query}"), of)
    }

    fn of_registry(host: &str, of: &Grant) -> String {
        let body = json!({}).to_string();
        format!(
            "POST /api/v1/registries/{host}/credentials HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            of.token,
            body.len()
        )
    }

    /// The processor time of the server so far, in seconds.
    fn processor_time(&self) -> f64 {
        let stat = format!("/proc/{}/stat", self.world.issuer.server.process.id());
        let stat = std::fs::read_to_string(stat).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1;
        let ticks = |field: usize| after_name.split(' ').nth(field).unwrap().parse::<f64>().unwrap();
        // The fields 14 and 15, in hundredths of a second on every Linux.
        (ticks(11) + ticks(12)) / 100.0
    }
}

/// The part of a core that each server needs while nobody asks it anything.
pub(crate) fn idle(small: &Side, large: &Side, time: Duration) -> (f64, f64) {
    let (clock, before) = (SystemClock::new(), [small, large].map(Side::processor_time));
    let began = clock.monotonic();
    std::thread::sleep(time);
    let took = (clock.monotonic() - began).as_secs_f64();
    let after = [small, large].map(Side::processor_time);
    ((after[0] - before[0]) / took, (after[1] - before[1]) / took)
}

fn stop(world: &mut World) {
    assert!(world.issuer.server.process.terminate(Duration::from_secs(30)));
}

/// A server that is killed when it is dropped.
struct Started(Child);

impl Started {
    fn of(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Lets it end in order, as the next start finds a database after a killed server in another state.
    fn stop(mut self) {
        let asked = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(asked.success() && self.0.wait().unwrap().success());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Something that both servers are asked.
pub(crate) struct Request {
    pub(crate) name: String,
    /// The largest ratio that is good enough.
    pub(crate) limit: Option<f64>,
    expected: u16,
    request: Box<dyn Fn(&Side) -> String>,
}

impl Request {
    fn new(name: impl Into<String>, limit: Option<f64>, request: impl Fn(&Side) -> String + 'static) -> Self {
        Self { name: name.into(), limit, expected: 200, request: Box::new(request) }
    }
}

type Query = fn(&Known) -> String;
type Caller = fn(&Side) -> &Grant;

/// Filters of the audit log.
const FILTERS: [(&str, Query); 18] = [
    ("no filter", |_| String::new()),
    ("kind", |_| "kind=credential".to_owned()),
    ("kind that is rare", |_| "kind=exchange".to_owned()),
    ("kind that does not occur", |_| "kind=key.revoke".to_owned()),
    ("outcome=done", |_| "outcome=done".to_owned()),
    ("outcome=failed", |_| "outcome=failed".to_owned()),
    ("outcome=refused", |_| "outcome=refused".to_owned()),
    ("actor", |known| format!("actor=grant:{}", known.grant)),
    ("actor that does not occur", |_| "actor=nobody".to_owned()),
    ("space", |known| format!("space={}", known.space)),
    ("feed", |known| format!("feed={}", known.feed)),
    ("feed that does not occur", |_| "feed=nosuch".to_owned()),
    ("space and feed", |known| format!("space={}&feed={}", known.space, known.feed)),
    ("grant", |known| format!("grant={}", known.grant)),
    ("jti", |known| format!("jti={}", known.jti)),
    ("since", |known| format!("since={}", known.middle)),
    ("until", |known| format!("until={}", known.middle)),
    ("since before the log", |_| "since=2020-01-01T00:00:00Z".to_owned()),
];

/// Filters together, of which an index serves one: a page reads a bounded number of rows and may be empty.
const COMBINED: [(&str, Query); 4] = [
    ("kind and outcome", |_| "kind=exchange&outcome=failed".to_owned()),
    ("kind and outcome that do not meet", |_| "kind=credential&outcome=failed".to_owned()),
    ("space and outcome", |known| format!("space={}&outcome=failed", known.space)),
    ("since and outcome", |known| format!("since={}&outcome=failed", known.middle)),
];

/// Everything that both servers are asked.
pub(crate) fn requests() -> Vec<Request> {
    let page = Some(crate::PAGE);
    let filtered = |limit, (name, query): (&str, Query)| {
        Request::new(format!("audit, {name}"), limit, move |side| {
            Side::page(&query(&side.known), &side.viewer)
        })
    };
    let mut requests: Vec<Request> = FILTERS.into_iter().map(|filter| filtered(page, filter)).collect();
    requests.extend(COMBINED.into_iter().map(|filters| filtered(None, filters)));
    let roles: [(&str, Caller); 6] = [
        ("admin", |side| &side.world.admin),
        ("viewer", |side| &side.viewer),
        ("admin of a space", |side| &side.admin_of_space),
        ("viewer of a space", |side| &side.viewer_of_space),
        ("viewer of a feed", |side| &side.viewer_of_feed),
        ("viewer of feeds by a pattern", |side| &side.viewer_of_pattern),
    ];
    requests.extend(roles.map(|(name, grant)| {
        Request::new(format!("audit, first page, {name}"), page, move |side| Side::page("", grant(side)))
    }));
    let lists = [
        ("feeds of a space of three", "/api/v1/spaces/here/feeds"),
        ("grants", "/api/v1/grants"),
        ("signing keys", "/api/v1/signing-keys"),
        ("metrics", "/metrics"),
        ("readyz", "/readyz"),
    ];
    requests.extend(
        lists.map(|(name, path)| Request::new(name, page, move |side| Side::get(path, &side.world.admin))),
    );
    let lookups: [(&str, u16, &str, Caller); 6] = [
        ("deployer", 200, REGISTRY, |side| &side.deployer),
        ("deployer of a space", 200, REGISTRY, |side| &side.deployer_of_space),
        ("deployer of a space, popular host", 200, POPULAR, |side| &side.deployer_of_space),
        ("deployer of a feed, popular host", 200, POPULAR, |side| &side.deployer_of_feed),
        ("deployer of a space, nothing there", 404, NOBODYS, |side| &side.deployer_of_space),
        ("deployer of nothing there, popular host", 404, POPULAR, |side| &side.deployer_of_nothing),
    ];
    requests.extend(lookups.map(|(name, expected, host, grant)| {
        let of = move |side: &Side| Side::of_registry(host, grant(side));
        Request { expected, ..Request::new(format!("by host, {name}"), Some(crate::LOOKUP), of) }
    }));
    requests
}
