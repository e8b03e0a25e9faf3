//! The reasons why a TLS handshake fails, read from the error of rustls and never from its text.

use std::error::Error;
use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// The reason why a TLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The other side's certificate is not accepted.
    Certificate(CertificateProblem),
    /// Both sides have no protocol version or cipher suite in common.
    NothingInCommon,
    /// The other side ended the handshake with an alert.
    Refused,
    /// The other side sent something that is not TLS.
    NotTls,
    /// The connection was closed or reset during the handshake.
    Closed,
    /// Any other reason.
    Other,
}

/// The reason why a certificate is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateProblem {
    /// It has expired.
    Expired,
    /// Its validity has not begun.
    NotYetValid,
    /// It is for another host.
    OtherName,
    /// Its chain does not lead to a trusted authority.
    UnknownIssuer,
    /// Any other reason.
    Other,
}

impl TlsFailure {
    /// Returns the reason in the chain of an error of connecting; nothing if the handshake has not begun.
    ///
    /// Only for errors of connecting: when a response is read, a closed connection is no matter of TLS.
    #[must_use]
    pub fn of_connecting(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut closed = None;
        for error in chain(error) {
            if let Some(error) = error.downcast_ref::<rustls::Error>() {
                return Some(error.into());
            }
            // Connecting without TLS reads and writes nothing, so that these come from the handshake.
            if let Some(error) = error.downcast_ref::<io::Error>()
                && matches!(
                    error.kind(),
                    io::ErrorKind::UnexpectedEof
                        | io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionAborted
                        | io::ErrorKind::BrokenPipe
                )
            {
                closed = Some(Self::Closed);
            }
        }
        closed
    }

    /// Returns whether the handshake may succeed a moment later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        self == Self::Closed
    }
}

impl From<&rustls::Error> for TlsFailure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(problem) => Self::Certificate(problem.into()),
            rustls::Error::NoCertificatesPresented => Self::Certificate(CertificateProblem::Other),
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(
                AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity,
            ) => Self::NothingInCommon,
            rustls::Error::AlertReceived(_) => Self::Refused,
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            _ => Self::Other,
        }
    }
}

impl From<&CertificateError> for CertificateProblem {
    fn from(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::OtherName
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it has expired",
            Self::NotYetValid => "it is not valid yet",
            Self::OtherName => "it is for another host",
            Self::UnknownIssuer => "its chain does not lead to a trusted authority",
            Self::Other => "its chain cannot be verified",
        })
    }
}

/// Iterates over an error and everything that caused it, including an error that an I/O error wraps.
pub(crate) fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        // `source` of an I/O error skips the wrapped error.
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("client error (Connect)")]
    struct Outer(#[source] io::Error);

    /// Returns the reason of an error as the HTTP client wraps it.
    fn read(error: impl Into<Box<dyn Error + Send + Sync>>, kind: io::ErrorKind) -> Option<TlsFailure> {
        TlsFailure::of_connecting(&Outer(io::Error::other(io::Error::new(kind, error))))
    }

    #[test]
    fn an_error_of_rustls_is_found_below_io_errors_and_read_by_its_type() {
        use CertificateProblem::{Expired, NotYetValid, Other, OtherName, UnknownIssuer};
        let certificate = rustls::Error::InvalidCertificate;
        for (error, expected) in [
            (certificate(CertificateError::UnknownIssuer), TlsFailure::Certificate(UnknownIssuer)),
            (certificate(CertificateError::NotValidForName), TlsFailure::Certificate(OtherName)),
            (certificate(CertificateError::Expired), TlsFailure::Certificate(Expired)),
            (certificate(CertificateError::NotValidYet), TlsFailure::Certificate(NotYetValid)),
            (certificate(CertificateError::BadSignature), TlsFailure::Certificate(Other)),
            (rustls::Error::NoCertificatesPresented, TlsFailure::Certificate(Other)),
            (PeerIncompatible::ServerDoesNotSupportTls12Or13.into(), TlsFailure::NothingInCommon),
            (rustls::Error::AlertReceived(AlertDescription::ProtocolVersion), TlsFailure::NothingInCommon),
            (rustls::Error::AlertReceived(AlertDescription::HandshakeFailure), TlsFailure::Refused),
            (rustls::Error::AlertReceived(AlertDescription::UnrecognisedName), TlsFailure::Refused),
            (InvalidMessage::InvalidContentType.into(), TlsFailure::NotTls),
            (PeerMisbehaved::IncorrectBinder.into(), TlsFailure::Other),
            (rustls::Error::General("handshake eof".to_owned()), TlsFailure::Other),
        ] {
            assert_eq!(read(error.clone(), io::ErrorKind::InvalidData), Some(expected), "{error:?}");
            assert_eq!(expected.is_transient(), expected == TlsFailure::Closed);
        }
    }

    #[test]
    fn a_connection_that_ends_in_the_handshake_is_told_from_one_that_was_not_made() {
        let said = "invalid peer certificate: UnknownIssuer";
        assert_eq!(read(said, io::ErrorKind::UnexpectedEof), Some(TlsFailure::Closed));
        assert_eq!(read(said, io::ErrorKind::ConnectionReset), Some(TlsFailure::Closed));
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::InvalidData, io::ErrorKind::TimedOut] {
            assert_eq!(read(said, kind), None, "{kind}");
        }
    }
}
