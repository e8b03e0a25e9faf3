//! The likely causes of a failed TLS handshake.

use super::{Cause, Fix};
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

/// Returns the cause of a failed handshake with a `noun`: an endpoint, a registry, an issuer or a proxy. `other`
/// is the fix if the host is wrong: name another one, or look at its response.
pub(crate) fn cause(failure: TlsFailure, noun: &str, other: Fix) -> Cause {
    match failure {
        TlsFailure::Certificate(CertificateProblem::UnknownIssuer) => Cause::new(
            format!(
                "the {noun}'s certificate is not trusted here: a private {noun} or an inspecting proxy needs its CA \
                 configured"
            ),
            Fix::CheckWith("--ca-file FILE".to_owned()),
        ),
        TlsFailure::Certificate(CertificateProblem::OtherName) => Cause::new(
            format!("the {noun}'s certificate is for another name: use one of the {noun}'s own names"),
            other,
        ),
        TlsFailure::Certificate(CertificateProblem::Expired) => Cause::act(
            format!("the {noun}'s certificate has expired, or this machine's clock is ahead"),
            format!("have the {noun}'s certificate renewed, or set this machine's clock; then check again"),
        ),
        TlsFailure::Certificate(CertificateProblem::NotYetValid) => Cause::act(
            format!("the {noun}'s certificate is not valid yet, or this machine's clock is behind"),
            format!(
                "set this machine's clock, or have the {noun} use a certificate that is valid now; then check again"
            ),
        ),
        TlsFailure::Certificate(CertificateProblem::Other) => Cause::act(
            format!("the {noun}'s certificate cannot be verified, for the reason that the message gives"),
            format!(
                "have the {noun} use a certificate for TLS servers, signed by a CA; --ca-file names a private CA"
            ),
        ),
        TlsFailure::NothingInCommon => Cause::act(
            format!(
                "the {noun} offers no TLS version or cipher suite that carnet uses: TLS 1.2 and 1.3, with forward secrecy"
            ),
            format!("have TLS 1.2 or 1.3 enabled at the {noun}, or at the proxy before it; then check again"),
        ),
        TlsFailure::Refused => Cause::new(
            format!(
                "the {noun} refuses the TLS handshake, with the alert that the message names: it may not know the name that \
                 it is asked for, share no cipher suite with carnet, or want a client certificate, which carnet does not have"
            ),
            other,
        ),
        TlsFailure::NotTls => Cause::new(
            format!(
                "what answers at the {noun}'s address and port does not speak TLS: it may serve plain http, or something on \
                 the way answers in its place"
            ),
            other,
        ),
        TlsFailure::Closed => Cause::act(
            format!("the {noun}, or a firewall or proxy on the way to it, hangs up during the TLS handshake"),
            format!("open the way to the {noun} for TLS, or name a proxy with --proxy; then check again"),
        ),
        TlsFailure::Other => Cause::new(
            format!("the TLS handshake with the {noun} failed for the reason that the message gives"),
            other,
        ),
    }
}

/// Returns cause and fix of a failed handshake in one line, for commands that check nothing again.
#[cfg(feature = "cli")]
pub(crate) fn advice(failure: TlsFailure, noun: &str) -> String {
    let Cause { why, fix } = cause(failure, noun, Fix::Again);
    match fix {
        Fix::Act(what) => format!("{why}: {}", what.trim_end_matches("; then check again")),
        _ => why,
    }
}
