//! A client that keeps a server busy: one thread, several connections, the same request over and over.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use carnet::internals::values::clock::{Clock as _, SystemClock};

use crate::support::Outcome;

/// Connections to one server, each with one request under way while the client runs.
///
/// It writes ready-made bytes and reads a known number of them, which costs less than any server
/// does for them: the server is the bottleneck.
pub(crate) struct Client {
    connections: Vec<TcpStream>,
    request: String,
    /// The first answer; all answers have its length.
    response: String,
}

impl Client {
    /// Connects, and checks that every connection answers 200 with equally many bytes.
    pub(crate) fn connect(address: SocketAddr, path: &str, connections: usize) -> Outcome<Self> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: issuer.example\r\nUser-Agent: benchmark/1.0\r\n\r\n");
        let mut client = Self { connections: Vec::new(), request, response: String::new() };
        for _ in 0..connections {
            let mut stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(client.request.as_bytes())?;
            let response = read_answer(&mut stream)?;
            if !response.starts_with("HTTP/1.1 200 ") {
                return Err(format!("not the document: {response}").into());
            }
            client.connections.push(stream);
            client.response = response;
        }
        Ok(client)
    }

    /// The first answer's header fields and body, in an order of their own, but for the fields that
    /// no server can be told to leave out or to make equal.
    pub(crate) fn response(&self) -> BTreeSet<String> {
        let (header, body) = self.response.split_once("\r\n\r\n").unwrap_or_default();
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let name = name.to_ascii_lowercase();
            let differs = ["connection", "date", "server"].contains(&name.as_str());
            (!differs).then(|| format!("{name}:{value}"))
        };
        header.lines().filter_map(field).chain([body.to_owned()]).collect()
    }

    /// Asks for about `duration` and returns how many answers came in exactly which time.
    pub(crate) fn run(&mut self, duration: Duration, clock: &SystemClock) -> Outcome<(f64, Duration)> {
        let mut buffer = vec![0; self.response.len()];
        let started = clock.monotonic();
        let mut responses = 0_u32;
        for stream in &mut self.connections {
            stream.write_all(self.request.as_bytes())?;
        }
        loop {
            let last_lap = clock.monotonic() - started >= duration;
            for stream in &mut self.connections {
                stream.read_exact(&mut buffer)?;
                if !buffer.starts_with(b"HTTP/1.1 200 ") {
                    return Err("an answer was not the document".into());
                }
                responses += 1;
                if !last_lap {
                    stream.write_all(self.request.as_bytes())?;
                }
            }
            if last_lap {
                return Ok((f64::from(responses), clock.monotonic() - started));
            }
        }
    }
}

/// One whole answer: the header and as many bytes as its `Content-Length` says.
fn read_answer(stream: &mut TcpStream) -> Outcome<String> {
    let mut response = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut chunk)?;
        response.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let text = std::str::from_utf8(&response)?;
        if let Some((header, body)) = text.split_once("\r\n\r\n") {
            let length = header
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                })
                .unwrap_or(0_usize);
            if body.len() >= length {
                return Ok(text.to_owned());
            }
        }
        if read == 0 {
            return Err("the connection was closed".into());
        }
    }
}
