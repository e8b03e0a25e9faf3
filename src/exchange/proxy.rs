//! The proxy for requests to the clouds. Only a configured proxy is used, never one from the environment.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

use super::upstream::Redactor;
use crate::diagnosis::{self, Cause, Fix};
use crate::values::secret::SecretString;
use crate::values::tls_failure::{CertificateProblem, TlsFailure};

/// The URL of an HTTP proxy, optionally with a user name and a password.
///
/// `Display` and `Debug` leave both out.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    whole: SecretString,
    shown: String,
}

/// A text that is not a valid [`ProxyUrl`]. The error does not repeat it, because it may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is not the URL of a proxy: {0}")]
pub struct ProxyUrlError(&'static str);

/// The reasons why a proxy did not forward a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFailure {
    /// Its name was not found, or it refused the connection.
    Unreached,
    /// It did not accept the connection or open the tunnel in time.
    Silent,
    /// The TLS handshake with it failed.
    Tls(TlsFailure),
    /// It requires a login (status 407).
    Login {
        /// Set if the proxy's URL has a login, which the proxy rejects.
        given: bool,
    },
    /// It refused to open a tunnel (`CONNECT`) to the host, with this status if it sent one.
    Refused(Option<u16>),
    /// It closed the connection, or its response is not HTTP.
    NotHttp,
    /// It reported an open tunnel, but then sent data of its own, or nothing.
    NoTunnel,
}

impl ProxyFailure {
    /// Returns whether the same request may succeed a moment later.
    #[must_use]
    pub fn is_transient(self) -> bool {
        match self {
            Self::Unreached | Self::Silent | Self::NoTunnel => true,
            Self::Refused(status) => matches!(status, Some(429 | 500 | 502..=504)),
            Self::Tls(failure) => failure.is_transient(),
            Self::Login { .. } | Self::NotHttp => false,
        }
    }

    /// Returns the cause and its fix, for a request to a `noun`: an endpoint, a registry or an issuer.
    pub(super) fn cause(self, noun: &str) -> Cause {
        let again = |arguments: &str| Fix::CheckWith(arguments.to_owned());
        let url = "--proxy http://HOST:PORT";
        match self {
            Self::Unreached => Cause::new(
                format!(
                    "the proxy that --proxy or CARNET_PROXY names accepts no connection from this machine: \
                     check its host and port, and the firewall; no request reached the {noun}"
                ),
                again(url),
            ),
            Self::Silent => Cause::act(
                format!(
                    "the proxy that --proxy or CARNET_PROXY names does not respond, or does not reach the \
                     {noun}, in time"
                ),
                format!("check in the proxy's log that it reaches the {noun}, then check again"),
            ),
            Self::Tls(TlsFailure::Certificate(CertificateProblem::UnknownIssuer)) => Cause::new(
                "the proxy's own certificate is not trusted here: a private proxy needs its CA configured",
                again("--ca-file FILE"),
            ),
            Self::Tls(TlsFailure::Certificate(CertificateProblem::OtherName)) => Cause::new(
                "the proxy's own certificate is for another name: use one of the proxy's own names",
                again("--proxy https://HOST:PORT"),
            ),
            Self::Tls(failure) => diagnosis::tls::cause(failure, "proxy", again(url)),
            Self::Login { given: false } => Cause::act(
                "the proxy requires a login, and its URL has none",
                "set CARNET_PROXY to the proxy's URL with user name and password, \
                 http://USER:PASSWORD@HOST:PORT; do not use --proxy, because other users can list arguments",
            ),
            Self::Login { given: true } => Cause::act(
                "the proxy does not accept the user name and password in its URL, or not as Basic \
                 authentication, the only kind that carnet supports (not NTLM, Negotiate or Digest)",
                "correct them in CARNET_PROXY, with @ : / and % written as %40 %3A %2F and %25, or allow \
                 this machine to use the proxy without a login",
            ),
            Self::Refused(Some(429)) => Cause::early("the proxy limits the rate of requests"),
            Self::Refused(Some(400 | 404 | 405 | 501)) => Cause::new(
                "the server at the proxy's address opens no tunnels (CONNECT), which https needs: it is a \
                 web server, or a proxy for plain http only",
                again(url),
            ),
            Self::Refused(Some(300..=399 | 511)) => Cause::act(
                "the proxy, or the network before it, requires a sign-in on its own web page",
                "sign this machine in there, or allow it in the network; then check again",
            ),
            Self::Refused(Some(500 | 502..=504)) => Cause::act(
                format!(
                    "the proxy does not reach the {noun}: it cannot resolve its name, has no route to it, or \
                     is overloaded"
                ),
                "find the reason in the proxy's log, then check again".to_owned(),
            ),
            Self::Refused(_) => Cause::act(
                format!("the proxy's rules do not allow this machine to reach the {noun}"),
                format!(
                    "ask the proxy's operators to allow CONNECT to the {noun}'s host and port from this \
                     machine"
                ),
            ),
            Self::NotHttp => Cause::new(
                "the server at the proxy's address closes the connection or does not speak HTTP: check its \
                 port, and whether it expects https (https://) or another protocol, such as SOCKS",
                again(url),
            ),
            Self::NoTunnel => Cause::act(
                format!(
                    "the proxy confirms the tunnel, but then sends something of its own instead of the \
                     {noun}'s response, such as a page, or closes the connection"
                ),
                format!("ask the proxy's operators to pass CONNECT to the {noun}'s host through unchanged"),
            ),
        }
    }
}

impl fmt::Display for ProxyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreached => "could not connect to the proxy",
            Self::Silent => "no response from the proxy in time",
            Self::Tls(_) => "the TLS handshake with the proxy failed",
            Self::Login { given: false } => "the proxy requires a login (407)",
            Self::Login { given: true } => "the proxy does not accept the login in its URL (407)",
            Self::Refused(Some(status)) => {
                return write!(f, "the proxy opens no tunnel to the host and responded with {status}");
            }
            Self::Refused(None) => "the proxy opens no tunnel to the host",
            Self::NotHttp => "the proxy closed the connection, or does not speak HTTP",
            Self::NoTunnel => "the proxy confirmed a tunnel, but does not connect to the host",
        })
    }
}

impl ProxyUrl {
    /// Returns whether the URL has a user name or a password.
    pub(crate) fn has_login(&self) -> bool {
        Url::parse(self.reveal()).is_ok_and(|url| !url.username().is_empty() || url.password().is_some())
    }

    /// Returns a redactor for requests through the proxy. It also removes the user name, which may be a token.
    pub(crate) fn redactor(&self) -> Redactor {
        let Ok(url) = Url::parse(self.reveal()) else { return Redactor::default() };
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        if user.is_empty() && password.is_empty() {
            return Redactor::default();
        }
        let decoded = |text: &str| {
            let form = format!("x={}", text.replace('+', "%2B").replace('&', "%26"));
            let mut pairs = url::form_urlencoded::parse(form.as_bytes());
            SecretString::new(pairs.next().map_or_else(String::new, |(_, text)| text.into_owned()))
        };
        let (plain_user, plain_password) = (decoded(user), decoded(password));
        Redactor::new([user, plain_user.reveal(), password])
            .with_login(plain_user.reveal(), plain_password.reveal())
    }

    /// Returns the whole URL, with user name and password.
    pub(crate) fn reveal(&self) -> &str {
        self.whole.reveal()
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let mut url = Url::parse(text).map_err(|_| ProxyUrlError("write http://HOST:PORT"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProxyUrlError("its scheme must be http or https"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyUrlError("nothing may follow host and port"));
        }
        let whole = SecretString::new(url.to_string());
        // Neither call fails for a URL with a host, and URLs of these schemes have one.
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return Err(ProxyUrlError("it has no host"));
        }
        Ok(Self { whole, shown: url.as_str().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.shown)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_user_and_password() {
        for (text, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy.example:3128/", "http://proxy.example:3128"),
            ("https://user:hunter2@proxy.example", "https://proxy.example"),
            ("http://hunter2@[::1]:8080", "http://[::1]:8080"),
        ] {
            let proxy: ProxyUrl = text.parse().unwrap();
            assert_eq!(
                (proxy.to_string(), format!("{proxy:?}")),
                (shown.into(), format!("ProxyUrl({shown})"))
            );
        }
        let proxy: ProxyUrl = "http://user:hunter2@proxy.example".parse().unwrap();
        assert!(proxy.reveal().contains("user:hunter2@"));
    }

    #[test]
    fn an_invalid_proxy_url_is_refused_and_not_repeated() {
        for text in [
            "",
            "proxy.example",
            "hunter2:3128",
            "socks5://hunter2@proxy.example",
            "http://proxy.example/hunter2",
            "http://proxy.example?hunter2",
            "http://proxy.example#hunter2",
            "http://hunter2@",
        ] {
            let error = text.parse::<ProxyUrl>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
    }
}
