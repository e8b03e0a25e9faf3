//! Clients that request credentials continuously, from whichever server is alive, and store every byte they
//! receive.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::audit_crash::world::FEEDS;
use crate::support::dice::Dice;

/// Longer than any request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of contexts that are requested repeatedly, for each feed.
const KNOWN_TENANTS: usize = 6;

/// A response that a client received, complete or in part.
pub(crate) struct Received {
    /// The unique identifier of the request.
    pub(crate) request: String,
    /// The response, if it arrived complete.
    pub(crate) response: Option<Value>,
}

/// The state shared by all clients.
#[derive(Default)]
pub(crate) struct Clients {
    alive: Mutex<Vec<String>>,
    received: Mutex<Vec<Received>>,
    /// Complete responses by status.
    responses: Mutex<BTreeMap<u16, usize>>,
    /// Requests without a complete response, because the server died.
    pub(crate) unanswered: AtomicUsize,
    stop: AtomicBool,
}

impl Clients {
    /// Sends the following requests to these servers.
    pub(crate) fn ask_of(&self, servers: Vec<String>) {
        *self.alive.lock().unwrap() = servers;
    }

    /// Returns the responses since the last call.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    pub(crate) fn responses(&self) -> BTreeMap<u16, usize> {
        self.responses.lock().unwrap().clone()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Runs one client until it is stopped.
    pub(crate) fn run(&self, name: usize, grant: &str, mut dice: Dice) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let request = format!("{name}-{number}");
            // Known contexts are often cached; a new one needs an exchange.
            let tenant = match dice.one_in(4) {
                true => format!("new-{request}"),
                false => format!("known-{}", dice.below(KNOWN_TENANTS)),
            };
            let feed = FEEDS[dice.below(FEEDS.len())];
            let server = {
                let alive = self.alive.lock().unwrap();
                (!alive.is_empty()).then(|| alive[dice.below(alive.len())].clone())
            };
            let arrived = server.map(|server| {
                let body = format!(r#"{{"context":{{"tenant":"{tenant}"}}}}"#);
                let feed = format!("/api/v1/spaces/{feed}/credentials");
                ask(&server, &feed, grant, &request, &body).ok()
            });
            match arrived.flatten() {
                Some(arrived) => self.note(request, &arrived),
                // No server responds: pause briefly.
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn note(&self, request: String, arrived: &[u8]) {
        let head = String::from_utf8_lossy(arrived);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let response = whole_body(&head).and_then(|body| serde_json::from_str(body).ok());
        match (status, &response) {
            (Some(status), Some(_)) => *self.responses.lock().unwrap().entry(status).or_default() += 1,
            _ => _ = self.unanswered.fetch_add(1, Ordering::Relaxed),
        }
        // Also a response that was cut off: status 200 means a credential, and part of it may have arrived.
        if status == Some(200) {
            self.received.lock().unwrap().push(Received { request, response });
        }
    }
}

/// Returns all bytes that arrive in response to a request, however the connection ends.
pub(crate) fn ask(
    server: &str,
    path: &str,
    grant: &str,
    request: &str,
    body: &str,
) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: carnet.test\r\nAuthorization: Bearer {grant}\r\nX-Request-Id: {request}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut arrived = Vec::new();
    // A reset does not discard bytes that arrived before it.
    let _ = stream.read_to_end(&mut arrived);
    Ok(arrived)
}

/// Returns the body of a response, if it is complete.
pub(crate) fn whole_body(response: &str) -> Option<&str> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value.trim())
    });
    let length: usize = length?.parse().ok()?;
    (body.len() == length).then_some(body)
}
