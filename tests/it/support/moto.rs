//! moto, whose ECR API responds like AWS's, and a proxy that corrects its one flaw.
//!
//! moto does not implement `ecr-public`, so feeds of ECR Public have no third-party peer: only the sandbox
//! responds, to AWS's own client too (`tests/peers/ecr_public.rs`).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Process, clean_command};

/// The password that moto's ECR gives to everybody, with the user `AWS`.
pub(crate) const PASSWORD: &str = "123456789012-auth-token";

/// The expiry of that password, according to moto.
pub(crate) const EXPIRED_AT: &str = "2015-01-01T00:00:00Z";

/// A running moto server.
pub(crate) struct Moto {
    _process: Process,
    _home: TempDir,
    address: SocketAddr,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut process = Process::start(
            "moto",
            clean_command(super::installed_peer("venv/bin/moto_server")).env("HOME", home.path()).args([
                "--host",
                "127.0.0.1",
                "--port",
                "0",
            ]),
        );
        let address = process
            .wait_ready(Duration::from_secs(90), |process| {
                let log = process.stderr();
                let (_, rest) = log.split_once("Running on http://")?;
                let (address, _) = rest.split_once(char::is_whitespace)?;
                address.parse().ok()
            })
            .unwrap_or_else(|failure| panic!("{failure}"));
        Self { _process: process, _home: home, address }
    }

    /// Returns the URL of its APIs, including ECR's.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the URL of a proxy that forwards moto's responses with one change: moto's `expiresAt`, which
    /// is always in 2015, becomes `expires_at` (seconds since 1970).
    pub(crate) fn expiring_at(&self, expires_at: i64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let moto = self.address;
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Err(error) = hand_on(client, moto, expires_at) {
                    eprintln!("proxy before moto: {error}");
                }
            }
        });
        url
    }
}

/// Serves one request: moto closes its connection after each response, and so does this proxy.
fn hand_on(client: TcpStream, moto: SocketAddr, expires_at: i64) -> std::io::Result<()> {
    let mut upstream = TcpStream::connect(moto)?;
    let (head, body) = read_message(&mut BufReader::new(&client))?;
    write_message(&mut upstream, &head, &body)?;

    let (head, body) = read_message(&mut BufReader::new(&upstream))?;
    let mut response: Value = serde_json::from_slice(&body)?;
    if let Some(expiry) = response.pointer_mut("/authorizationData/0/expiresAt") {
        *expiry = expires_at.into();
    }
    write_message(&client, &head, response.to_string().as_bytes())
}

/// Reads the header lines of a message without `Content-Length` and `Connection`, and its body.
fn read_message(from: &mut impl BufRead) -> std::io::Result<(Vec<String>, Vec<u8>)> {
    let (mut head, mut length) = (Vec::new(), 0);
    for line in from.by_ref().lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        match lower.strip_prefix("content-length:") {
            Some(value) => length = value.trim().parse().map_err(std::io::Error::other)?,
            None if lower.starts_with("connection:") => {}
            None => head.push(line),
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok((head, body))
}

fn write_message(mut to: impl Write, head: &[String], body: &[u8]) -> std::io::Result<()> {
    let head = head.join("\r\n");
    write!(to, "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    to.write_all(body)
}
