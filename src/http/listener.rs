//! A bound socket: TCP, with or without TLS, or Unix.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::client_address::Peer;
use super::listen_address::{ListenAddress, SocketMode};
use super::tls::Certificate;
pub use super::unix_socket::UnixSocketError;
use super::unix_socket::{self, SocketFile};

/// A source of connections.
#[derive(Debug)]
pub struct Listener(Socket);

#[derive(Debug)]
enum Socket {
    Tcp {
        socket: TcpListener,
        certificate: Option<Arc<Certificate>>,
    },
    /// Never with TLS, which would protect from nothing here.
    Unix {
        socket: UnixListener,
        file: SocketFile,
    },
}

/// A connection.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
    Unix(UnixStream),
}

/// The server cannot listen on an address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The operating system refuses the address.
    #[error("cannot listen on {0}")]
    Tcp(SocketAddr, #[source] io::Error),
    /// The socket's file cannot be created.
    #[error(transparent)]
    Unix(#[from] UnixSocketError),
}

impl Listener {
    /// Listens on `address`: on TCP with the certificate, if one is given; on a Unix socket with `mode`.
    ///
    /// Replaces a socket file that no process listens on. The socket file is removed when the listener is
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`BindError`] if another process listens there, if the path is something other than a socket, or if
    /// the operating system refuses.
    pub async fn bind(
        address: &ListenAddress,
        certificate: Option<Arc<Certificate>>,
        mode: SocketMode,
    ) -> Result<Self, BindError> {
        Ok(Self(match address {
            ListenAddress::Tcp(address) => {
                let socket =
                    TcpListener::bind(address).await.map_err(|error| BindError::Tcp(*address, error))?;
                Socket::Tcp { socket, certificate }
            }
            ListenAddress::Unix(path) => {
                let (socket, file) = unix_socket::bind(path, mode).await?;
                Socket::Unix { socket, file }
            }
        }))
    }

    /// Returns the URL of the listener: `http://ADDRESS:PORT`, `https://…`, or `unix:/path`.
    ///
    /// # Errors
    ///
    /// If the operating system does not report the port.
    pub fn url(&self) -> io::Result<String> {
        Ok(match &self.0 {
            Socket::Tcp { socket, certificate: None } => format!("http://{}", socket.local_addr()?),
            Socket::Tcp { socket, certificate: Some(_) } => format!("https://{}", socket.local_addr()?),
            Socket::Unix { file, .. } => ListenAddress::Unix(file.path().to_owned()).to_string(),
        })
    }

    /// Accepts the next connection. Dropping the future while it waits loses no connection.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Socket::Tcp { socket, certificate } => {
                let (stream, address) = socket.accept().await?;
                let stream = match certificate {
                    Some(certificate) => Stream::Tls(stream, certificate.acceptor()),
                    None => Stream::Tcp(stream),
                };
                Ok((stream, address.into()))
            }
            Socket::Unix { socket, .. } => {
                let (stream, _) = socket.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

impl From<TcpListener> for Listener {
    /// Serves without TLS.
    fn from(socket: TcpListener) -> Self {
        Self(Socket::Tcp { socket, certificate: None })
    }
}
