//! The settings of an Amazon ECR feed: the role that it assumes, and the rules between that role, the
//! registry and the overridden endpoints. The rules for ECR Public are in [`super::ecr_public`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::feed::Feed;
use crate::feed::declaration::{Field, FieldValue, KnownRegistry, Settings, Shape, TypeDeclaration};
use crate::feed::ecr_host::{EcrHost, EcrHostError, Partition};
use crate::feed::endpoints::{Endpoints, EndpointsError};
use crate::feed::registry_host::RegistryHost;
use crate::jose::Algorithm;
use crate::oidc::audience::Audience;
use crate::values::duration;
use crate::values::excerpt::excerpt;
use crate::values::slug::Slug;

/// The endpoints that an AWS feed can override.
pub const ENDPOINT_NAMES: &[&str] = &["sts", "ecr"];

/// The role that a feed of type `aws-ecr` or `aws-ecr-public` assumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumedRole {
    /// The role, which trusts the issuer and may read the registry.
    pub role_arn: RoleArn,
    /// The requested duration of the role session.
    #[serde(default)]
    pub session_duration: SessionDuration,
}

/// The fields of [`AssumedRole`].
pub const FIELDS: &[Field] = &[
    Field::required::<RoleArn>("role_arn", "role ARN", "The IAM role that trusts this issuer"),
    Field::with_default::<SessionDuration>(
        "session_duration",
        "session duration",
        "The duration of the role's session, 900–43200 seconds",
    ),
];

/// The type `aws-ecr`.
pub const DECLARATION: TypeDeclaration = TypeDeclaration {
    about: "A private registry of Amazon ECR",
    registry: KnownRegistry::Such("123456789012.dkr.ecr.eu-central-1.amazonaws.com"),
    fields: FIELDS,
    endpoints: ENDPOINT_NAMES,
    algorithm: Algorithm::Es256,
    subject_limit: None,
    check_scope: |_| Ok(()),
};

/// The rules of the type `aws-ecr`.
pub type RuleError = AwsEcrError;

pub(super) fn check_feed(role: &AssumedRole, feed: &Feed) -> Result<(), RuleError> {
    role.check(&feed.registry, &feed.endpoints)
}

impl Settings for AssumedRole {
    fn default_audience(&self, _: &RegistryHost, _: &Endpoints) -> Audience {
        Audience::well_known("sts.amazonaws.com")
    }

    fn longer_life(&self) -> &'static str {
        "request a credential with less remaining life, or raise the feed's session_duration and the role's \
         maximum session duration"
    }
}

impl AssumedRole {
    /// Returns the role with the default duration of its sessions.
    #[must_use]
    pub fn new(role_arn: RoleArn) -> Self {
        Self { role_arn, session_duration: SessionDuration::default() }
    }

    /// Checks what must hold of a private registry between the role, the registry and the overrides.
    ///
    /// # Errors
    ///
    /// See [`AwsEcrError`]; the first rule that is broken.
    /// Checks the role, the private registry and the overrides against each other. Returns the first rule
    /// that is broken.
    pub fn check(&self, registry: &RegistryHost, endpoints: &Endpoints) -> Result<(), AwsEcrError> {
        endpoints.allow_only(ENDPOINT_NAMES)?;
        match EcrHost::try_from(registry) {
            Ok(host) if host.partition() != self.role_arn.partition() => {
                Err(AwsEcrError::Partition { registry: host.partition(), role: self.role_arn.partition() })
            }
            Ok(_) => Ok(()),
            Err(why) => match ENDPOINT_NAMES.iter().find(|name| endpoints.get(name).is_none()) {
                Some(missing) => Err(AwsEcrError::Endpoint { missing, why }),
                None => Ok(()),
            },
        }
    }
}

/// The settings of an `aws-ecr` feed contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AwsEcrError {
    /// An AWS feed does not have this endpoint.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// A role cannot be assumed across partitions.
    #[error("role_arn: a role of partition {role} cannot read a registry of partition {registry}")]
    Partition {
        /// The registry's partition.
        registry: Partition,
        /// The role's partition.
        role: Partition,
    },
    /// The registry's name does not reveal the API hosts, and an override is missing.
    #[error("registry: {why}; of any other registry the endpoint {missing} must be given too")]
    Endpoint {
        /// The first endpoint that is not overridden.
        missing: &'static str,
        /// The reason why the registry's name does not reveal the API hosts.
        why: EcrHostError,
    },
}

/// The ARN of an IAM role, `arn:{partition}:iam::{account}:role/{path/}{name}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleArn {
    arn: String,
    partition: Partition,
}

/// A text is not a [`RoleArn`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{value} is not the ARN of a role: {rule}")]
pub struct RoleArnError {
    /// An excerpt of the text, quoted and escaped.
    pub value: String,
    /// The rule that the text breaks.
    pub rule: RoleArnRule,
}

/// The rules for role ARNs. Each message says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RoleArnRule {
    /// The length is outside STS's limits.
    #[error("use 20 to 2048 characters")]
    Length,
    /// The text lacks one of the six fields of an IAM ARN, or names a region.
    #[error("write arn:PARTITION:iam::ACCOUNT:role/NAME")]
    Form,
    /// AWS has no such partition.
    #[error("use a partition of AWS: {}", PARTITIONS.map(|(partition, _)| partition.as_str()).join(", "))]
    Partition,
    /// The account is not a number of 12 digits.
    #[error("use an account of 12 digits")]
    Account,
    /// The resource is not a role, but for example a user, a policy or an assumed role.
    #[error("after the account there must be “role/”")]
    NotARole,
    /// The path breaks IAM's rules.
    #[error("use at most 512 printable ASCII characters, without spaces, as the path")]
    Path,
    /// The name breaks IAM's rules.
    #[error("use 1 to 64 letters, digits and “_+=,.@-” as the name")]
    Name,
}

/// AWS's partitions, each with the region in which APIs are called by default.
const PARTITIONS: [(Partition, &str); 8] = [
    (Partition::Aws, "us-east-1"),
    (Partition::AwsCn, "cn-north-1"),
    (Partition::AwsUsGov, "us-gov-west-1"),
    (Partition::AwsIso, "us-iso-east-1"),
    (Partition::AwsIsoB, "us-isob-east-1"),
    (Partition::AwsIsoE, "eu-isoe-west-1"),
    (Partition::AwsIsoF, "us-isof-south-1"),
    (Partition::AwsEusc, "eusc-de-east-1"),
];

impl RoleArn {
    /// Returns the whole ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.arn
    }

    /// Returns the role's partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Returns the region assumed for a registry that is not ECR's: the partition's first.
    #[must_use]
    pub fn home_region(&self) -> &'static str {
        PARTITIONS
            .iter()
            .find(|(partition, _)| *partition == self.partition)
            .map_or("us-east-1", |(_, region)| region)
    }

    /// Returns the 12 digits of the role's account.
    #[must_use]
    pub fn account_id(&self) -> &str {
        self.arn.split(':').nth(4).unwrap_or_default()
    }
}

impl FieldValue for RoleArn {
    const VALUE_NAME: &'static str = "ARN";
    const SHAPE: Shape = Shape::Text {
        pattern: r"^arn:aws(-cn|-us-gov|-iso|-iso-b|-iso-e|-iso-f|-eusc)?:iam::[0-9]{12}:role/([!-~]{0,510}/)?[A-Za-z0-9_+=,.@-]{1,64}$",
        min: 20,
        max: 2048,
    };
}

impl FromStr for RoleArn {
    type Err = RoleArnError;

    fn from_str(value: &str) -> Result<Self, RoleArnError> {
        match parse(value) {
            Ok(partition) => Ok(Self { arn: value.to_owned(), partition }),
            Err(rule) => Err(RoleArnError { value: excerpt(value), rule }),
        }
    }
}

/// Checks a role's ARN by IAM's rules and returns its partition.
fn parse(value: &str) -> Result<Partition, RoleArnRule> {
    if !(20..=2048).contains(&value.len()) {
        return Err(RoleArnRule::Length);
    }
    let mut fields = value.splitn(6, ':');
    let mut field = || fields.next().ok_or(RoleArnRule::Form);
    let (arn, partition, service, region, account, resource) =
        (field()?, field()?, field()?, field()?, field()?, field()?);
    if (arn, service, region) != ("arn", "iam", "") {
        return Err(RoleArnRule::Form);
    }
    let (partition, _) =
        PARTITIONS.iter().find(|(known, _)| known.as_str() == partition).ok_or(RoleArnRule::Partition)?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(RoleArnRule::Account);
    }
    let resource = resource.strip_prefix("role/").ok_or(RoleArnRule::NotARole)?;
    let (path, name) = resource.rsplit_once('/').unwrap_or(("", resource));
    // IAM's maximum includes the slashes before and after the path.
    if path.len() > 510 || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RoleArnRule::Path);
    }
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_name_byte) {
        return Err(RoleArnRule::Name);
    }
    Ok(*partition)
}

/// Returns whether `byte` is in IAM's alphabet for names of roles and role sessions, `[\w+=,.@-]`.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.arn)
    }
}

impl TryFrom<String> for RoleArn {
    type Error = RoleArnError;

    fn try_from(value: String) -> Result<Self, RoleArnError> {
        value.parse()
    }
}

impl From<RoleArn> for String {
    fn from(role: RoleArn) -> Self {
        role.arn
    }
}

/// The duration of a role session: 900 to 43200 seconds, 3600 by default.
///
/// The role's own maximum may be lower; AWS then refuses the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct SessionDuration(u32);

/// A duration is outside the range of role sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a session lasts 900 to 43200 seconds, written in seconds (3600) or with a unit (60m, 1h)")]
pub struct SessionDurationError;

impl SessionDuration {
    /// Returns the duration in whole seconds.
    #[must_use]
    pub fn as_secs(self) -> u32 {
        self.0
    }
}

impl Default for SessionDuration {
    fn default() -> Self {
        Self(3600)
    }
}

impl TryFrom<u32> for SessionDuration {
    type Error = SessionDurationError;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (900..=43_200).contains(&seconds) { Ok(Self(seconds)) } else { Err(SessionDurationError) }
    }
}

impl From<SessionDuration> for u32 {
    fn from(duration: SessionDuration) -> Self {
        duration.0
    }
}

impl From<SessionDuration> for Duration {
    fn from(duration: SessionDuration) -> Self {
        Self::from_secs(duration.0.into())
    }
}

impl FieldValue for SessionDuration {
    const VALUE_NAME: &'static str = "DURATION";
    const SHAPE: Shape = Shape::Seconds { min: 900, max: 43_200 };
}

impl FromStr for SessionDuration {
    type Err = SessionDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let duration = duration::parse(text).map_err(|_| SessionDurationError)?;
        u32::try_from(duration.as_secs()).map_err(|_| SessionDurationError)?.try_into()
    }
}

impl fmt::Display for SessionDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// Returns the session name under which AWS's audit log shows a feed's actions: `{space}@{feed}`.
///
/// If that exceeds 64 characters, both slugs are shortened and 120 bits of their SHA-256 follow a `=`. Slugs
/// contain neither `@` nor `=`, so no two feeds share a name.
#[must_use]
pub fn role_session_name(space: &Slug, feed: &Slug) -> String {
    const MAX_LENGTH: usize = 64;
    const HASH_BYTES: usize = 15;
    /// The characters left for the slugs by 15 bytes of hash in base64 and the two separators.
    const READABLE: usize = MAX_LENGTH - HASH_BYTES / 3 * 4 - 2;

    let (space, feed) = (space.as_str(), feed.as_str());
    let whole = format!("{space}@{feed}");
    if whole.len() <= MAX_LENGTH {
        return whole;
    }
    let of_space = space.len().min((READABLE / 2).max(READABLE.saturating_sub(feed.len())));
    let of_feed = feed.len().min(READABLE - of_space);
    let hash = digest::digest(&digest::SHA256, whole.as_bytes());
    let hash = BASE64_URL_SAFE_NO_PAD.encode(&hash.as_ref()[..HASH_BYTES]);
    // Slugs are ASCII, so every index is a character boundary.
    format!("{}@{}={hash}", &space[..of_space], &feed[..of_feed])
}

#[cfg(test)]
mod tests;
