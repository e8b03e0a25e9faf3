//! Presents a nudge token: the first step of an exchange, whose result is dropped.

use std::fmt;

use super::aws::{ecr::Ecr, sts};
use super::azure::entra;
use super::transport::HttpTransport;
use super::{Call, ExchangeError, OnStep, asked, aws, azure, google_artifact_registry};
use crate::feed::scope::Scope;
use crate::feed::{Feed, Provider};
use crate::oidc::token::SignedToken;
use crate::values::clock::Clock;

const SESSION: &str = "carnet-nudge";
const SILENT: OnStep<'static> = &|_| {};

/// A verifier of the tokens of some feeds. As far as is known, it has one cache of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Verifier {
    /// `aws`, `azure` or `google`.
    provider: &'static str,
    /// The account, tenant or pool.
    account: String,
    /// The host that receives the request.
    host: String,
    /// Set if a feed's endpoint override names the host.
    is_overridden: bool,
}

impl Verifier {
    /// Returns the verifier of the feed's tokens; `None` if it never fetches keys because they are uploaded
    /// to it.
    ///
    /// # Errors
    ///
    /// Returns the reason why the feed's endpoint cannot be determined.
    pub(crate) fn of(feed: &Feed) -> Result<Option<Self>, String> {
        if feed.provider.uploaded_to().is_some() {
            return Ok(None);
        }
        let (provider, account, uri, endpoint) = match &feed.provider {
            Provider::AwsEcr(role) => {
                let uri = aws::Apis::of(feed, &role.role_arn, Ecr::Private)?.sts;
                ("aws", role.role_arn.account_id().to_owned(), uri, "sts")
            }
            Provider::AwsEcrPublic(role) => {
                let uri = aws::Apis::of(feed, &role.role_arn, Ecr::Public)?.sts;
                ("aws", role.role_arn.account_id().to_owned(), uri, "sts")
            }
            Provider::AzureAcr(azure) => {
                let uri = azure::Apis::of(feed, azure)?.token().clone();
                ("azure", azure.tenant_id.to_string(), uri, "authority")
            }
            Provider::GoogleArtifactRegistry(google) => {
                let pool = google.workload_identity_provider.pool().to_owned();
                ("google", pool, google_artifact_registry::sts_url(feed)?, "sts")
            }
        };
        let host = asked::host(&uri);
        Ok(Some(Self { provider, account, host, is_overridden: feed.endpoints.get(endpoint).is_some() }))
    }

    /// Returns whether the host is the vendor's own.
    pub(crate) fn is_vendors(&self) -> bool {
        !self.is_overridden
    }

    /// Returns whether the verifier checks the subject first and fetches keys only for a known subject.
    /// Assumed for Entra, which finds the federated credential by issuer and subject; Microsoft does not
    /// document it.
    pub(crate) fn checks_the_subject_first(&self) -> bool {
        self.provider == "azure" && self.is_vendors()
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.provider, self.account, self.host)
    }
}

/// Presents `token` to the verifier of `feed`. Success means that the token was accepted; the response is
/// dropped.
///
/// # Errors
///
/// Returns [`ExchangeError`] if the verifier refused the token, which serves the purpose as well, or did not
/// respond.
pub(crate) async fn present(
    transport: &dyn HttpTransport,
    feed: &Feed,
    token: &SignedToken,
    clock: &dyn Clock,
) -> Result<(), ExchangeError> {
    let (scope, endpoints) = (&Scope::default(), &feed.endpoints);
    let call = Call { transport, token, clock, scope, endpoints, on_step: SILENT };
    let unknown = |step, reason: String| call.fail(step, super::ExchangeFailure::Request(reason));
    match &feed.provider {
        Provider::AwsEcr(role) | Provider::AwsEcrPublic(role) => {
            let ecr = match &feed.provider {
                Provider::AwsEcrPublic(_) => Ecr::Public,
                _ => Ecr::Private,
            };
            let apis =
                aws::Apis::of(feed, &role.role_arn, ecr).map_err(|reason| unknown(sts::STEP, reason))?;
            sts::assume_role(&call, &apis.sts, role, SESSION, None).await.map(drop)
        }
        Provider::AzureAcr(azure) => {
            let apis = azure::Apis::of(feed, azure).map_err(|reason| unknown(entra::STEP, reason))?;
            entra::present(&call, &apis, azure).await
        }
        Provider::GoogleArtifactRegistry(google) => {
            google_artifact_registry::present(&call, feed, google).await
        }
    }
}
