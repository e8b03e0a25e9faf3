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
            let refused = google::GoogleRefusal { code: "DENIED", message, reason: None };
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
                format!("{host} does not know the credential: the cloud issued it for another registry"),
                other(),
            ),
            Cause::trust("the identity has no permission to log in there"),
            Cause::early("a new permission takes some minutes to take effect"),
        ],
        Some(403) => vec![
            Cause::trust("the identity has no permission to log in there"),
            Cause::act(
                format!("the network rules of {host} do not allow this machine's address"),
                "allow this machine's address in the registry's network rules",
            ),
        ],
        Some(429) => vec![Cause::early(format!("{host} limits the rate of requests"))],
        Some(300..=399) => vec![Cause::new(format!("{host} is not the registry's own name"), other())],
        Some(500..) => vec![Cause::early(format!("{host} has a fault, which is often temporary"))],
        Some(_) | None => {
            vec![Cause::new(
                format!("{host} is not a registry, or cannot be reached from this machine"),
                other(),
            )]
        }
    }
}

/// Returns the cause if the registry's challenge names a token realm on a foreign host.
pub(crate) fn foreign_realm(feed: &Feed, realm: &str) -> Vec<Cause> {
    vec![Cause::new(
        format!(
            "{} asks for its password to be sent to {realm}, which is neither its own host nor its vendor's: \
             it may be another registry than it seems",
            feed.registry
        ),
        Fix::Feed("--registry HOST".to_owned()),
    )]
}

/// Returns the cause for an index without entries.
pub(crate) fn of_empty_index() -> Vec<Cause> {
    vec![Cause::new(
        "the tag refers to an index without images, which some builds push before the images: there is \
         nothing to pull, and the credential is not the cause",
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
            Cause::trust(
                "the identity may lack permission to read the repository: some registries then give the same \
                 response",
            ),
        ],
        (Some("MANIFEST_UNKNOWN"), _) => {
            vec![Cause::new("there is no such tag or digest", Fix::CheckWith("--image NAME:TAG".to_owned()))]
        }
        (Some("BLOB_UNKNOWN"), _) => vec![Cause::act(
            "the registry has the image's manifest, but not its first layer",
            "push the image again",
        )],
        (Some("NAME_INVALID" | "TAG_INVALID" | "DIGEST_INVALID"), _) => vec![Cause::new(
            "the registry does not accept the image's name",
            Fix::CheckWith("--image NAME:TAG".to_owned()),
        )],
        (Some("TOOMANYREQUESTS"), _) | (_, Some(429)) => {
            vec![Cause::early(format!("{} limits the rate of requests", feed.registry))]
        }
        (Some("UNAUTHORIZED" | "DENIED"), _) | (_, Some(401 | 403)) => vec![
            Cause::trust(format!("the identity can log in, but is not allowed to pull {image}")),
            Cause::early("a new permission takes some minutes to take effect"),
        ],
        (_, Some(404)) => {
            vec![Cause::new(
                "there is no such repository, tag or digest",
                Fix::CheckWith("--image NAME:TAG".to_owned()),
            )]
        }
        (_, Some(500..)) => {
            vec![Cause::early(format!("{} has a fault, which is often temporary", feed.registry))]
        }
        (Some(code), Some(400..=499)) => vec![Cause::act(
            format!("carnet does not know this code: look up {code} in the registry's documentation"),
            "pull it with another client and compare",
        )],
        _ => vec![Cause::act(
            "the registry does not serve this image according to the OCI distribution specification",
            "pull it with another client and compare",
        )],
    }
}
