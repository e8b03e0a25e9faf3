//! The common parts of an Azure exchange: the URLs of the APIs, and the conversion of errors.

pub(crate) mod acr;
pub(crate) mod entra;

use bytes::Bytes;
use http::{Request, Response, Uri};

use super::refusal::{Advice, ProviderRefusal};
use super::upstream::{Redactor, Step, Upstream};
use super::{Call, ExchangeError, ExchangeFailure};
use crate::diagnosis::{Cause, Retry, azure};
use crate::feed::Feed;
use crate::feed::acr_host::AzureCloud;
use crate::feed::azure::{AzureAcr, cloud};

/// The URLs of the APIs for one feed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Apis {
    /// The tenant's token endpoint at Entra.
    token: Uri,
    /// ACR's token exchange endpoint.
    exchange: Uri,
    /// ACR's endpoint for access tokens.
    access: Uri,
    /// The registry's name for itself, sent to ACR as `service`.
    service: String,
    cloud: AzureCloud,
}

impl Apis {
    /// Determines the URLs from the registry's host name, the tenant and the feed's overrides.
    pub(super) fn of(feed: &Feed, azure: &AzureAcr) -> Result<Self, String> {
        let cloud = cloud(&feed.registry, &feed.endpoints);
        let uri = |name: &str, host: &str, path: &str| {
            let base =
                feed.endpoints.get(name).map_or_else(|| format!("https://{host}"), ToString::to_string);
            format!("{base}{path}").parse().map_err(|error| format!("the URL of {name}: {error}"))
        };
        let token_path = format!("/{}/oauth2/v2.0/token", azure.tenant_id);
        Ok(Self {
            token: uri("authority", cloud.authority_host(), &token_path)?,
            exchange: uri("registry", feed.registry.as_str(), "/oauth2/exchange")?,
            access: uri("registry", feed.registry.as_str(), "/oauth2/token")?,
            service: feed.registry.to_string(),
            cloud,
        })
    }
}

impl Apis {
    /// Returns the tenant's token endpoint at Entra.
    pub(super) fn token(&self) -> &Uri {
        &self.token
    }

    /// Returns ACR's token exchange endpoint.
    pub(super) fn exchange(&self) -> &Uri {
        &self.exchange
    }
}

impl Call<'_> {
    /// Sends a form; both APIs accept one.
    ///
    /// The header `id` carries the token's `jti`. Entra uses it as the correlation id, so that its sign-in
    /// log and carnet's records name the same exchange.
    async fn send_form(
        &self,
        step: Step,
        to: &Uri,
        id: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<Response<Bytes>, ExchangeError> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(to)
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .header(id, self.token.jti.to_string())
            .body(Bytes::from(form))
            .map_err(|error| self.fail(step, ExchangeFailure::Request(error.to_string())))?;
        self.send(step, request).await
    }

    /// Converts an unsuccessful response of Entra or ACR.
    fn refused_by_azure(
        &self,
        step: Step,
        response: &Response<Bytes>,
        refusal: ProviderRefusal,
        redactor: &Redactor,
        causes: impl FnOnce(&Upstream) -> Vec<Cause>,
    ) -> ExchangeError {
        const IDS: &[&str] = &["x-ms-correlation-request-id", "x-ms-request-id"];
        self.refused(step, response, refusal, redactor, IDS, |upstream| Advice {
            causes: causes(upstream),
            retry: upstream.code.as_deref().map_or(Retry::Never, azure::retry),
        })
    }
}
