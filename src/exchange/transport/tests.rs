use std::sync::Arc;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use super::*;

/// Sends these bytes to one connection, whatever the request is, and returns the request.
async fn once(listener: TcpListener, response: Vec<u8>) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request).await.unwrap();
    // Some tests make the client close the connection early.
    let _ = stream.write_all(&response).await;
    let _ = stream.shutdown().await;
    request.truncate(read);
    String::from_utf8(request).unwrap()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, format!("http://{address}/path"))
}

async fn post(config: TransportConfig, url: &str) -> Result<Response<Bytes>, TransportError> {
    let config = TransportConfig { loopback: Loopback::Allow, ..config };
    let request = Request::post(url).body(Bytes::from_static(b"token=secret")).unwrap();
    ReqwestTransport::new(config).unwrap().send(request).await
}

/// Returns everything that an error can show.
fn shown(error: &TransportError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(" {error} {error:?}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn redirects_are_responses_and_requests_name_only_the_version() {
    let (listener, url) = listen().await;
    let redirect =
        b"HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nhi";
    let (response, request) =
        tokio::join!(post(TransportConfig::default(), &url), once(listener, redirect.to_vec()));
    let response = response.unwrap();
    assert_eq!((response.status(), &response.body()[..]), (StatusCode::TEMPORARY_REDIRECT, &b"hi"[..]));
    assert!(request.starts_with("POST /path HTTP/1.1\r\n"));
    assert!(request.contains(concat!("user-agent: carnet/", env!("CARGO_PKG_VERSION"), "\r\n")));
    assert!(!request.contains("referer") && !request.contains("cookie"));
}

#[tokio::test]
async fn responses_beyond_the_limit_are_cut_off_with_and_without_a_length() {
    let config = TransportConfig { max_response: 10, ..TransportConfig::default() };
    for (response, fits) in [
        (&b"HTTP/1.1 200 x\r\ncontent-length: 10\r\n\r\n0123456789"[..], true),
        (b"HTTP/1.1 200 x\r\ncontent-length: 11\r\n\r\n0123456789A", false),
        (b"HTTP/1.1 200 x\r\n\r\n0123456789A", false),
        (b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n", false),
    ] {
        let (listener, url) = listen().await;
        let (outcome, _) =
            tokio::join!(post(config.clone(), &url), once(listener, response.to_vec()));
        match outcome {
            Ok(response) => assert!(fits && response.body().len() == 10),
            Err(error) => assert!(!fits && error.kind() == TransportErrorKind::TooLarge, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn failures_are_distinguished_and_show_neither_body_nor_url() {
    let (listener, url) = listen().await;
    drop(listener);
    let refused = post(TransportConfig::default(), &url).await.unwrap_err();
    assert_eq!(refused.kind(), TransportErrorKind::Connect);

    let (listener, url) = listen().await;
    let quick = TransportConfig { timeout: Duration::from_millis(50), ..TransportConfig::default() };
    let silent = post(quick, &url).await.unwrap_err();
    drop(listener);
    assert_eq!(silent.kind(), TransportErrorKind::Timeout);

    let (listener, url) = listen().await;
    let (garbage, _) =
        tokio::join!(post(TransportConfig::default(), &url), once(listener, b"SSH-2.0\r\n".to_vec()));
    let garbage = garbage.unwrap_err();
    assert_eq!(garbage.kind(), TransportErrorKind::Other);

    for error in [refused, silent, garbage] {
        let shown = shown(&error);
        assert!(!shown.contains("secret") && !shown.contains("/path"), "{shown}");
    }
}

#[tokio::test]
async fn a_private_ca_is_trusted_only_when_configured() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let trusting =
        TransportConfig { extra_ca_pem: Some(cert.pem().into_bytes()), ..TransportConfig::default() };
    for (config, trusted) in [(trusting, true), (TransportConfig::default(), false)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/path", listener.local_addr().unwrap().port());
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        };
        let (outcome, ()) = tokio::join!(post(config, &url), serve);
        match outcome {
            Ok(response) => assert!(trusted && response.status() == StatusCode::NO_CONTENT),
            Err(error) => {
                assert!(!trusted && matches!(error.kind(), TransportErrorKind::Tls(_)), "{error:?}");
            }
        }
    }
}

#[test]
fn a_ca_bundle_without_certificates_is_refused() {
    for pem in [&b""[..], b"not PEM", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
        let config = TransportConfig { extra_ca_pem: Some(pem.to_vec()), ..TransportConfig::default() };
        assert!(matches!(
            ReqwestTransport::new(config),
            Err(TransportConfigError::CaBundle(_) | TransportConfigError::Client(_))
        ));
    }
}

/// Returns the configuration of a transport whose proxy is this listener.
fn behind(listener: &TcpListener, user: &str) -> TransportConfig {
    let address = listener.local_addr().unwrap();
    // Loopback is not allowed, but a configured proxy may be there.
    TransportConfig {
        proxy: Some(format!("http://{user}{address}").parse().unwrap()),
        ..TransportConfig::default()
    }
}

async fn send(config: TransportConfig, url: &str) -> Result<Response<Bytes>, TransportError> {
    let request = Request::post(url).body(Bytes::from_static(b"token=secret")).unwrap();
    ReqwestTransport::new(config).unwrap().send(request).await
}

#[tokio::test]
async fn a_proxy_that_is_set_gets_every_request_with_its_user_and_resolves_the_names() {
    let (listener, _) = listen().await;
    let config = behind(&listener, "user:hunter2@");
    let response = b"HTTP/1.1 204 x\r\n\r\n".to_vec();
    let (outcome, request) =
        tokio::join!(send(config, "http://nowhere.invalid/path"), once(listener, response));
    assert_eq!(outcome.unwrap().status(), StatusCode::NO_CONTENT);
    assert!(request.starts_with("POST http://nowhere.invalid/path HTTP/1.1\r\n"), "{request}");
    // user:hunter2
    assert!(request.contains("proxy-authorization: Basic dXNlcjpodW50ZXIy\r\n"), "{request}");
}

#[tokio::test]
async fn https_requests_are_tunnelled_and_a_refusing_proxy_shows_no_password() {
    let (listener, _) = listen().await;
    let config = behind(&listener, "user:hunter2@");
    let transport = format!("{config:?} {:?}", ReqwestTransport::new(config.clone()).unwrap());
    let response = b"HTTP/1.1 407 x\r\ncontent-length: 0\r\n\r\n".to_vec();
    let (outcome, request) =
        tokio::join!(send(config, "https://nowhere.invalid/path"), once(listener, response));
    assert!(request.starts_with("CONNECT nowhere.invalid:443 HTTP/1.1\r\n"), "{request}");
    assert!(
        request.to_ascii_lowercase().contains("proxy-authorization: basic dxnlcjpodw50zxiy"),
        "{request}"
    );
    assert!(!request.contains("secret"));
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Proxy(ProxyFailure::Login { given: true }));
    let shown = format!("{transport} {}", shown(&error));
    for secret in ["hunter2", "dXNlcjpodW50ZXIy", "/path"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn addresses_that_are_written_in_urls_are_vetted_before_a_proxy_gets_them() {
    let (listener, url) = listen().await;
    for url in [&url, "http://169.254.169.254/", "https://[fd00:ec2::254]/", "http://[::ffff:a9fe:a9fe]/"] {
        let error = send(behind(&listener, ""), url).await.unwrap_err();
        assert_eq!(error.kind(), TransportErrorKind::Address, "{url}: {error:?}");
    }
    let waiting = std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context)));
    assert!(waiting.await.is_pending());
}

#[tokio::test]
async fn no_request_goes_to_an_address_that_is_not_vetted_by_name_or_literally() {
    let (listener, url) = listen().await;
    let named = url.replace("127.0.0.1", "localhost");
    for url in
        [&url, &named, "http://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/", "http://[fd00:ec2::254]/"]
    {
        let request = Request::post(url).body(Bytes::from_static(b"token=secret")).unwrap();
        let transport = ReqwestTransport::new(TransportConfig::default()).unwrap();
        let error = transport.send(request).await.unwrap_err();
        assert_eq!(error.kind(), TransportErrorKind::Address, "{url}: {error:?}");
        assert!(!error.is_transient());
    }
    // A connection would be waiting in the backlog even if nothing accepts it. There is none.
    let waiting = std::future::poll_fn(|context| std::task::Poll::Ready(listener.poll_accept(context)));
    assert!(waiting.await.is_pending());
}
