//! The listeners of `serve`: the public listener, the Unix socket, reloading of TLS, and shutdown.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::ca::Ca;
use crate::support::carnet::{Announced, Carnet};
use crate::support::http::{Connection, HttpResponse};
use crate::support::process::{clean_command, wait_until};
use crate::support::system_peer;
use serde_json::json;

const ISSUER: &str = "https://issuer.example";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const JWKS: &str = "/.well-known/jwks";
const SOON: Duration = Duration::from_secs(30);

fn serve(carnet: &Carnet, listen: &str, more: &[&str]) -> Announced {
    carnet.serve(ISSUER, listen, more).unwrap_or_else(|failure| panic!("{failure}"))
}

fn socket(carnet: &Carnet) -> (std::path::PathBuf, String) {
    let path = carnet.home().join("carnet.sock");
    let listen = format!("unix:{}", path.display());
    (path, listen)
}

/// Requests `path` over `https` from a client that trusts only `ca`; `None` if the certificate is another
/// one.
fn over_tls(listening: &str, ca: &Ca, path: &str) -> Option<HttpResponse> {
    let mut connection = Connection::to(listening, Some(ca));
    connection.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    connection.try_answer("GET")
}

#[test]
fn the_public_listener_serves_the_documents_and_nothing_else() {
    let carnet = Carnet::new();
    let server = serve(&carnet, "127.0.0.1:0", &["--public-listen", "127.0.0.1:0"]);
    let mut public = Connection::to(server.announced("/public_listening"), None);
    let mut everything = Connection::to(server.announced("/listening"), None);
    assert_ne!(server.announced("/public_listening"), server.announced("/listening"));
    for path in [DISCOVERY, JWKS, "/healthz"] {
        let (response, same) = (public.get(path), everything.get(path));
        assert_eq!((response.status, &response.body), (200, &same.body), "{path}");
        assert_eq!(public.request("POST", path, "Content-Length: 0\r\n").status, 405, "{path}");
    }
    let ready = public.get("/readyz");
    assert_eq!((ready.status, ready.json()), (200, json!({ "status": "ready" })));
    assert!(everything.get("/readyz").json()["checks"].is_object());
    for path in [
        "/",
        "/metrics",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/api/v1/openapi.json",
        "/api/v1/grants",
        "/api/v1/audit",
        "/api/v1/signing-keys",
        "/api/v1/signing-keys/rotate",
        "/api/v1/spaces/default/feeds",
        "/api/v1/spaces/default/feeds/prod/credentials",
        "/api/v1/registries/registry.example/credentials",
        "/.well-known/../api/v1/grants",
        "/.well-known/jwks/../../api/v1/grants",
        "//api/v1/grants",
        "/readyz/full",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let response = public.request(method, path, "Authorization: Bearer carnet_x\r\n");
            assert_eq!((response.status, response.body.as_str()), (404, ""), "{method} {path}");
        }
    }
}

#[test]
fn a_unix_socket_is_the_users_own_serves_everything_and_goes_with_the_server() {
    let carnet = Carnet::new();
    let (path, listen) = socket(&carnet);
    let mut server = serve(&carnet, &listen, &[]);
    assert_eq!(server.line, json!({ "listening": listen, "issuer": ISSUER }));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let jwks = Connection::to(&listen, None).get(JWKS);
    assert_eq!(jwks.status, 200);
    let curl = clean_command(system_peer("curl"))
        .args(["--silent", "--fail", "--unix-socket"])
        .arg(&path)
        .arg(format!("http://carnet{JWKS}"))
        .output()
        .unwrap();
    assert!(curl.status.success());
    assert_eq!(String::from_utf8(curl.stdout).unwrap(), jwks.body);

    let second = carnet.run(&["serve", "--listen", &listen]);
    assert_eq!(second.status, 1);
    assert!(second.stderr.contains("is in use by a running server"), "{}", second.stderr);
    assert_eq!(Connection::to(&listen, None).get(JWKS).status, 200, "the first one is still there");

    assert!(server.process.terminate(SOON));
    assert!(!path.exists());
}

#[test]
fn a_killed_servers_socket_is_replaced_and_other_files_are_not() {
    let carnet = Carnet::new();
    let (path, listen) = socket(&carnet);
    let mut server = serve(&carnet, &listen, &[]);
    server.process.kill();
    assert!(path.exists());
    let mut server = serve(&carnet, &listen, &["--listen-mode", "0660"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(server.process.terminate(SOON));

    let database = fs::read(carnet.database()).unwrap();
    std::os::unix::fs::symlink(carnet.database(), &path).unwrap();
    for place in [&path, &carnet.database()] {
        let output = carnet.run(&["serve", "--listen", &format!("unix:{}", place.display())]);
        assert_eq!(output.status, 1);
        assert!(output.stderr.contains("is not a socket; carnet does not remove it"), "{}", output.stderr);
    }
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(fs::read(carnet.database()).unwrap(), database);
}

#[test]
fn a_listener_without_tls_beyond_loopback_needs_a_flag() {
    let carnet = Carnet::new();
    let ca = Ca::new();
    let (certificate, key) = (ca.server_certificate(), ca.server_key());
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let (_, unix) = socket(&carnet);
    for (arguments, message) in [
        (vec!["--listen", "0.0.0.0:0"], "--listen 0.0.0.0:0: the address is not loopback and has no TLS"),
        (
            vec!["--public-listen", "0.0.0.0:0"],
            "--public-listen 0.0.0.0:0: the address is not loopback and has no TLS",
        ),
        (vec!["--listen", "[::]:0"], "--listen [::]:0: the address is not loopback and has no TLS"),
        (vec!["--public-listen", &unix], "--public-listen needs a TCP address"),
        ([&["--listen", &unix], &tls[..]].concat(), "a Unix socket has no TLS"),
        (vec!["--listen", "localhost:0"], "neither an IP address and a port"),
        (vec!["--trusted-proxies", "0.0.0.0/0"], "includes every address"),
        (vec!["--max-connections", "0"], "0 is not in 1..=1000000"),
    ] {
        let output = carnet.run(&[&["serve", "--issuer", ISSUER], &arguments[..]].concat());
        assert_eq!(output.status, 2, "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(message), "{arguments:?}: {}", output.stderr);
    }
    assert!(!carnet.database().exists(), "arguments come first");
    let server = serve(&carnet, "0.0.0.0:0", &["--insecure-listen"]);
    assert!(server.announced("/listening").starts_with("http://0.0.0.0:"));
    drop(server);
    let server = serve(&carnet, "127.0.0.1:0", &[&tls[..], &["--public-listen", "0.0.0.0:0"]].concat());
    for listener in ["/listening", "/public_listening"] {
        let listening = server.announced(listener).replace("0.0.0.0", "127.0.0.1");
        assert_eq!(over_tls(&listening, &ca, JWKS).unwrap().status, 200, "{listener}");
    }
}

#[test]
fn a_certificate_is_reloaded_while_requests_go_on() {
    let carnet = Carnet::new();
    let (old, new) = (Ca::new(), Ca::new());
    let files = Path::new(carnet.home());
    let (certificate, key) = (files.join("tls.pem"), files.join("tls.key"));
    let put = |to: &Path, content: &[u8]| fs::write(to, content).unwrap();
    put(&certificate, &fs::read(old.server_certificate()).unwrap());
    put(&key, &fs::read(old.server_key()).unwrap());
    let tls = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = serve(&carnet, "127.0.0.1:0", &tls);
    let listening = server.announced("/listening").to_owned();
    let reload_error = |ca: &Ca| {
        let checks = over_tls(&listening, ca, "/readyz")?.json()["checks"].clone();
        assert_eq!(checks["tls"]["expires_at"], "4096-01-01T00:00:00Z");
        checks["tls"]["reload_error"].as_str().map(str::to_owned)
    };
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // Stops the clients even if an assertion below fails.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let finish = Done(&done);
        scope.spawn(|| {
            // An existing connection keeps its session.
            let mut connection = Connection::to(&listening, Some(&old));
            while !done.load(Ordering::Relaxed) {
                assert_eq!(connection.get(JWKS).status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let response = over_tls(&listening, &old, JWKS).or_else(|| over_tls(&listening, &new, JWKS));
                assert_eq!(response.expect("neither certificate").status, 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        let new_pem = fs::read(new.server_certificate()).unwrap();
        put(&certificate, &new_pem[..new_pem.len() / 2]);
        let error = wait_until(SOON, || reload_error(&old)).expect("half a certificate goes unnoticed");
        assert!(error.contains("holds no PEM certificate"), "{error}");
        put(&certificate, &new_pem);
        wait_until(SOON, || reload_error(&old).filter(|error| error.contains("together for TLS")))
            .expect("a certificate without its key goes unnoticed");
        put(&key, &fs::read(new.server_key()).unwrap());
        wait_until(SOON, || over_tls(&listening, &new, JWKS)).expect("the new pair is never served");
        assert_eq!(over_tls(&listening, &old, JWKS), None, "new connections still see the old one");
        assert_eq!(reload_error(&new), None);
        // Each failure is counted once and logged once.
        let metrics = over_tls(&listening, &new, "/metrics").unwrap().body;
        for series in [
            "reload_failures_total{listener=\"main\"} 2",
            "certificate_not_after_timestamp_seconds{listener=\"main\"} 67090118400",
        ] {
            assert!(metrics.contains(&format!("carnet_tls_{series}\n")), "no {series} in\n{metrics}");
        }
        drop(finish);
    });
    assert!(asked.load(Ordering::Relaxed) > 10);
    // The old pair again, after a signal.
    put(&certificate, &fs::read(old.server_certificate()).unwrap());
    put(&key, &fs::read(old.server_key()).unwrap());
    server.process.signal("HUP");
    wait_until(SOON, || over_tls(&listening, &old, JWKS)).expect("SIGHUP does not reload");
    let warnings = server.process.stderr().matches("certificate is not reloaded").count();
    assert_eq!(warnings, 2, "each failure is told once");
}

#[test]
fn idle_connections_do_not_delay_the_shutdown() {
    let carnet = Carnet::new();
    let mut server = serve(&carnet, "127.0.0.1:0", &["--public-listen", "127.0.0.1:0"]);
    let mut idle = ["/listening", "/public_listening"].map(|to| Connection::to(server.announced(to), None));
    for connection in &mut idle {
        assert_eq!(connection.get(JWKS).status, 200);
    }
    server.process.ask_to_stop();
    assert_eq!(idle.each_mut().map(Connection::is_closed), [true, true]);
    assert!(server.process.wait_for_end(SOON).unwrap().success());
}

#[test]
fn a_server_with_a_shutdown_delay_reports_draining_and_still_accepts() {
    let carnet = Carnet::new();
    let mut server = serve(&carnet, "127.0.0.1:0", &["--shutdown-delay", "3s"]);
    let listening = server.announced("/listening").to_owned();
    server.process.ask_to_stop();
    let draining = wait_until(SOON, || {
        Some(Connection::to(&listening, None).get("/readyz")).filter(|response| response.status == 503)
    });
    assert_eq!(draining.unwrap().json()["status"], "draining");
    assert_eq!(Connection::to(&listening, None).get(JWKS).status, 200);
    assert!(server.process.wait_for_end(SOON).unwrap().success());
}
