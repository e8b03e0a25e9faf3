//! A proxy that requests to the clouds go through, because somebody set one; never one of the environment's.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

use crate::secret::SecretString;

/// The URL of an HTTP proxy, which may hold a user name and a password.
///
/// `Display` and `Debug` show it without them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    whole: SecretString,
    shown: String,
}

/// A text is no [`ProxyUrl`]. It is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is not the URL of a proxy: {0}")]
pub struct ProxyUrlError(&'static str);

impl ProxyUrl {
    /// The whole URL, with what stands before `@`.
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
        // Neither fails for a URL with a host, as those of these schemes have one.
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
    fn what_is_no_proxy_is_refused_without_repeating_it() {
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
