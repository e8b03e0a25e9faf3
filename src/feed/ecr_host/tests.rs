use proptest::prelude::*;

use super::*;

fn ecr(text: &str) -> Result<EcrHost, EcrHostError> {
    EcrHost::try_from(&text.parse::<RegistryHost>().expect("a registry host"))
}

#[test]
fn every_partition_and_form_leads_to_its_own_api_hosts() {
    // Columns: between account and suffix, suffix; partition; ECR API; STS.
    #[rustfmt::skip]
    let table = [
        ("dkr.ecr.us-east-1.amazonaws.com", "aws", "api.ecr.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"),
        ("dkr-ecr.us-east-1.amazonaws.com", "aws", "api.ecr.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com"),
        ("DKR.ECR.EU-WEST-1.AMAZONAWS.COM", "aws", "api.ecr.eu-west-1.amazonaws.com", "sts.eu-west-1.amazonaws.com"),
        ("dkr.ecr.ap-southeast-7.amazonaws.com", "aws", "api.ecr.ap-southeast-7.amazonaws.com", "sts.ap-southeast-7.amazonaws.com"),
        ("dkr.ecr.mx-central-1.amazonaws.com", "aws", "api.ecr.mx-central-1.amazonaws.com", "sts.mx-central-1.amazonaws.com"),
        ("dkr.ecr.xy-upnorth-12.amazonaws.com", "aws", "api.ecr.xy-upnorth-12.amazonaws.com", "sts.xy-upnorth-12.amazonaws.com"),
        ("dkr.ecr-fips.us-west-2.amazonaws.com", "aws", "ecr-fips.us-west-2.amazonaws.com", "sts.us-west-2.amazonaws.com"),
        ("dkr-ecr-fips.us-west-2.amazonaws.com", "aws", "ecr-fips.us-west-2.amazonaws.com", "sts.us-west-2.amazonaws.com"),
        ("dkr-ecr.us-west-2.on.aws", "aws", "ecr.us-west-2.api.aws", "sts.us-west-2.amazonaws.com"),
        ("dkr.ecr.us-west-2.on.aws", "aws", "ecr.us-west-2.api.aws", "sts.us-west-2.amazonaws.com"),
        ("dkr-ecr-fips.us-east-2.on.aws", "aws", "ecr-fips.us-east-2.api.aws", "sts.us-east-2.amazonaws.com"),
        ("dkr.ecr.us-gov-west-1.amazonaws.com", "aws-us-gov", "api.ecr.us-gov-west-1.amazonaws.com", "sts.us-gov-west-1.amazonaws.com"),
        ("dkr.ecr-fips.us-gov-east-1.amazonaws.com", "aws-us-gov", "ecr-fips.us-gov-east-1.amazonaws.com", "sts.us-gov-east-1.amazonaws.com"),
        ("dkr-ecr.us-gov-west-1.on.aws", "aws-us-gov", "ecr.us-gov-west-1.api.aws", "sts.us-gov-west-1.amazonaws.com"),
        ("dkr-ecr-fips.us-gov-west-1.on.aws", "aws-us-gov", "ecr-fips.us-gov-west-1.api.aws", "sts.us-gov-west-1.amazonaws.com"),
        ("dkr.ecr.cn-north-1.amazonaws.com.cn", "aws-cn", "api.ecr.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("dkr.ecr-fips.cn-north-1.amazonaws.com.cn", "aws-cn", "api.ecr-fips.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn", "aws-cn", "ecr.cn-northwest-1.api.amazonwebservices.com.cn", "sts.cn-northwest-1.amazonaws.com.cn"),
        ("dkr-ecr-fips.cn-north-1.on.amazonwebservices.com.cn", "aws-cn", "ecr-fips.cn-north-1.api.amazonwebservices.com.cn", "sts.cn-north-1.amazonaws.com.cn"),
        ("dkr.ecr.eusc-de-east-1.amazonaws.eu", "aws-eusc", "api.ecr.eusc-de-east-1.amazonaws.eu", "sts.eusc-de-east-1.amazonaws.eu"),
        ("dkr.ecr.us-iso-east-1.c2s.ic.gov", "aws-iso", "api.ecr.us-iso-east-1.c2s.ic.gov", "sts.us-iso-east-1.c2s.ic.gov"),
        ("dkr.ecr-fips.us-iso-west-1.c2s.ic.gov", "aws-iso", "api.ecr-fips.us-iso-west-1.c2s.ic.gov", "sts.us-iso-west-1.c2s.ic.gov"),
        ("dkr.ecr.us-isob-east-1.sc2s.sgov.gov", "aws-iso-b", "api.ecr.us-isob-east-1.sc2s.sgov.gov", "sts.us-isob-east-1.sc2s.sgov.gov"),
        ("dkr.ecr.eu-isoe-west-1.cloud.adc-e.uk", "aws-iso-e", "api.ecr.eu-isoe-west-1.cloud.adc-e.uk", "sts.eu-isoe-west-1.cloud.adc-e.uk"),
        ("dkr.ecr.us-isof-south-1.csp.hci.ic.gov", "aws-iso-f", "api.ecr.us-isof-south-1.csp.hci.ic.gov", "sts.us-isof-south-1.csp.hci.ic.gov"),
    ];
    for (rest, partition, api, sts) in table {
        let host = ecr(&format!("123456789012.{rest}")).expect(rest);
        assert_eq!(host.account_id(), "123456789012");
        assert_eq!(host.partition().as_str(), partition, "{rest}");
        assert_eq!(host.partition().to_string(), partition);
        assert_eq!(host.ecr_api_host(), api, "{rest}");
        assert_eq!(host.sts_host(), sts, "{rest}");
        assert_eq!(host.sts_host().split('.').nth(1), Some(host.region()), "{rest}");
        assert_eq!(host.is_fips(), rest.contains("fips"), "{rest}");
        assert_eq!(host.is_dual_stack(), rest.contains(".on."), "{rest}");
    }
    assert_eq!(ecr("000000000000.dkr.ecr.us-east-1.amazonaws.com").unwrap().account_id(), "000000000000");
}

#[test]
fn look_alikes_are_refused_by_the_rule_they_break() {
    use EcrHostRule as Rule;
    #[rustfmt::skip]
    let table = [
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com:443", Rule::Port),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com:5000", Rule::Port),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.evilamazonaws.com", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.co", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.uk", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.org", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.amazonaws-com", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.aws", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.evil.aws", Rule::Domain),
        ("123456789012.dkr-ecr.us-east-1.xon.aws", Rule::Domain),
        ("123456789012.dkr-ecr.eusc-de-east-1.on.amazonwebservices.eu", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.xc2s.ic.gov", Rule::Domain),
        ("123456789012.dkr.ecr.us-east-1.ic.gov", Rule::Domain),
        ("public.ecr.aws", Rule::Domain),
        ("registry.example", Rule::Domain),
        ("localhost", Rule::Domain),
        ("127.0.0.1", Rule::Domain),
        ("[::1]", Rule::Domain),
        ("amazonaws.com", Rule::Domain),
        ("com.amazonaws", Rule::Domain),
        ("us-east-1.amazonaws.com", Rule::Account),
        ("ecr.us-east-1.amazonaws.com", Rule::Account),
        ("api.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("12345678901.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("1234567890123.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("12345678901a.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("1234-5678-9012.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("x123456789012.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("evil.123456789012.dkr.ecr.us-east-1.amazonaws.com", Rule::Account),
        ("123456789012.amazonaws.com", Rule::Account),
        ("123456789012.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.amazonaws.com", Rule::Service),
        ("123456789012.dkr-ecr.amazonaws.com", Rule::Service),
        ("123456789012.dkr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.ecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkrecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr--ecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr-public.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr-fips.ecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.fips.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr-fips-fips.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecrfips.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.fips-dkr.ecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.evil.dkr.ecr.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.evil.us-east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.us.east-1.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.us-east-1.vpce.amazonaws.com", Rule::Service),
        ("123456789012.dkr.ecr.us-east-1.on.aws.amazonaws.com", Rule::Service),
        ("123456789012.dkr-ecr.ecr.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.useast1.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.us-east.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.east-1.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.us-east-1a.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.us-east-1-fips.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.us--east-1.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.1-east-1.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.aws-global.amazonaws.com", Rule::Region),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com", Rule::Partition),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.cn", Rule::Partition),
        ("123456789012.dkr.ecr.eu-central-1.amazonaws.eu", Rule::Partition),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.com", Rule::Partition),
        ("123456789012.dkr-ecr.cn-north-1.on.aws", Rule::Partition),
        ("123456789012.dkr-ecr.us-east-1.on.amazonwebservices.com.cn", Rule::Partition),
        ("123456789012.dkr-ecr.eusc-de-east-1.on.aws", Rule::Partition),
        ("123456789012.dkr.ecr.us-east-1.c2s.ic.gov", Rule::Partition),
        ("123456789012.dkr.ecr.us-isob-east-1.c2s.ic.gov", Rule::Partition),
        ("123456789012.dkr.ecr.us-iso-east-1.sc2s.sgov.gov", Rule::Partition),
        ("123456789012.dkr.ecr.us-iso-east-1.amazonaws.com", Rule::Partition),
    ];
    for (text, rule) in table {
        assert_eq!(ecr(text).map_err(|error| error.rule), Err(rule), "{text}");
    }
}

#[test]
fn invalid_registry_hosts_are_refused_earlier() {
    for text in [
        "https://123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "evil.example/123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com@evil",
        "evil@123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "evil.example#123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "evil.example?.dkr.ecr.us-east-1.amazonaws.com",
        r"evil.example\123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com\n",
        "\n123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com\nevil.example",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com\0",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com evil.example",
        "123456789012.dkr.ecr..amazonaws.com",
        "١٢٣٤٥٦٧٨٩٠١٢.dkr.ecr.us-east-1.amazonaws.com",
        "１２３４５６７８９０１２.dkr.ecr.us-east-1.amazonaws.com",
        "123456789012.dkr.ecr.us-east-1.am\u{430}zonaws.com",
        "123456789012。dkr.ecr.us-east-1.amazonaws.com",
    ] {
        assert!(text.parse::<RegistryHost>().is_err(), "{text}");
    }
}

#[test]
fn the_refusal_names_the_rule_and_the_right_form() {
    let message = ecr("12345.dkr.ecr.us-east-1.amazonaws.com").unwrap_err().to_string();
    assert_eq!(
        message,
        "\"12345.dkr.ecr.us-east-1.amazonaws.com\" is not a private ECR registry: it does not start with an \
         account of 12 digits; its name is ACCOUNT.dkr.ecr.REGION.amazonaws.com (or AWS's own FIPS, \
         dual-stack or partition form of that)"
    );
}

/// A valid name: account, service, region, domain.
fn good() -> impl Strategy<Value = [String; 4]> {
    let place = prop::sample::select(vec![
        ("us-east-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
        ("us-iso-east-1", "c2s.ic.gov"),
        ("us-isob-east-1", "sc2s.sgov.gov"),
        ("eu-isoe-west-1", "cloud.adc-e.uk"),
        ("us-isof-south-1", "csp.hci.ic.gov"),
        ("ap-southeast-2", "on.aws"),
        ("cn-north-1", "on.amazonwebservices.com.cn"),
    ]);
    let service = prop::sample::select(vec!["dkr.ecr", "dkr-ecr", "dkr.ecr-fips", "dkr-ecr-fips"]);
    ("[0-9]{12}", service, place).prop_map(|(account, service, (region, domain))| {
        [account, service.to_owned(), region.to_owned(), domain.to_owned()]
    })
}

fn any_character() -> impl Strategy<Value = char> {
    prop_oneof![
        proptest::char::range('!', '~'),
        prop::sample::select(vec!['.', '-', 'a', '1', '@', '/', '\n', 'é']),
        any::<char>()
    ]
}

proptest! {
    #[test]
    fn no_inserted_character_leads_to_another_domain(
        parts in good(), at in any::<prop::sample::Index>(), c in any_character(),
    ) {
        let name = parts.join(".");
        prop_assert!(ecr(&name).is_ok());
        let at = at.index(name.len() + 1);
        let mut changed = name;
        changed.insert(at, c);
        let Ok(registry) = changed.parse::<RegistryHost>() else { return Ok(()) };
        let Ok(host) = EcrHost::try_from(&registry) else { return Ok(()) };
        // Only the region has room for one more character, which stays inside the domain.
        let [account, service, region, domain] = parts;
        let start = account.len() + service.len() + 2;
        prop_assert!((start..=start + region.len()).contains(&at));
        prop_assert_eq!(host.account_id(), account);
        prop_assert_eq!(host.region().len(), region.len() + 1);
        prop_assert_eq!(host.domain.registry, domain);
    }

    #[test]
    fn no_prefix_or_suffix_is_accepted(parts in good(), more in r"\PC{1,12}|[a-z0-9.:-]{1,12}") {
        let name = parts.join(".");
        for changed in [format!("{more}{name}"), format!("{name}{more}"), format!("{name}.{more}"), format!("{more}.{name}")] {
            if let Ok(registry) = changed.parse::<RegistryHost>() {
                prop_assert!(EcrHost::try_from(&registry).is_err(), "{changed}");
            }
        }
    }

    #[test]
    fn every_accepted_host_consists_of_its_parts(parts in good()) {
        let host = ecr(&parts.join(".")).unwrap();
        let [account, service, region, domain] = parts;
        prop_assert_eq!(host.account_id(), account);
        prop_assert_eq!(host.region(), region);
        prop_assert_eq!(host.is_fips(), service.ends_with("-fips"));
        prop_assert_eq!(host.domain.registry, domain);
    }
}
