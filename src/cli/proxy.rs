//! The option that names a proxy for requests to the clouds.

use std::convert::Infallible;

use clap::Args;

use super::failure::Failure;
use crate::exchange::proxy::ProxyUrl;
use crate::values::secret::SecretString;

/// A proxy, or none.
#[derive(Debug, Args)]
pub(super) struct ProxyOption {
    /// The proxy that requests to the clouds go through, http://HOST:PORT; `HTTPS_PROXY` and its like are
    /// not obeyed. One with a password belongs in `CARNET_PROXY`: others can list arguments
    #[arg(long, env = "CARNET_PROXY", value_name = "URL", hide_env_values = true, value_parser = unread)]
    proxy: Option<SecretString>,
}

/// Taken as it is: what clap refuses, it repeats.
fn unread(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::new(text.to_owned()))
}

impl ProxyOption {
    /// The proxy as it was given, unless a password or a user is in it.
    pub(super) fn without_secret(&self) -> Option<&str> {
        self.proxy.as_ref().map(SecretString::reveal).filter(|proxy| !proxy.contains('@'))
    }

    /// The proxy.
    ///
    /// # Errors
    ///
    /// A failure of usage when it is not the URL of one.
    pub(super) fn proxy(&self) -> Result<Option<ProxyUrl>, Failure> {
        let parse = |text: &SecretString| text.reveal().parse();
        self.proxy
            .as_ref()
            .map(parse)
            .transpose()
            .map_err(|error| Failure::usage(format!("--proxy: {error}")))
    }
}
