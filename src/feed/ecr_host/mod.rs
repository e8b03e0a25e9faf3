//! Host names of private ECR registries, and the API hosts that follow from them.
//!
//! Signed requests and tokens go to the hosts derived here. So a name is parsed from both ends: nothing may
//! precede the account or follow the partition's own DNS suffix. The name determines the account and region,
//! and no other setting of a feed may contradict it.

use thiserror::Error;

use super::registry_host::RegistryHost;
use crate::values::excerpt::excerpt;

/// A private ECR registry: `ACCOUNT.dkr.ecr.REGION.amazonaws.com`, or one of its FIPS, dual-stack and
/// partition forms.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EcrHost {
    account_id: String,
    region: String,
    partition: Partition,
    fips: bool,
    domain: &'static Domain,
}

/// A separately operated part of AWS, named in the second field of an ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// China.
    AwsCn,
    /// US GovCloud.
    AwsUsGov,
    /// US intelligence community, top secret.
    AwsIso,
    /// US intelligence community, secret.
    AwsIsoB,
    /// United Kingdom.
    AwsIsoE,
    /// US intelligence community, `us-isof` regions.
    AwsIsoF,
    /// European Sovereign Cloud.
    AwsEusc,
}

/// A registry is not a private ECR registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value} is not a private ECR registry: {rule}; its name is ACCOUNT.dkr.ecr.REGION.amazonaws.com \
     (or AWS's own FIPS, dual-stack or partition form of that)"
)]
pub struct EcrHostError {
    /// An excerpt of the registry, quoted and escaped.
    pub value: String,
    /// The rule that the name breaks.
    pub rule: EcrHostRule,
}

/// The rules for ECR's host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EcrHostRule {
    /// ECR uses no ports.
    #[error("it has a port")]
    Port,
    /// The name does not end in one of ECR's suffixes.
    #[error("it does not end in a domain of ECR")]
    Domain,
    /// The name does not start with an account.
    #[error("it does not start with an account of 12 digits")]
    Account,
    /// The labels between account and region are not `dkr.ecr` or one of its variants.
    #[error("between account and region there must be “dkr.ecr” or “dkr-ecr”, with or without “-fips”")]
    Service,
    /// The region does not have the form of `us-east-1`.
    #[error("it does not name a region such as us-east-1")]
    Region,
    /// The region belongs to a partition that uses another suffix.
    #[error("its region is not in the partition that its domain belongs to")]
    Partition,
}

/// A DNS suffix of ECR registries, and the properties that follow from it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Domain {
    /// The suffix of registry names.
    registry: &'static str,
    /// The partitions' suffix of IPv4 service endpoints.
    dns: &'static str,
    /// The suffix of dual-stack service endpoints; `None` for an IPv4 suffix.
    dual_stack: Option<&'static str>,
    /// The partitions whose regions use this suffix.
    partitions: &'static [Partition],
}

static DOMAINS: [Domain; 9] = {
    use Partition::{Aws, AwsCn, AwsEusc, AwsIso, AwsIsoB, AwsIsoE, AwsIsoF, AwsUsGov};
    const fn ipv4(suffix: &'static str, partitions: &'static [Partition]) -> Domain {
        Domain { registry: suffix, dns: suffix, dual_stack: None, partitions }
    }
    [
        ipv4("amazonaws.com", &[Aws, AwsUsGov]),
        ipv4("amazonaws.com.cn", &[AwsCn]),
        ipv4("amazonaws.eu", &[AwsEusc]),
        ipv4("c2s.ic.gov", &[AwsIso]),
        ipv4("sc2s.sgov.gov", &[AwsIsoB]),
        ipv4("cloud.adc-e.uk", &[AwsIsoE]),
        ipv4("csp.hci.ic.gov", &[AwsIsoF]),
        Domain {
            registry: "on.aws",
            dns: "amazonaws.com",
            dual_stack: Some("api.aws"),
            partitions: &[Aws, AwsUsGov],
        },
        Domain {
            registry: "on.amazonwebservices.com.cn",
            dns: "amazonaws.com.cn",
            dual_stack: Some("api.amazonwebservices.com.cn"),
            partitions: &[AwsCn],
        },
    ]
};

impl EcrHost {
    /// Returns the account that owns the registry: 12 digits.
    #[must_use]
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// Returns the registry's region, such as `us-east-1`.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Returns the registry's partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Returns whether this is the registry's FIPS name.
    #[cfg(test)]
    pub fn is_fips(&self) -> bool {
        self.fips
    }

    /// Returns whether this is the registry's dual-stack (IPv6) name.
    #[cfg(test)]
    pub fn is_dual_stack(&self) -> bool {
        self.domain.dual_stack.is_some()
    }

    /// Returns the host of ECR's API with the registry's region and properties.
    ///
    /// AWS documents all of them except FIPS outside `aws` and `aws-us-gov`. There, AWS's SDKs have a rule
    /// for IPv4, which this follows, and no host is known to respond.
    #[must_use]
    pub fn ecr_api_host(&self) -> String {
        let Self { region, partition, fips, domain, .. } = self;
        match (domain.dual_stack, fips, partition) {
            (Some(suffix), false, _) => format!("ecr.{region}.{suffix}"),
            (Some(suffix), true, _) => format!("ecr-fips.{region}.{suffix}"),
            (None, false, _) => format!("api.ecr.{region}.{}", domain.dns),
            (None, true, Partition::Aws | Partition::AwsUsGov) => format!("ecr-fips.{region}.{}", domain.dns),
            (None, true, _) => format!("api.ecr-fips.{region}.{}", domain.dns),
        }
    }

    /// Returns the host of STS in the registry's region.
    ///
    /// This is always the regional IPv4 endpoint, which every region has. FIPS and dual-stack endpoints of
    /// STS exist only in some regions. A user who must use one sets it as the feed's `sts` endpoint.
    #[must_use]
    pub fn sts_host(&self) -> String {
        format!("sts.{}.{}", self.region, self.domain.dns)
    }
}

impl Partition {
    /// Returns the name in ARNs: `aws`, `aws-cn`, …
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
            Self::AwsEusc => "aws-eusc",
        }
    }

    /// Returns the partition of a region by its first two parts. An unknown prefix counts as commercial.
    fn of_region(region: &str) -> Self {
        let mut parts = region.split('-');
        match (parts.next(), parts.next()) {
            (Some("cn"), _) => Self::AwsCn,
            (Some("eusc"), _) => Self::AwsEusc,
            (Some("us"), Some("gov")) => Self::AwsUsGov,
            (_, Some("iso")) => Self::AwsIso,
            (_, Some("isob")) => Self::AwsIsoB,
            (_, Some("isoe")) => Self::AwsIsoE,
            (_, Some("isof")) => Self::AwsIsoF,
            _ => Self::Aws,
        }
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl TryFrom<&RegistryHost> for EcrHost {
    type Error = EcrHostError;

    fn try_from(registry: &RegistryHost) -> Result<Self, EcrHostError> {
        parse(registry).map_err(|rule| EcrHostError { value: excerpt(registry.as_str()), rule })
    }
}

fn parse(registry: &RegistryHost) -> Result<EcrHost, EcrHostRule> {
    if registry.port().is_some() {
        return Err(EcrHostRule::Port);
    }
    let (name, domain) = DOMAINS
        .iter()
        .find_map(|domain| Some((registry.host().strip_suffix(domain.registry)?.strip_suffix('.')?, domain)))
        .ok_or(EcrHostRule::Domain)?;
    let (account_id, rest) = name.split_once('.').ok_or(EcrHostRule::Account)?;
    if account_id.len() != 12 || !account_id.bytes().all(|b| b.is_ascii_digit()) {
        return Err(EcrHostRule::Account);
    }
    let (service, region) = rest.rsplit_once('.').ok_or(EcrHostRule::Service)?;
    let fips = match service {
        "dkr.ecr" | "dkr-ecr" => false,
        "dkr.ecr-fips" | "dkr-ecr-fips" => true,
        _ => return Err(EcrHostRule::Service),
    };
    if !is_region(region) {
        return Err(EcrHostRule::Region);
    }
    let partition = Partition::of_region(region);
    if !domain.partitions.contains(&partition) {
        return Err(EcrHostRule::Partition);
    }
    Ok(EcrHost { account_id: account_id.to_owned(), region: region.to_owned(), partition, fips, domain })
}

/// Returns whether the text has the form of all regions, including unknown ones: words and a number, joined
/// by `-`.
fn is_region(text: &str) -> bool {
    let Some((words, number)) = text.rsplit_once('-') else { return false };
    words.contains('-')
        && words.split('-').all(|word| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.bytes().all(|b| b.is_ascii_alphanumeric())
        })
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests;
