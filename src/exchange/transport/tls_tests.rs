//! Handshakes that fail, each with the failure and the fix that are told.

use std::sync::Arc;

use http::Request;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;

use super::*;
use crate::diagnosis::Fix;
use crate::exchange::error::{Asked, unreachable};
use crate::values::tls_failure::CertificateProblem;

/// The other side of a handshake.
enum Server {
    /// It has a certificate for this name, valid in these years, trusted or not.
    Certificate { name: &'static str, years: [i32; 2], trusted: bool },
    /// It sends these bytes after it has read the client's first message, and closes the connection.
    Bytes(&'static [u8]),
    /// It resets the connection.
    Reset,
}

/// A `ServerHello` of TLS 1.1.
const TLS_1_1: &[u8] = &[
    0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2, // The random number.
    1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8,
    // No session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, no compression.
    0, 0xc0, 0x13, 0,
];

async fn serve(server: &Server, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    match (server, acceptor) {
        (Server::Bytes(bytes), _) => {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        (Server::Reset, _) => {
            let _ = stream.read(&mut [0; 4096]).await;
            stream.set_zero_linger().unwrap();
        }
        (Server::Certificate { .. }, acceptor) => {
            let _ = acceptor.unwrap().accept(stream).await;
        }
    }
}

/// Returns the error of a request to `server`.
async fn failure(server: &Server) -> TransportError {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let mut config = TransportConfig { loopback: Loopback::Allow, ..TransportConfig::default() };
    let acceptor = match server {
        Server::Certificate { name, years: [from, to], trusted } => {
            let mut parameters = CertificateParams::new([(*name).to_owned()]).unwrap();
            (parameters.not_before, parameters.not_after) =
                (date_time_ymd(*from, 1, 1), date_time_ymd(*to, 1, 1));
            let key = KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            config.extra_ca_pem = trusted.then(|| certificate.pem().into_bytes());
            let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
            Some(TlsAcceptor::from(Arc::new(tls)))
        }
        Server::Bytes(_) | Server::Reset => None,
    };
    let transport = ReqwestTransport::new(config).unwrap();
    let request = Request::get(url).body(Bytes::new()).unwrap();
    let (response, ()) = tokio::join!(transport.send(request), serve(server, listener, acceptor));
    response.unwrap_err()
}

#[tokio::test]
async fn failed_handshakes_are_told_apart_each_with_its_fix() {
    use CertificateProblem::{Expired, NotYetValid, OtherName, UnknownIssuer};
    use TlsFailure::{Certificate, Closed, NotTls, NothingInCommon, Refused};
    let certificate = |name, years, trusted| Server::Certificate { name, years, trusted };
    let (now, past, future) = ([2000, 4000], [2000, 2001], [3000, 4000]);
    for (server, expected, description, why, fix) in [
        (
            certificate("localhost", now, false),
            Certificate(UnknownIssuer),
            "UnknownIssuer",
            "is not trusted here",
            "--ca-file FILE",
        ),
        (
            certificate("other.example", now, true),
            Certificate(OtherName),
            "not valid for name",
            "is for another name",
            "change the endpoint",
        ),
        (
            certificate("localhost", past, true),
            Certificate(Expired),
            "certificate expired",
            "has expired",
            "certificate renewed",
        ),
        (
            certificate("localhost", future, true),
            Certificate(NotYetValid),
            "not valid yet",
            "is not valid yet",
            "set this machine's clock",
        ),
        // An alert: protocol_version.
        (
            Server::Bytes(&[0x15, 3, 3, 0, 2, 2, 70]),
            NothingInCommon,
            "ProtocolVersion",
            "no TLS version or cipher suite",
            "have TLS 1.2 or 1.3 enabled",
        ),
        (
            Server::Bytes(TLS_1_1),
            NothingInCommon,
            "peer is incompatible",
            "no TLS version or cipher suite",
            "have TLS 1.2 or 1.3 enabled",
        ),
        // An alert: handshake_failure.
        (
            Server::Bytes(&[0x15, 3, 3, 0, 2, 2, 40]),
            Refused,
            "HandshakeFailure",
            "refuses the TLS handshake",
            "change the endpoint",
        ),
        (
            Server::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            NotTls,
            "corrupt message",
            "does not speak TLS",
            "change the endpoint",
        ),
        (Server::Bytes(b""), Closed, "handshake eof", "hangs up", "open the way to the endpoint"),
        (Server::Reset, Closed, "reset", "hangs up", "open the way to the endpoint"),
    ] {
        let error = failure(&server).await;
        assert_eq!(error.kind(), TransportErrorKind::Tls(expected), "{error:?}");
        assert_eq!(error.is_transient(), expected == Closed, "{error:?}");
        let text = error.description();
        assert!(text.starts_with("the TLS handshake failed: ") && text.contains(description), "{text}");
        let cause = unreachable(error.kind(), &Asked::Endpoint { step: "sts", named: true });
        assert!(cause.why.contains(why), "{text}: {}", cause.why);
        let fixes = match cause.fix {
            Fix::CheckWith(text) | Fix::Act(text) => text,
            Fix::Endpoints(_) => "change the endpoint".to_owned(),
            other => panic!("{other:?}"),
        };
        assert!(fixes.contains(fix), "{text}: {fixes}");
    }
}
