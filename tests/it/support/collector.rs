//! An OpenTelemetry collector that accepts everything.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

/// One request to the collector.
pub(crate) struct Export {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Export {
    /// Returns whether the body contains the text; protobuf does not encode strings.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

/// Starts a collector that accepts everything.
pub(crate) fn collector() -> (SocketAddr, Receiver<Export>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Some(export) = receive(stream.unwrap()) else { continue };
            if sender.send(export).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

fn receive(stream: TcpStream) -> Option<Export> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    head.make_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let response = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.get_mut().write_all(response).ok()?;
    Some(Export { head, body })
}
