//! The option that names a proxy for requests to the clouds.

use std::convert::Infallible;

use clap::Args;

use super::failure::CommandFailure;
use crate::exchange::proxy::ProxyUrl;
use crate::values::secret::SecretString;

/// An optional proxy.
#[derive(Debug, Args)]
pub(super) struct ProxyOption {
    /// The proxy for requests to the clouds, http://HOST:PORT; `HTTPS_PROXY` and similar variables are
    /// ignored. One with a password belongs in `CARNET_PROXY`: other users can list arguments
    #[arg(long, env = "CARNET_PROXY", value_name = "URL", hide_env_values = true, value_parser = unread)]
    proxy: Option<SecretString>,
}

/// Accepts any text, because clap quotes values that it refuses, passwords included.
fn unread(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::new(text.to_owned()))
}

impl ProxyOption {
    /// Returns the given proxy, unless it contains a user or a password.
    pub(super) fn without_secret(&self) -> Option<&str> {
        self.proxy.as_ref().map(SecretString::reveal).filter(|proxy| !proxy.contains('@'))
    }

    /// Returns the proxy. Fails with a usage error if it is not a valid proxy URL.
    pub(super) fn proxy(&self) -> Result<Option<ProxyUrl>, CommandFailure> {
        let parse = |text: &SecretString| text.reveal().parse();
        self.proxy
            .as_ref()
            .map(parse)
            .transpose()
            .map_err(|error| CommandFailure::usage(format!("--proxy: {error}")))
    }
}
