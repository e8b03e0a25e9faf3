//! Clients that ask for credentials as fast as they get them, of whichever server is alive, and write down all that
//! arrives.

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
/// Contexts that are asked for again and again, of each feed.
const KNOWN_TENANTS: usize = 6;

/// What a client got hold of, whole or in part.
pub(crate) struct Received {
    /// The request's identifier, which no other request has.
    pub(crate) request: String,
    /// The answer, if it arrived whole.
    pub(crate) answer: Option<Value>,
}

/// What all clients have in common.
#[derive(Default)]
pub(crate) struct Clients {
    alive: Mutex<Vec<String>>,
    received: Mutex<Vec<Received>>,
    /// Whole answers by status.
    answers: Mutex<BTreeMap<u16, usize>>,
    /// Requests that got no whole answer, because the server died.
    pub(crate) unanswered: AtomicUsize,
    stop: AtomicBool,
}

impl Clients {
    /// From now on these servers are asked.
    pub(crate) fn ask_of(&self, servers: Vec<String>) {
        *self.alive.lock().unwrap() = servers;
    }

    /// What has been received since this was last asked.
    pub(crate) fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().unwrap())
    }

    pub(crate) fn answers(&self) -> BTreeMap<u16, usize> {
        self.answers.lock().unwrap().clone()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// One client, until it is stopped.
    pub(crate) fn run(&self, name: usize, grant: &str, mut dice: Dice) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let request = format!("{name}-{number}");
            // Known contexts are often in memory; one that nobody has asked for needs an exchange.
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
                // Nobody is there: a moment's rest for the processor.
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn note(&self, request: String, arrived: &[u8]) {
        let head = String::from_utf8_lossy(arrived);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let answer = whole_body(&head).and_then(|body| serde_json::from_str(body).ok());
        match (status, &answer) {
            (Some(status), Some(_)) => *self.answers.lock().unwrap().entry(status).or_default() += 1,
            _ => _ = self.unanswered.fetch_add(1, Ordering::Relaxed),
        }
        // Also what was cut off: whatever says 200 was meant to be a credential, and part of it may have arrived.
        if status == Some(200) {
            self.received.lock().unwrap().push(Received { request, answer });
        }
    }
}

/// All bytes that arrive in answer to a request, however the connection ends.
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
    // A reset takes nothing back that arrived before it.
    let _ = stream.read_to_end(&mut arrived);
    Ok(arrived)
}

/// The body of an answer, if all of it is there.
pub(crate) fn whole_body(answer: &str) -> Option<&str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value.trim())
    });
    let length: usize = length?.parse().ok()?;
    (body.len() == length).then_some(body)
}
