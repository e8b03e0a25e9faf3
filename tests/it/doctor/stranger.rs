//! Another program responds at the issuer URL.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use crate::doctor::Found;
use crate::support::carnet::Carnet;
use crate::support::http::Connection;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks";

/// The response for one path.
#[derive(Debug, Clone)]
struct Canned {
    status: &'static str,
    /// Complete lines with their line ends.
    headers: String,
    body: String,
    after: Duration,
}

/// A carnet, and the program that responds in its place.
struct Stranger {
    carnet: Carnet,
    discovery: Canned,
    jwks: Canned,
    listener: TcpListener,
}

impl Stranger {
    /// Starts a program that, so far, responds as carnet does.
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let carnet = Carnet::new();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let server = carnet.serve(&issuer, "127.0.0.1:0", &[]).unwrap();
        let [discovery, jwks] = [DISCOVERY, JWKS].map(|path| Canned {
            status: "200 OK",
            headers: "Content-Type: application/json\r\nCache-Control: public, max-age=300\r\n".to_owned(),
            body: Connection::to(server.announced("/listening"), None).get(path).body,
            after: Duration::ZERO,
        });
        crate::doctor::stop(server);
        Self { carnet, discovery, jwks, listener }
    }

    /// Runs doctor, which may fetch each of the two documents once.
    fn found(self) -> Found {
        let Self { carnet, discovery, jwks, listener } = self;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut request = String::new();
                while stream.read_line(&mut request).unwrap() > 2 {}
                let canned = if request.contains(DISCOVERY) { &discovery } else { &jwks };
                std::thread::sleep(canned.after);
                let Canned { status, headers, body, .. } = canned;
                let length = body.len();
                // A client that has timed out may be gone.
                let _ = write!(
                    stream.get_mut(),
                    "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Found::of(&carnet, &["--allow-private"])
    }
}

#[test]
fn correct_documents_may_come_from_anywhere() {
    let found = Stranger::new().found();
    assert_eq!(found.complaints(), [("view", "warning"), ("issuer-url", "warning")], "{:#?}", found.report);
    // Without a `Date` there is no check of the clock.
    assert_eq!(found.get("clock"), None);
}

#[test]
fn each_kind_of_wrong_document_is_found() {
    type Change = fn(&mut Stranger);
    let cases: [(Change, &str, &str, &str); 12] = [
        (
            |stranger| {
                stranger.discovery.body = stranger.discovery.body.replacen("127.0.0.1", "localhost", 1)
            },
            "issuer",
            "failed",
            "discovery names the issuer",
        ),
        (
            |stranger| {
                stranger.discovery.body =
                    stranger.discovery.body.replacen(r#"","jwks_uri"#, r#"/","jwks_uri"#, 1);
            },
            "issuer",
            "failed",
            "They differ in the trailing slash.",
        ),
        (
            |stranger| {
                stranger.discovery.status = "301 Moved Permanently";
                stranger.discovery.headers = "Location: https://www.issuer.example/\r\n".to_owned();
            },
            "discovery",
            "failed",
            "redirected (301) to https://www.issuer.example/",
        ),
        (
            |stranger| stranger.discovery.headers = "Content-Type: text/html\r\n".to_owned(),
            "discovery",
            "failed",
            "content type",
        ),
        (|stranger| stranger.discovery.status = "503 Busy", "discovery", "failed", "status 503"),
        (
            |stranger| stranger.discovery.body = stranger.discovery.body.replace(r#","ES256""#, ""),
            "metadata",
            "failed",
            "ES256 is not among the algorithms",
        ),
        (|stranger| stranger.jwks.status = "404 Not Found", "jwks", "failed", "status 404"),
        (
            |stranger| stranger.jwks.body = r#"{"keys":[]}"#.to_owned(),
            "active-keys",
            "failed",
            "not in the JWKS",
        ),
        (
            |stranger| stranger.jwks.body = stranger.jwks.body.replace(r#""kid":""#, r#""kid":"x"#),
            "other-keys",
            "failed",
            "not a key of this database",
        ),
        (
            |stranger| stranger.jwks.headers = stranger.jwks.headers.replace("=300", "=604800"),
            "cache",
            "failed",
            "may be cached for 604800 s",
        ),
        (
            |stranger| stranger.jwks.headers = "Content-Type: application/json\r\n".to_owned(),
            "cache",
            "warning",
            "has no Cache-Control",
        ),
        (|stranger| stranger.jwks.after = Duration::from_millis(1100), "speed", "warning", " took 1"),
    ];
    for (change, id, status, words) in cases {
        let mut stranger = Stranger::new();
        change(&mut stranger);
        stranger.found().assert(id, status, words);
    }
}

#[test]
fn a_server_that_never_responds_times_out() {
    let mut stranger = Stranger::new();
    stranger.discovery.after = Duration::from_secs(60);
    stranger.found().assert("discovery", "failed", "no response within 10 s");
}
