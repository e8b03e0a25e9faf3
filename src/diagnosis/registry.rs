//! The likely causes if a registry refuses a fresh credential. The codes are those of the OCI distribution
//! specification.

use super::{Cause, Fix, aws, azure, google};
use crate::feed::{Feed, Provider};

/// Returns the causes if the message names a policy or a network rule, which no permission of the identity
/// changes.
fn of_policy(feed: &Feed, message: &str) -> Option<Vec<Cause>> {
    match &feed.provider {
        Provider::AwsEcr(role) | Provider::AwsEcrPublic(role) => aws::of_policy(message, aws::PULL, role),
        Provider::AzureAcr(_) => azure::of_network(message, feed.registry.as_str()),
        Provider::GoogleArtifactRegistry(_) => {
            let project = format!("the project of {}", feed.registry);
            let refused = google::Refused { code: "DENIED", message, reason: None };
            google::of_organization(&refused, &project)
        }
    }
}

/// Returns the causes if the credential was refused at `/v2/` or by its token endpoint.
pub(crate) fn of_login(feed: &Feed, status: Option<u16>, message: &str) -> Vec<Cause> {
    let host = &feed.registry;
    if let (Some(401 | 403), Some(causes)) = (status, of_policy(feed, message)) {
        return causes;
    }
    let other = || Fix::Feed("--registry HOST".to_owned());
    match status {
        Some(401) => vec![
            Cause::new(
                format!(
                    "{host} does not know the credential: it is another registry than the one that the cloud \
                 gave it for"
                ),
                other(),
            ),
            Cause::trust("the identity has no permission there that lets it log in"),
            Cause::early("a new permission takes some minutes until it works"),
        ],
        Some(403) => vec![
            Cause::trust("the identity has no permission there that lets it log in"),
            Cause::act(
                format!("the network rules of {host} do not let this machine in"),
                "allow this machine's address in the registry's network rules",
            ),
        ],
        Some(429) => vec![Cause::early(format!("{host} limits how often it is asked"))],
        Some(300..=399) => vec![Cause::new(format!("{host} is not the registry's own name"), other())],
        Some(500..) => vec![Cause::early(format!("the trouble is at {host} and often passes"))],
        Some(_) | None => {
            vec![Cause::new(format!("{host} is not a registry, or not reached from here"), other())]
        }
    }
}

/// Returns the cause if the registry's challenge names a token realm on a foreign host.
pub(crate) fn foreign_realm(feed: &Feed, realm: &str) -> Vec<Cause> {
    vec![Cause::new(
        format!(
            "{} wants its password sent to {realm}, which is neither its own host nor its vendor's: it is not the \
             registry that it is taken for",
            feed.registry
        ),
        Fix::Feed("--registry HOST".to_owned()),
    )]
}

/// Returns the cause for an index without entries.
pub(crate) fn of_empty_index() -> Vec<Cause> {
    vec![Cause::new(
        "the tag stands for an index without any image, which some builds push before the images themselves: there is \
         nothing to pull, and the credential is not to blame",
        Fix::CheckWith("--image NAME:TAG".to_owned()),
    )]
}

/// Returns the causes if an image cannot be pulled with a credential that the registry has accepted.
pub(crate) fn of_pull(
    image: &str,
    code: Option<&str>,
    status: Option<u16>,
    message: &str,
    feed: &Feed,
) -> Vec<Cause> {
    if let (Some(401 | 403), Some(causes)) = (status, of_policy(feed, message)) {
        return causes;
    }
    match (code, status) {
        (Some("NAME_UNKNOWN"), _) => vec![
            Cause::new("there is no such repository", Fix::CheckWith("--image NAME:TAG".to_owned())),
            Cause::trust("some registries say the same of a repository that the identity may not read"),
        ],
        (Some("MANIFEST_UNKNOWN"), _) => {
            vec![Cause::new("there is no such tag or digest", Fix::CheckWith("--image NAME:TAG".to_owned()))]
        }
        (Some("BLOB_UNKNOWN"), _) => vec![Cause::act(
            "the registry has the image's manifest, but not its first layer",
            "push the image again",
        )],
        (Some("NAME_INVALID" | "TAG_INVALID" | "DIGEST_INVALID"), _) => vec![Cause::new(
            "the registry does not take the image's name",
            Fix::CheckWith("--image NAME:TAG".to_owned()),
        )],
        (Some("TOOMANYREQUESTS"), _) | (_, Some(429)) => {
            vec![Cause::early(format!("{} limits how often it is asked", feed.registry))]
        }
        (Some("UNAUTHORIZED" | "DENIED"), _) | (_, Some(401 | 403)) => vec![
            Cause::trust(format!("the identity may log in, but not pull {image}")),
            Cause::early("a new permission takes some minutes until it works"),
        ],
        (_, Some(404)) => {
            vec![Cause::new(
                "there is no such repository, tag or digest",
                Fix::CheckWith("--image NAME:TAG".to_owned()),
            )]
        }
        (_, Some(500..)) => {
            vec![Cause::early(format!("the trouble is at {} and often passes", feed.registry))]
        }
        (Some(code), Some(400..=499)) => vec![Cause::act(
            format!("carnet knows nothing of this code: look up {code} in what the registry documents"),
            "pull it with another client, and compare",
        )],
        _ => vec![Cause::act(
            "the registry does not serve this image as OCI's distribution specification says",
            "pull it with another client, and compare",
        )],
    }
}
