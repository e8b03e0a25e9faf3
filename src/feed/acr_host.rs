//! Host names of Azure container registries, and the properties that follow from their cloud.
//!
//! Tokens go to the hosts derived here. So a name is parsed from both ends: one label, a region in the name
//! of a regional login server, and after it exactly one of Azure's own suffixes.

use std::fmt;

use thiserror::Error;

use super::registry_host::RegistryHost;
use crate::values::excerpt::excerpt;

/// A separately operated Azure cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AzureCloud {
    /// The commercial regions.
    Public,
    /// US government.
    UsGovernment,
    /// China, operated by 21Vianet.
    China,
}

impl AzureCloud {
    /// Every cloud.
    pub const ALL: [Self; 3] = [Self::Public, Self::UsGovernment, Self::China];

    /// Returns the domain suffix of the cloud's registries.
    #[must_use]
    pub fn registry_suffix(self) -> &'static str {
        match self {
            Self::Public => "azurecr.io",
            Self::UsGovernment => "azurecr.us",
            Self::China => "azurecr.cn",
        }
    }

    /// Returns the host of the cloud's Entra.
    #[must_use]
    pub fn authority_host(self) -> &'static str {
        match self {
            Self::Public => "login.microsoftonline.com",
            Self::UsGovernment => "login.microsoftonline.us",
            Self::China => "login.chinacloudapi.cn",
        }
    }

    /// Returns the audience that Microsoft recommends for federated credentials in the cloud.
    #[must_use]
    pub fn default_audience(self) -> &'static str {
        match self {
            Self::Public => "api://AzureADTokenExchange",
            Self::UsGovernment => "api://AzureADTokenExchangeUSGov",
            Self::China => "api://AzureADTokenExchangeChina",
        }
    }

    /// Returns the scope of the access tokens that the cloud's registries accept.
    ///
    /// The scope for China follows from the name of its Resource Manager; Microsoft does not document it for
    /// registries.
    #[must_use]
    pub fn scope(self) -> &'static str {
        match self {
            Self::Public => "https://containerregistry.azure.net/.default",
            Self::UsGovernment => "https://management.usgovcloudapi.net/.default",
            Self::China => "https://management.chinacloudapi.cn/.default",
        }
    }

    /// Returns the scope to request in a tenant that does not know the resource of [`AzureCloud::scope`].
    #[must_use]
    pub fn fallback_scope(self) -> Option<&'static str> {
        match self {
            Self::Public => Some("https://management.azure.com/.default"),
            Self::UsGovernment | Self::China => None,
        }
    }
}

impl fmt::Display for AzureCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Public => "public",
            Self::UsGovernment => "US government",
            Self::China => "China",
        })
    }
}

/// An Azure container registry: `NAME.azurecr.io`, its regional form `NAME.REGION.geo.azurecr.io`, or the
/// same in another cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AcrHost {
    cloud: AzureCloud,
}

impl AcrHost {
    /// Returns the registry's cloud.
    #[must_use]
    pub fn cloud(self) -> AzureCloud {
        self.cloud
    }
}

/// A registry is not an Azure container registry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{value} is not an Azure container registry: {rule}; its name is NAME.azurecr.io or NAME.REGION.geo.azurecr.io \
     (azurecr.us in the US government cloud, azurecr.cn in China)"
)]
pub struct AcrHostError {
    /// An excerpt of the registry, quoted and escaped.
    pub value: String,
    /// The rule that the name breaks.
    pub rule: AcrHostRule,
}

/// The rules for ACR's login servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AcrHostRule {
    /// ACR uses no ports.
    #[error("it has a port")]
    Port,
    /// The name does not end in one of ACR's suffixes.
    #[error("it does not end in a domain of ACR")]
    Domain,
    /// The name does not start with that of a registry.
    #[error(
        "it does not start with a name of 5 to 50 letters and digits, or such a name, “-” and the label's hash"
    )]
    Name,
    /// There is no region between the name and `geo`.
    #[error("between its name and “geo” there must be a region, such as westeurope")]
    Region,
}

impl TryFrom<&RegistryHost> for AcrHost {
    type Error = AcrHostError;

    fn try_from(registry: &RegistryHost) -> Result<Self, AcrHostError> {
        parse(registry).map_err(|rule| AcrHostError { value: excerpt(registry.as_str()), rule })
    }
}

fn parse(registry: &RegistryHost) -> Result<AcrHost, AcrHostRule> {
    if registry.port().is_some() {
        return Err(AcrHostRule::Port);
    }
    let (label, cloud) = AzureCloud::ALL
        .into_iter()
        .find_map(|cloud| {
            let label = registry.host().strip_suffix(cloud.registry_suffix())?.strip_suffix('.')?;
            Some((label, cloud))
        })
        .ok_or(AcrHostRule::Domain)?;
    let label = match label.strip_suffix(".geo") {
        None => label,
        Some(regional) => {
            let (label, region) = regional.split_once('.').ok_or(AcrHostRule::Region)?;
            let is_region = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if is_region { label } else { return Err(AcrHostRule::Region) }
        }
    };
    // With a domain name label scope, Azure appends a hash: `NAME-HASH`.
    let (name, hash) = label.split_once('-').map_or((label, None), |(name, hash)| (name, Some(hash)));
    let alphanumeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_name = (5..=50).contains(&name.len()) && alphanumeric(name);
    if !is_name || hash.is_some_and(|hash| hash.is_empty() || !alphanumeric(hash)) {
        return Err(AcrHostRule::Name);
    }
    Ok(AcrHost { cloud })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<AzureCloud, AcrHostRule> {
        AcrHost::try_from(&text.parse::<RegistryHost>().unwrap())
            .map(AcrHost::cloud)
            .map_err(|error| error.rule)
    }

    #[test]
    fn the_cloud_follows_from_the_exact_suffix() {
        use AzureCloud::{China, Public, UsGovernment};
        for (host, cloud) in [
            ("images.azurecr.io", Public),
            ("IMAGES.AzureCR.io", Public),
            ("im4g3.azurecr.us", UsGovernment),
            ("images.azurecr.cn", China),
            ("contosoimages-e7ggejfuhzhgedc8.azurecr.io", Public),
            ("images.westeurope.geo.azurecr.io", Public),
            ("images.eastus2.geo.azurecr.io", Public),
            ("images-e7ggejfuhzhgedc8.usgovvirginia.geo.azurecr.us", UsGovernment),
            ("images.chinanorth3.geo.azurecr.cn", China),
        ] {
            assert_eq!(parse(host), Ok(cloud), "{host}");
        }
        assert_eq!(parse(&format!("{}.azurecr.io", "a".repeat(50))), Ok(Public));
    }

    #[test]
    fn names_that_only_look_like_a_registry_are_refused() {
        use AcrHostRule::{Domain, Name, Port, Region};
        for (host, rule) in [
            ("azurecr.io", Domain),
            ("images.azurecr.io.evil.example", Domain),
            ("images.azurecr.io-evil.example", Domain),
            ("imagesazurecr.io", Domain),
            ("images.azurecr.com", Domain),
            ("images.azurecr.de", Domain),
            ("images-azurecr.io", Domain),
            ("images.evil-azurecr.io", Domain),
            ("images.xn--azurecr-9za.io", Domain),
            ("login.microsoftonline.com", Domain),
            ("127.0.0.1", Domain),
            ("images.azurecr.io:443", Port),
            ("images.azurecr.io:8443", Port),
            ("evil.images.azurecr.io", Name),
            ("images.westeurope.data.azurecr.io", Name),
            ("images.azurecr.us.azurecr.io", Name),
            ("images.geo.azurecr.io", Region),
            ("geo.azurecr.io", Name),
            ("images.evil.westeurope.geo.azurecr.io", Region),
            ("images.west-europe.geo.azurecr.io", Region),
            ("four.westeurope.geo.azurecr.io", Name),
            ("images.westeurope.data.geo.azurecr.io", Region),
            ("images.westeurope.geo.azurecr.io.evil.example", Domain),
            ("four.azurecr.io", Name),
            ("a-b.azurecr.io", Name),
            ("images-a-b.azurecr.io", Name),
            ("images--a.azurecr.io", Name),
        ] {
            assert_eq!(parse(host), Err(rule), "{host}");
        }
        assert_eq!(parse(&format!("{}.azurecr.io", "a".repeat(51))), Err(Name));
    }

    #[test]
    fn a_refusal_names_the_rule_and_the_form() {
        let error = AcrHost::try_from(&"images.azurecr.io:443".parse().unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"images.azurecr.io:443\" is not an Azure container registry: it has a port; its name is NAME.azurecr.io or \
             NAME.REGION.geo.azurecr.io (azurecr.us in the US government cloud, azurecr.cn in China)"
        );
    }

    proptest! {
        #[test]
        fn nothing_before_or_after_a_registry_leads_to_another_domain(
            before in "[a-z0-9.-]{0,12}", after in "[a-z0-9.:-]{0,12}"
        ) {
            let text = format!("{before}images.azurecr.io{after}");
            if let Ok(host) = text.parse::<RegistryHost>()
                && AcrHost::try_from(&host).is_ok()
            {
                let label = host.as_str().strip_suffix(".azurecr.io");
                prop_assert!(label.is_some_and(|label| !label.contains('.')), "{text}");
            }
        }
    }
}
