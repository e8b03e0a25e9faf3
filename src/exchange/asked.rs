//! The hosts that an exchange asks, for the audit log.

use http::Uri;

use super::aws::ecr::Ecr;
use super::{aws, azure, google_artifact_registry};
use crate::feed::aws::AssumedRole;
use crate::feed::{Feed, Provider};

/// Lists the hosts that an exchange of `feed` asks, as `asked ecr at a.example, sts at b.example: `, to begin a text of the
/// audit log. They are the cloud's own or, where the feed has endpoints, those of the feed.
///
/// The text is empty where no exchange can be made, because nothing says where one of them is.
pub(crate) fn asked(feed: &Feed) -> String {
    let hosts = match &feed.provider {
        Provider::AwsEcr(role) => of_aws(feed, role, Ecr::Private),
        Provider::AwsEcrPublic(role) => of_aws(feed, role, Ecr::Public),
        Provider::AzureAcr(azure) => azure::Apis::of(feed, azure)
            .map(|apis| vec![("authority", host(apis.token())), ("registry", host(apis.exchange()))]),
        Provider::GoogleArtifactRegistry(google) => google_artifact_registry::sts_url(feed).map(|sts| {
            let account = google.service_account.as_ref();
            let account =
                account.map(|_| ("iamcredentials", google_artifact_registry::iam_credentials_host(feed)));
            account.into_iter().chain([("sts", host(&sts))]).collect()
        }),
    };
    match hosts {
        Ok(hosts) => {
            let hosts: Vec<_> = hosts.into_iter().map(|(name, host)| format!("{name} at {host}")).collect();
            format!("asked {}: ", hosts.join(", "))
        }
        Err(_) => String::new(),
    }
}

fn of_aws(feed: &Feed, role: &AssumedRole, ecr: Ecr) -> Result<Vec<(&'static str, String)>, String> {
    let apis = aws::Apis::of(feed, &role.role_arn, ecr)?;
    Ok(vec![("ecr", host(&apis.ecr)), ("sts", host(&apis.sts))])
}

/// The host, with its port if one is named.
fn host(url: &Uri) -> String {
    url.authority().map(ToString::to_string).unwrap_or_default()
}
