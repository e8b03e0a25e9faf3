//! What the AWS exchanges share: where the APIs are, and how their refusals are reported.

pub(crate) mod ecr;
mod hints;
pub(crate) mod sts;

use bytes::Bytes;
use http::{Response, Uri};

use super::upstream::{Redactor, Step, Upstream};
use super::{Call, ExchangeError, Failure};
use crate::feed::aws::RoleArn;
use crate::feed::ecr_host::EcrHost;
use crate::feed::endpoints::Endpoints;
use crate::feed::registry_host::RegistryHost;

/// Where the APIs of one feed are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Apis {
    pub(super) sts: Uri,
    pub(super) ecr: Uri,
    /// The region that requests to ECR are signed for.
    pub(super) region: String,
}

impl Apis {
    /// From the registry's host name, with the feed's overrides.
    ///
    /// The region is the registry's. Of a registry under another name it is the home region of
    /// the role's partition.
    pub(super) fn of(registry: &RegistryHost, role: &RoleArn, endpoints: &Endpoints) -> Result<Self, String> {
        let host = EcrHost::try_from(registry).ok();
        let host = host.as_ref();
        let uri = |name: &str, host: Option<String>| {
            let url = match (endpoints.get(name), host) {
                (Some(url), _) => url.to_string(),
                (None, Some(host)) => format!("https://{host}/"),
                (None, None) => return Err(format!("nothing says where {name} is")),
            };
            url.parse().map_err(|error| format!("the URL of {name}: {error}"))
        };
        Ok(Self {
            sts: uri("sts", host.map(EcrHost::sts_host))?,
            ecr: uri("ecr", host.map(EcrHost::ecr_api_host))?,
            region: host.map_or(role.home_region(), EcrHost::region).to_owned(),
        })
    }
}

/// A provider's error in its own words, as far as the answer could be read.
#[derive(Default)]
pub(super) struct Refusal {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl Call<'_> {
    /// Reports an answer that is no success.
    fn refused(
        &self,
        step: Step,
        answer: &Response<Bytes>,
        refusal: Refusal,
        redactor: &Redactor<'_>,
        role: Option<&RoleArn>,
    ) -> ExchangeError {
        let upstream = Upstream {
            code: redactor.optional(refusal.code.as_deref()),
            // An answer in no known form, a proxy's page: its beginning tells whose it is.
            message: match refusal.message {
                Some(message) => redactor.optional(Some(&message)),
                None => redactor.optional(Some(&String::from_utf8_lossy(answer.body()))),
            },
            request_id: redactor
                .optional(refusal.request_id.as_deref())
                .or_else(|| redactor.header(answer, "x-amzn-requestid")),
            ..Upstream::answered(step, answer.status())
        };
        let hint = hints::hint(&upstream, &self.token.presented, role);
        let transient = upstream.code.as_deref().is_some_and(hints::is_transient);
        self.fail(step, Failure::Refused(upstream)).advise(hint, transient)
    }
}
