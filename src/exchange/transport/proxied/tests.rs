use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::diagnosis::{Asked, Cause};
use crate::exchange::transport::{HttpTransport as _, ReqwestTransport, TransportConfig};
use crate::feed::scope::Scope;
use crate::oidc::subject::Context;
use crate::values::tls_failure::CertificateProblem;

/// Starts a proxy that sends the same bytes to each connection and closes it.
async fn proxy(response: impl Into<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let response = response.into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(one(stream, response.clone()));
        }
    });
    address
}

/// Reads a request's head, and replaces `ECHO` in the response with the client's login.
async fn one(mut stream: TcpStream, response: Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let login = head.lines().find(|line| line.to_ascii_lowercase().starts_with("proxy-auth"));
    let response = String::from_utf8_lossy(&response).replace("ECHO", login.unwrap_or_default());
    let _ = stream.write_all(response.as_bytes()).await;
    let _ = stream.shutdown().await;
    // Reads the rest: unread data would cause a reset, and the client would lose the response.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

async fn failure(proxy: &str, url: &str) -> TransportError {
    let proxy = Some(proxy.parse().unwrap());
    let transport = ReqwestTransport::new(TransportConfig { proxy, ..TransportConfig::default() }).unwrap();
    let request = Request::post(url).body(Bytes::from_static(b"token=secret")).unwrap();
    transport.send(request).await.unwrap_err()
}

fn fix_of(cause: &Cause) -> String {
    let feed = "default/a".parse().unwrap();
    let (context, scope) = (Context::empty(), Scope::everything());
    let (written_out, command) = cause.fix.written_out(&Asked {
        feed: &feed,
        context: &context,
        scope: &scope,
        image: None,
        feed_type: crate::feed::FeedType::AwsEcr,
        network: &[],
    });
    format!("{written_out}: {}", command.unwrap_or_default())
}

#[tokio::test]
async fn each_failure_of_a_proxy_is_reported_as_its_own_with_its_message_and_fix() {
    let refused = |status: u16| ProxyFailure::Refused(Some(status));
    let table = [
        ("407 x\r\n\r\n", ProxyFailure::Login { given: false }, "407", "CARNET_PROXY", false),
        ("403 x\r\n\r\n<h1>Not for you</h1>", refused(403), "Not for you", "allow CONNECT", false),
        ("451 x\r\n\r\n", refused(451), "451", "allow CONNECT", false),
        ("502 x\r\n\r\nno such name", refused(502), "no such name", "the proxy's log", true),
        ("503 x\r\n\r\n", refused(503), "503", "the proxy's log", true),
        ("504 x\r\n\r\n", refused(504), "504", "the proxy's log", true),
        ("429 x\r\n\r\n", refused(429), "429", "wait a few minutes", true),
        ("405 x\r\n\r\n", refused(405), "405", "check again", false),
        ("501 x\r\n\r\n", refused(501), "501", "check again", false),
        ("302 x\r\nlocation: http://login/\r\n\r\n", refused(302), "302", "sign this machine in", false),
        ("511 x\r\n\r\n<a>sign in</a>", refused(511), "sign-in", "sign this machine in", false),
        ("200 x\r\n\r\n<h1>Welcome</h1>", ProxyFailure::NoTunnel, "closes the connection", "unchanged", true),
    ];
    for (response, expected, words, fix, transient) in table {
        let address = proxy(format!("HTTP/1.1 {response}")).await;
        let error = failure(&format!("http://{address}"), "https://sts.example/path").await;
        assert_eq!(error.kind(), TransportErrorKind::Proxy(expected), "{response}: {error:?}");
        assert_eq!(error.is_transient(), transient, "{response}");
        let cause = expected.cause("endpoint");
        let written_out = format!("{} {} {}", error.description(), cause.why, fix_of(&cause));
        assert!(
            written_out.contains(&format!("http://{address}: ")) && written_out.contains(words),
            "{written_out}"
        );
        assert!(written_out.contains(fix), "{response}: no {fix} in {written_out}");
        assert!(!written_out.contains("secret") && !written_out.contains("/path"), "{written_out}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_a_proxy_is_distinguished_from_an_absent_proxy() {
    for response in ["SSH-2.0-OpenSSH_9.2\r\n", ""] {
        let address = proxy(response).await;
        let error = failure(&format!("http://{address}"), "https://sts.example/").await;
        let kinds = [ProxyFailure::NotHttp, ProxyFailure::Refused(None)].map(TransportErrorKind::Proxy);
        assert!(kinds.contains(&error.kind()), "{response}: {error:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    for (proxy, url) in [
        (format!("http://{closed}"), "https://sts.example/"),
        (format!("http://{closed}"), "http://sts.example/"),
        ("http://proxy.invalid:3128".to_owned(), "https://sts.example/"),
        ("http://proxy.invalid:3128".to_owned(), "http://sts.example/"),
    ] {
        let error = failure(&proxy, url).await;
        assert_eq!(error.kind(), TransportErrorKind::Proxy(ProxyFailure::Unreached), "{proxy}: {error:?}");
        assert!(error.is_transient() && error.description().contains(&proxy), "{}", error.description());
    }
}

#[tokio::test]
async fn a_proxys_own_tls_failure_is_distinguished_from_the_hosts() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let tls = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    for url in ["https://sts.example/", "http://sts.example/"] {
        let error = failure(&format!("https://localhost:{port}"), url).await;
        let untrusted = TlsFailure::Certificate(CertificateProblem::UnknownIssuer);
        assert_eq!(error.kind(), TransportErrorKind::Proxy(ProxyFailure::Tls(untrusted)), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_without_tls_is_told_as_one_that_does_not_speak_it() {
    for (response, expected, fix) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", TlsFailure::NotTls, "--proxy http://HOST:PORT"),
        ("", TlsFailure::Closed, "open the way"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = format!("https://{}", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(response.as_bytes()).await;
        };
        let (error, ()) = tokio::join!(failure(&proxy, "https://sts.example/"), serve);
        let failure = ProxyFailure::Tls(expected);
        assert_eq!(error.kind(), TransportErrorKind::Proxy(failure), "{error:?}");
        assert_eq!(error.is_transient(), expected == TlsFailure::Closed);
        let fix_of = fix_of(&failure.cause("endpoint"));
        assert!(fix_of.contains(fix), "{fix_of}");
    }
}

#[tokio::test]
async fn a_login_is_requested_in_one_way_and_never_shown() {
    for (url, response) in [
        ("http://sts.example/", "407 x\r\nproxy-authenticate: NTLM\r\n\r\n"),
        ("https://sts.example/", "407 x\r\n\r\n"),
    ] {
        let address = proxy(format!("HTTP/1.1 {response}")).await;
        for (user, given) in [("", false), ("user:hunter2@", true)] {
            let error = failure(&format!("http://{user}{address}"), url).await;
            assert_eq!(error.kind(), TransportErrorKind::Proxy(ProxyFailure::Login { given }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn no_form_of_a_login_that_a_proxy_repeats_is_shown() {
    let page = "403 x\r\n\r\nyou said ECHO";
    let cut = format!("403 x\r\n\r\nyou said {}ECHO", "-".repeat(LONGEST_PAGE - 60));
    let asked = "407 x\r\nproxy-authenticate: you said ECHO\r\n\r\n";
    let (https, http) = ("https://sts.example/", "http://sts.example/");
    for (login, secrets) in [
        // us@er:hun+ter2
        ("us%40er:hun%2Bter2", ["hun%2Bter2", "hun+ter2", "us@er", "us%40er", "dXNAZXI6aHVuK3RlcjI"]),
        // The user name is a token.
        (
            "ghp%5Fto+ken",
            ["ghp%5Fto+ken", "ghp_to+ken", "ghp_to%2Bken", "Z2hwX3RvK2tlbjo", "Z2hwX3RvK2tlbjo="],
        ),
    ] {
        for (response, url) in [(page, https), (&cut, https), (asked, http)] {
            for echo in secrets {
                let address =
                    proxy(format!("HTTP/1.1 {}", response.replace("ECHO", &format!("{echo} ECHO")))).await;
                let error = failure(&format!("http://{login}@{address}"), url).await;
                let shown = format!("{error:?} {}", error.description());
                assert!(error.description().contains("you said ") && shown.contains("[redacted]"), "{shown}");
                for secret in secrets.into_iter().chain(["dXNAZX", "Z2hwX3"]) {
                    assert!(!shown.contains(secret), "{secret} in {shown}");
                }
            }
        }
    }
}

/// Tests a page that arrives a moment after the proxy has reported an open tunnel.
#[tokio::test]
async fn a_page_in_a_tunnel_is_the_proxys_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 4096];
        // The request, then the beginning of a handshake.
        let _ = stream.read(&mut read).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").await.unwrap();
        let _ = stream.read(&mut read).await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n<h1>Not for you</h1>").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let url = format!("http://{address}");
    let (error, ()) = tokio::join!(failure(&url, "https://sts.example/"), serve);
    assert_eq!(error.kind(), TransportErrorKind::Proxy(ProxyFailure::NoTunnel), "{error:?}");
}

#[tokio::test]
async fn a_status_that_comes_through_the_proxy_is_the_hosts_own() {
    let address = proxy("HTTP/1.1 403 x\r\ncontent-length: 2\r\n\r\nno").await;
    let proxy = Some(format!("http://{address}").parse().unwrap());
    let transport = ReqwestTransport::new(TransportConfig { proxy, ..TransportConfig::default() }).unwrap();
    let request = Request::post("http://sts.example/").body(Bytes::new()).unwrap();
    assert_eq!(transport.send(request).await.unwrap().status(), 403);
}
