//! nginx with one process that serves, in the three ways in which it can serve a small document.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use carnet::internals::oidc::metadata::{Document, JWKS_PATH};
use carnet::internals::values::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::servers::Server;
use crate::support::Outcome;

/// The sources of the document in nginx, each with its line of the configuration.
const WAYS: [(&str, &str); 3] = [
    ("nginx, a file", ""),
    ("nginx, a file kept open", "open_file_cache max=16 inactive=1h; open_file_cache_valid 1h;"),
    ("nginx, no file", "return 200 $document;"),
];

struct Process {
    process: Child,
    /// Removed when dropped.
    _folder: TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do for a process that has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One nginx that serves `document` in all [`WAYS`], each on a port of its own; `None` when it is
/// not installed.
pub(crate) fn start(document: &Document) -> Outcome<Option<Vec<(&'static str, Server)>>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("document");
    fs::write(&file, &document.body)?;
    let addresses = free_addresses()?;
    let configuration = folder.path().join("nginx.conf");
    fs::write(&configuration, whole_configuration(addresses, document, &file)?)?;
    let command = Command::new("nginx")
        .args(["-p".as_ref(), folder.path(), "-e".as_ref(), Path::new("error.log")])
        .args(["-c".as_ref(), configuration.as_path()])
        .stdin(Stdio::null())
        .spawn();
    let process = match command {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        spawned => spawned?,
    };
    let schedule_statistics = format!("/proc/{}/schedstat", process.id());
    let mut process = Process { process, _folder: folder };
    wait_until_it_answers(&mut process.process, addresses)?;
    let process = Rc::new(process);
    let server = |address| Server {
        address,
        schedule_statistics: schedule_statistics.clone().into(),
        _stops_when_dropped: Box::new(Rc::clone(&process)),
    };
    Ok(Some(WAYS.into_iter().zip(addresses).map(|((name, _), address)| (name, server(address))).collect()))
}

/// nginx takes no port 0. These are free now; if one is not when nginx starts, it says so.
fn free_addresses() -> Outcome<[SocketAddr; WAYS.len()]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners = [bind()?, bind()?, bind()?];
    let [first, second, third] = &listeners;
    Ok([first.local_addr()?, second.local_addr()?, third.local_addr()?])
}

fn wait_until_it_answers(process: &mut Child, addresses: [SocketAddr; WAYS.len()]) -> Outcome {
    let clock = SystemClock::new();
    while addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
        if let Some(status) = process.try_wait()? {
            return Err(format!("nginx did not start: {status}").into());
        }
        if clock.monotonic() > Duration::from_secs(10) {
            return Err("nginx does not answer".into());
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn whole_configuration(
    addresses: [SocketAddr; WAYS.len()],
    document: &Document,
    file: &Path,
) -> Outcome<String> {
    let body = std::str::from_utf8(&document.body)?;
    let (etag, cache_control) = (document.etag.to_str()?, document.cache_control.to_str()?);
    let file = file.display();
    let server = |((_, way), address): (&(&str, &str), SocketAddr)| {
        let way = way.replace("$document", &format!("'{body}'"));
        format!(
            "
    server {{
        listen {address};
        location = {JWKS_PATH} {{
            alias {file};
            {way}
            default_type application/json;
            types {{ }}
            etag off;
            max_ranges 0;
            add_header Last-Modified '';
            add_header Cache-Control '{cache_control}';
            add_header ETag '{etag}';
            add_header Access-Control-Allow-Origin '*';
        }}
    }}"
        )
    };
    let servers: String = WAYS.iter().zip(addresses).map(server).collect();
    Ok(format!(
        "daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
{servers}
}}
"
    ))
}
