//! The common parts of the AWS exchanges: the URLs of the APIs, and the conversion of their errors.

pub(crate) mod ecr;
pub(crate) mod sts;

use bytes::Bytes;
use http::{Response, Uri};

use super::refusal::{Advice, ProviderRefusal};
use super::upstream::{Redactor, Step};
use super::{Call, ExchangeError};
use crate::diagnosis::{Cause, Retry, aws};
use crate::feed::Feed;
use crate::feed::aws::RoleArn;
use crate::feed::ecr_host::EcrHost;
use crate::feed::ecr_public;
use ecr::Ecr;

/// The URLs of the APIs for one feed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Apis {
    pub(super) sts: Uri,
    pub(super) ecr: Uri,
    /// The region for which requests to ECR are signed.
    pub(super) region: String,
}

impl Apis {
    /// Determines the URLs from the registry's host name and the feed's overrides.
    ///
    /// The region is the registry's. For a registry with another name, it is the home region of the role's
    /// partition. ECR Public has only one region.
    pub(super) fn of(feed: &Feed, role: &RoleArn, ecr: Ecr) -> Result<Self, String> {
        let private = match ecr {
            Ecr::Private => EcrHost::try_from(&feed.registry).ok(),
            Ecr::Public => None,
        };
        let is_public = matches!(ecr, Ecr::Public) && ecr_public::is_ecr_public(&feed.registry);
        let host = |of_private: fn(&EcrHost) -> String, of_public: &str| {
            private.as_ref().map(of_private).or_else(|| is_public.then(|| of_public.to_owned()))
        };
        let uri = |name: &str, host: Option<String>| {
            let url = match (feed.endpoints.get(name), host) {
                (Some(url), _) => url.to_string(),
                (None, Some(host)) => format!("https://{host}/"),
                (None, None) => return Err(format!("the URL of {name} is not known")),
            };
            url.parse().map_err(|error| format!("the URL of {name}: {error}"))
        };
        Ok(Self {
            sts: uri("sts", host(EcrHost::sts_host, ecr_public::STS_HOST))?,
            ecr: uri("ecr", host(EcrHost::ecr_api_host, ecr_public::API_HOST))?,
            region: match ecr {
                Ecr::Private => private.as_ref().map_or(role.home_region(), EcrHost::region).to_owned(),
                Ecr::Public => ecr_public::REGION.to_owned(),
            },
        })
    }
}

impl Call<'_> {
    /// Converts an unsuccessful response of AWS. `causes` is called with its code and message.
    fn refused_by_aws(
        &self,
        step: Step,
        response: &Response<Bytes>,
        refusal: ProviderRefusal,
        redactor: &Redactor,
        causes: impl FnOnce(&str, &str) -> Vec<Cause>,
    ) -> ExchangeError {
        self.refused(step, response, refusal, redactor, &["x-amzn-requestid"], |upstream| {
            let message = upstream.message.as_deref().unwrap_or_default();
            match upstream.code.as_deref() {
                Some(code) => Advice { causes: causes(code, message), retry: aws::retry(code, message) },
                None => Advice { causes: Vec::new(), retry: Retry::Never },
            }
        })
    }
}
