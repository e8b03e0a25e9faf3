//! Clients that send slowly, read nothing, come in crowds, or send garbage, against limits that are short
//! enough for a test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::support::http::Connection;
use crate::support::process::wait_until;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::routing::{get, post};
use carnet::internals::Parts as _;
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::http::client_address::{ClientAddress, TrustedProxies};
use carnet::internals::http::limits::Limits;
use carnet::internals::http::public::{Detail, PublicDocuments};
use carnet::internals::http::server::{Served, Settings, serve};
use carnet::internals::http::slow::BodyError;
use carnet::internals::store::IfMissing;
use carnet::internals::values::clock::SystemClock;
use http::StatusCode;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const JWKS: &str = "/.well-known/jwks";
/// More than the buffers of any system hold.
const LARGE: usize = 64 * 1024 * 1024;
const SHORT: Duration = Duration::from_millis(300);
/// A limit that is not under test.
const LONG: Duration = Duration::from_secs(600);

/// A server in this process, with a router that reads bodies and sends large responses.
struct Server {
    address: SocketAddr,
    runtime: Runtime,
    serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
    _folder: TempDir,
}

impl Server {
    fn start(limits: Limits, trusted_proxies: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            if_missing: IfMissing::Create,
            issuer: Some("https://issuer.example".parse().unwrap()),
            ..Config::new(
                folder.path().join("carnet.db").into(),
                MasterKeySource::Folder(folder.path().join("keys")),
            )
        };
        let carnet = runtime.block_on(Carnet::open(config)).unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let documents = PublicDocuments::new(Arc::clone(carnet.issuer()), Detail::Full);
        let router = Router::new()
            .route("/echo", post(echo))
            .route("/deaf", post(async || "unread"))
            .route("/large", get(async || Body::from(vec![b'x'; LARGE])))
            .route("/who", get(who));
        let settings =
            Settings { limits, trusted_proxies: trusted_proxies.parse::<TrustedProxies>().unwrap() };
        let clock = Arc::new(SystemClock::new());
        let (stop, mut stopped) = watch::channel(false);
        let shutdown = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let serving = runtime.spawn(serve(listener, Served { documents, router }, settings, clock, shutdown));
        Self { address, runtime, serving, stop, _folder: folder }
    }

    fn connect(&self) -> Connection {
        Connection::to(&format!("http://{}", self.address), None)
    }

    fn stream(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }
}

async fn echo(request: Request) -> Result<Vec<u8>, StatusCode> {
    match to_bytes(request.into_body(), 1024 * 1024).await {
        Ok(body) => Ok(body.into()),
        Err(error) if BodyError::is_too_slow(&error) => Err(StatusCode::REQUEST_TIMEOUT),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

async fn who(request: Request) -> String {
    let client = request.extensions().get::<ClientAddress>().unwrap();
    format!("{client} {}", client.is_loopback())
}

/// Limits with one connection slot, so that the next client is served when the one before has been cut off.
fn limits() -> Limits {
    Limits { connections: 1, header: LONG, idle: LONG, body: LONG, response: LONG, ..Limits::default() }
}

/// Writes `byte` repeatedly until the server closes the connection.
fn drip(mut stream: TcpStream, byte: u8) {
    let ended = wait_until(Duration::from_secs(30), || stream.write_all(&[byte]).is_err().then_some(()));
    ended.expect("the server waits for ever");
}

#[test]
fn a_header_that_comes_byte_by_byte_is_cut_off() {
    let server = Server::start(Limits { header: SHORT, ..limits() }, "");
    let mut slow = server.stream();
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    drip(slow, b'a');
    assert_eq!(server.connect().get(JWKS).status, 200);

    let mut second = server.connect();
    assert_eq!(second.get(JWKS).status, 200);
    second.write(b"GET / HTTP/1.1\r\nX: ");
    assert!(second.is_closed(), "the second header of a connection has no limit");
}

#[test]
fn a_silent_connection_is_closed() {
    let server = Server::start(Limits { header: SHORT, ..limits() }, "");
    let mut silent = server.connect();
    assert!(silent.is_closed());
    let server = Server::start(Limits { idle: SHORT, ..limits() }, "");
    let mut idle = server.connect();
    assert_eq!(idle.get(JWKS).status, 200);
    assert!(idle.is_closed());
}

#[test]
fn a_body_that_comes_byte_by_byte_is_cut_off() {
    let server = Server::start(Limits { body: SHORT, ..limits() }, "");
    for framing in ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut slow = server.stream();
        let (head, first) = (format!("POST /echo HTTP/1.1\r\nHost: a\r\n{framing}\r\n"), b"fffff\r\nx");
        slow.write_all(&[head.as_bytes(), first].concat()).unwrap();
        let mut reader = slow.try_clone().unwrap();
        drip(slow, b'x');
        let mut response = Vec::new();
        let _ = reader.read_to_end(&mut response);
        let response = String::from_utf8_lossy(&response);
        // A reset that follows at once may discard the response.
        assert!(response.is_empty() || response.starts_with("HTTP/1.1 408"), "{response}");
    }
    let mut connection = server.connect();
    connection.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    assert_eq!(connection.response("POST").status, 408, "half a body");
    assert!(connection.is_closed());
    let mut connection = server.connect();
    connection.write(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(connection.response("POST").body, "body");
}

#[test]
fn an_unread_body_does_not_hold_the_connection() {
    let server = Server::start(limits(), "");
    let mut connection = server.connect();
    connection.write(b"POST /deaf HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx");
    assert_eq!(connection.response("POST").body, "unread");
    assert!(connection.is_closed());
}

#[test]
fn a_client_that_does_not_read_its_response_is_disconnected() {
    let server = Server::start(Limits { response: SHORT, ..limits() }, "");
    let mut deaf = server.stream();
    deaf.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.connect().get(JWKS).status, 200, "the one place is never free again");
    let mut taken = Vec::new();
    let _ = deaf.read_to_end(&mut taken);
    assert!(taken.len() < LARGE, "the whole answer was sent");

    // Sending more requests without reading does not help.
    let mut deaf = server.stream();
    deaf.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET {JWKS} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(100);
    let sent =
        wait_until(Duration::from_secs(60), || deaf.write_all(request.as_bytes()).is_err().then_some(()));
    sent.expect("answers that nobody takes are kept for ever");

    let mut quick = server.connect();
    assert_eq!(quick.get("/large").body.len(), LARGE);
}

#[test]
fn a_connection_waits_when_all_permits_are_taken() {
    let server = Server::start(Limits { connections: 2, ..limits() }, "");
    let (mut first, mut second) = (server.connect(), server.connect());
    assert_eq!((first.get(JWKS).status, second.get(JWKS).status), (200, 200));
    let mut third = server.stream();
    third.write_all(format!("GET {JWKS} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    third.set_read_timeout(Some(SHORT)).unwrap();
    third.read_exact(&mut [0; 12]).expect_err("a third connection is served");
    drop(first);
    third.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut start = [0; 12];
    third.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}

/// Returns a connection whose request's handler waits for the four bytes of its body.
fn under_way(server: &Server) -> Connection {
    let mut connection = server.connect();
    let expects = "Content-Length: 4\r\nExpect: 100-continue\r\n";
    // The 100 response says that the handler has begun to read.
    assert_eq!(connection.request("POST", "/echo", expects).status, 100);
    connection
}

#[test]
fn a_request_under_way_is_finished_before_the_server_stops() {
    let server = Server::start(Limits { connections: 2, ..limits() }, "");
    let mut connection = under_way(&server);
    let mut idle = server.connect();
    assert_eq!(idle.get(JWKS).status, 200);
    server.stop.send_replace(true);
    assert!(idle.is_closed());
    assert!(!server.serving.is_finished());
    TcpStream::connect(server.address).expect_err("who comes now is let in");
    connection.write(b"body");
    let response = connection.response("POST");
    assert_eq!((response.body.as_str(), response.header("connection")), ("body", Some("close")));
    assert!(connection.is_closed());
    server.runtime.block_on(server.serving).unwrap();
}

#[test]
fn a_request_that_does_not_end_is_cut_off_when_the_server_stops() {
    let server = Server::start(Limits { drain: SHORT, ..limits() }, "");
    let mut connection = under_way(&server);
    server.stop.send_replace(true);
    server.runtime.block_on(server.serving).unwrap();
    assert!(connection.is_closed());
}

#[test]
fn the_router_gets_the_clients_address() {
    let forwarded = "X-Forwarded-For: 127.0.0.1, 203.0.113.7\r\n";
    for (trusted, headers, expected) in [
        ("", "", "127.0.0.1 true"),
        ("", forwarded, "127.0.0.1 false"),
        ("127.0.0.1", "", "127.0.0.1 false"),
        ("127.0.0.1", forwarded, "203.0.113.7 false"),
        ("127.0.0.1", "X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1 false"),
    ] {
        let server = Server::start(limits(), trusted);
        let response = server.connect().request("GET", "/who", headers);
        assert_eq!(response.body, expected, "{trusted:?} {headers:?}");
    }
}

#[test]
fn nonsense_is_refused_and_forgotten() {
    let server = Server::start(Limits::default(), "");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        // xorshift64: the same garbage each time.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    for round in 0..300 {
        let mut connection = server.connect();
        let noise: Vec<u8> = (0..round * 7).map(|_| byte()).collect();
        let start =
            ["", "GET ", "GET / HTTP/1.1\r\n", "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"];
        connection.write(&[start[round % start.len()].as_bytes(), &noise, b"\r\n\r\n"].concat());
    }
    assert_eq!(server.connect().get(JWKS).status, 200);
}

#[test]
fn a_thousand_slow_clients_take_little_memory_and_delay_no_other_client() {
    let carnet = crate::support::carnet::Carnet::new();
    let server = carnet.serve("https://issuer.example", "127.0.0.1:0", &[]).unwrap();
    let listening = server.announced("/listening").to_owned();
    let address = listening.strip_prefix("http://").unwrap();
    let mut connection = Connection::to(&listening, None);
    assert_eq!(connection.get(JWKS).status, 200);
    let before = server.process.resident_bytes();
    // Each sends almost the maximum header that is kept before a refusal.
    let header = format!("GET {JWKS} HTTP/1.1\r\nX: {}", "a".repeat(15 * 1024));
    let mut crowd = Vec::new();
    // Slightly below the usual limit of open files.
    for _ in 0..950 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(header.as_bytes()).unwrap();
        crowd.push(stream);
    }
    assert_eq!(Connection::to(&listening, None).get(JWKS).status, 200);
    assert_eq!(connection.get(JWKS).status, 200);
    let grown = server.process.resident_bytes().saturating_sub(before);
    assert!(grown < 64 * 1024 * 1024, "{} KiB for each connection", grown / crowd.len() / 1024);
}

/// Returns the status of the response to `request`, and whether the connection is closed after it.
fn outcome_of(server: &Server, request: &str) -> (String, bool) {
    let mut stream = server.stream();
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    // Reading ends when the server closes.
    let closed = stream.read_to_string(&mut response).is_ok();
    (response.split(' ').nth(1).unwrap_or_default().to_owned(), closed)
}

#[test]
fn a_request_names_one_host_and_its_lines_end_in_cr_lf() {
    let server = Server::start(Limits { idle: SHORT, header: SHORT, ..Limits::default() }, "");
    for (what, request, status) in [
        ("one host", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
        ("none", "GET /healthz HTTP/1.1\r\n\r\n", "400"),
        ("none, of the router", "GET /who HTTP/1.1\r\n\r\n", "400"),
        ("none, of HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n", "200"),
        ("two", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400"),
        ("two of HTTP/1.0", "GET /who HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", "400"),
        ("no host in it", "GET /who HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        ("a bare LF after the first line", "GET /healthz HTTP/1.1\nHost: a\r\n\r\n", "400"),
        ("one after a header", "GET /healthz HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400"),
        ("one at the end", "GET /healthz HTTP/1.1\r\nHost: a\r\n\n", "400"),
        ("all bare", "GET /healthz HTTP/1.1\nHost: a\n\n", "400"),
        ("one before", "\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("a bare CR", "GET /healthz HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "400"),
        ("bare LFs in a body", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\n\n\n", "200"),
    ] {
        let (answered, closed) = outcome_of(&server, request);
        assert_eq!(answered, status, "{what}");
        assert!(closed, "{what}");
    }
    // A pipelined request, too.
    let mut stream = server.stream();
    let good = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(format!("{good}GET /healthz HTTP/1.1\nHost: a\r\n\r\n").as_bytes()).unwrap();
    let mut responses = String::new();
    stream.read_to_string(&mut responses).unwrap();
    assert!(responses.starts_with("HTTP/1.1 200") && responses.contains("HTTP/1.1 400"), "{responses}");
}
