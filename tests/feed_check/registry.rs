//! A registry of one image on plain HTTP, which asks for a password, or for a token from a realm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use aws_lc_rs::digest::{SHA256, digest};

const LAYER: &str = "a layer";

/// Starts a registry that takes `Basic AUTHORIZATION` and says `challenge` to all others; gives its host.
pub(crate) fn start(authorization: &'static str, challenge: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who knocks with TLS goes away.
            let _ = serve(client, authorization, challenge);
        }
    });
    host
}

fn serve(mut client: TcpStream, authorization: &str, challenge: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    if reader.fill_buf()?.first() == Some(&0x16) {
        return write!(client, "HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    let mut lines = reader.lines();
    let Some(Ok(first)) = lines.next() else { return write!(client, "HTTP/1.1 400 Bad Request\r\n\r\n") };
    let mut is_in = false;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        is_in |= line.split_once(": ").is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("authorization") && value == format!("Basic {authorization}")
        });
    }
    let hash: String =
        digest(&SHA256, LAYER.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let manifest = format!(r#"{{"layers":[{{"digest":"sha256:{hash}"}}]}}"#);
    let refusal = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}"#;
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let blob = format!("/v2/app/blobs/sha256:{hash}");
    let (status, body) = match first.split(' ').nth(1).unwrap_or_default() {
        _ if !is_in => ("401 Unauthorized", refusal),
        "/v2/" => ("200 OK", "{}"),
        "/v2/app/manifests/v1" => ("200 OK", manifest.as_str()),
        path if path == blob => ("200 OK", LAYER),
        _ => ("404 Not Found", unknown),
    };
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nWWW-Authenticate: {challenge}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
