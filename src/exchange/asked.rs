//! The audit record of an exchange: the hosts that it contacts, and its failure.

use http::Uri;

use super::aws::ecr::Ecr;
use super::error::{ExchangeError, ExchangeFailure, NO_PROVIDER};
use super::upstream::Step;
use super::{aws, azure, google_artifact_registry};
use crate::audit::{Event, Outcome};
use crate::feed::aws::AssumedRole;
use crate::feed::google::GoogleArtifactRegistry;
use crate::feed::{Feed, Provider};

/// Lists the hosts that an exchange of `feed` contacts, as `asked ecr at a.example, sts at b.example: `, for
/// the beginning of a text in the audit log. The hosts are the cloud's own, or those of the feed's endpoints.
///
/// The text is empty if the host of an API is unknown, because no exchange is possible then.
pub(crate) fn asked(feed: &Feed) -> String {
    let hosts = match &feed.provider {
        Provider::AwsEcr(role) => of_aws(feed, role, Ecr::Private),
        Provider::AwsEcrPublic(role) => of_aws(feed, role, Ecr::Public),
        Provider::AzureAcr(azure) => azure::Apis::of(feed, azure)
            .map(|apis| vec![("authority", host(apis.token())), ("registry", host(apis.exchange()))]),
        Provider::GoogleArtifactRegistry(google) => of_google(feed, google),
    };
    match hosts {
        Ok(hosts) => {
            let hosts: Vec<_> = hosts.into_iter().map(|(name, host)| format!("{name} at {host}")).collect();
            format!("asked {}: ", hosts.join(", "))
        }
        Err(_) => String::new(),
    }
}

impl ExchangeError {
    /// Adds the outcome, the step and the provider's message to `event`. Readers of the audit log may have
    /// chosen the endpoint: if the feed names one and the failure is about it, the record has [`NO_PROVIDER`]
    /// instead of the message. The process's own log has the details.
    ///
    /// The hosts come first, because a provider's message may fill the rest of the text.
    pub(crate) fn recorded(&self, event: Event, feed: &Feed) -> Event {
        let asked = asked(feed);
        if !feed.endpoints.is_empty() && self.is_about_the_endpoint() {
            let Step { provider, name } = self.step();
            tracing::warn!(step = name, jti = ?event.jti, error = %self.failure(), upstream = ?self.upstream(), "{NO_PROVIDER}");
            let event = event.detail(&format!("{asked}{provider} {name}: {NO_PROVIDER}"));
            return Event { outcome: Outcome::Failed, ..event };
        }
        let outcome = match self.failure() {
            ExchangeFailure::Refused(_) | ExchangeFailure::Scope(_) => Outcome::Refused,
            _ => Outcome::Failed,
        };
        let Step { provider, name } = self.step();
        let event =
            Event { outcome, ..event.detail(&format!("{asked}{provider} {name}: {}", self.failure())) };
        match self.upstream().and_then(|upstream| upstream.request_id.as_deref()) {
            Some(id) => event.upstream_request(id),
            None => event,
        }
    }
}

fn of_aws(feed: &Feed, role: &AssumedRole, ecr: Ecr) -> Result<Vec<(&'static str, String)>, String> {
    let apis = aws::Apis::of(feed, &role.role_arn, ecr)?;
    Ok(vec![("ecr", host(&apis.ecr)), ("sts", host(&apis.sts))])
}

fn of_google(feed: &Feed, google: &GoogleArtifactRegistry) -> Result<Vec<(&'static str, String)>, String> {
    let mut hosts = vec![("sts", host(&google_artifact_registry::sts_url(feed)?))];
    if google.service_account.is_some() {
        hosts.insert(0, ("iamcredentials", host(&google_artifact_registry::iam_credentials_url(feed)?)));
    }
    Ok(hosts)
}

/// Returns the host, with its port if the URL has one.
pub(super) fn host(url: &Uri) -> String {
    url.authority().map(ToString::to_string).unwrap_or_default()
}
