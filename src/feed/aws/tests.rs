use proptest::prelude::*;

use super::*;

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

#[test]
fn role_arns_are_read_strictly() {
    use RoleArnRule::*;
    let path = |length: usize| format!("arn:aws:iam::123456789012:role/{}/r", "p".repeat(length));
    let name = |length: usize| format!("arn:aws:iam::123456789012:role/{}", "n".repeat(length));
    for (text, outcome) in [
        ("arn:aws:iam::000000000000:role/FeedRole", Ok(("000000000000", "aws"))),
        ("arn:aws-cn:iam::123456789012:role/r", Ok(("123456789012", "aws-cn"))),
        ("arn:aws-us-gov:iam::123456789012:role/a/b/pull+=,.@-_", Ok(("123456789012", "aws-us-gov"))),
        ("arn:aws-eusc:iam::123456789012:role/r", Ok(("123456789012", "aws-eusc"))),
        (&path(510), Ok(("123456789012", "aws"))),
        (&name(64), Ok(("123456789012", "aws"))),
        (&path(511), Err(Path)),
        (&name(65), Err(Name)),
        ("arn:aws:iam::role/r", Err(Length)),
        ("arn:aws:sts::123456789012:assumed-role/r/s", Err(Form)),
        ("arn:aws:iam:us-east-1:123456789012:role/r", Err(Form)),
        ("ARN:aws:iam::123456789012:role/r", Err(Form)),
        ("arn:aws:iam::123456789012", Err(Form)),
        ("arn:aws-moon:iam::123456789012:role/r", Err(Partition)),
        ("arn::iam::123456789012:role/rrrr", Err(Partition)),
        ("arn:aws:iam::12345678901:role/rr", Err(Account)),
        ("arn:aws:iam::12345678901x:role/r", Err(Account)),
        ("arn:aws:iam::١٢٣٤٥٦:role/r", Err(Account)),
        ("arn:aws:iam::123456789012:user/r", Err(NotARole)),
        ("arn:aws:iam::123456789012:role", Err(NotARole)),
        ("arn:aws:iam::123456789012:role/", Err(Name)),
        ("arn:aws:iam::123456789012:role/a b", Err(Name)),
        ("arn:aws:iam::123456789012:role/a\n", Err(Name)),
        ("arn:aws:iam::123456789012:role/röle", Err(Name)),
        ("arn:aws:iam::123456789012:role/a b/r", Err(Path)),
        ("arn:aws:iam::123456789012:role/a:b", Err(Name)),
    ] {
        let read: Result<RoleArn, _> = text.parse();
        let read =
            read.as_ref().map(|arn| (arn.account_id(), arn.partition().as_str())).map_err(|error| error.rule);
        assert_eq!(read, outcome, "{text:?}");
    }
}

#[test]
fn session_durations_keep_to_the_limits_of_sts() {
    for (text, seconds) in [
        ("900", Some(900)),
        ("3600s", Some(3600)),
        ("15m", Some(900)),
        ("12h", Some(43_200)),
        ("899", None),
        ("43201", None),
        ("13h", None),
        ("+900", None),
        ("1d", None),
        ("h", None),
        ("", None),
        ("1 h", None),
        ("4294967295h", None),
    ] {
        assert_eq!(text.parse::<SessionDuration>().ok().map(SessionDuration::as_secs), seconds, "{text:?}");
    }
}

#[test]
fn settings_are_flat_json_with_a_default_duration() {
    let aws: AssumedRole =
        serde_json::from_str(r#"{"role_arn":"arn:aws:iam::123456789012:role/r"}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&aws).unwrap(),
        r#"{"role_arn":"arn:aws:iam::123456789012:role/r","session_duration":3600}"#
    );
    assert!(serde_json::from_str::<SessionDuration>("1").is_err());
}

#[test]
fn registry_role_and_endpoints_must_fit_together() {
    const ECR: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let both = ["sts=http://localhost:1", "ecr=http://localhost:2"];
    for (registry, role, endpoints, error) in [
        (ECR, "arn:aws:iam::123456789012:role/r", &[][..], None),
        (ECR, "arn:aws:iam::999999999999:role/r", &both[..1], None),
        (
            ECR,
            "arn:aws-cn:iam::123456789012:role/r",
            &[],
            Some("role_arn: a role of partition aws-cn cannot read a registry of partition aws"),
        ),
        ("localhost:5000", "arn:aws:iam::123456789012:role/r", &both, None),
        (
            "localhost:5000",
            "arn:aws:iam::123456789012:role/r",
            &both[..1],
            Some(
                "registry: \"localhost:5000\" is not a private ECR registry: it has a port; its name is \
                 ACCOUNT.dkr.ecr.REGION.amazonaws.com (or AWS's own FIPS, dual-stack or partition form of that); \
                 of any other registry the endpoint ecr must be given too",
            ),
        ),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example",
            "arn:aws:iam::123456789012:role/r",
            &[],
            Some(
                "registry: \"123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example\" is not a private ECR registry: \
                 it does not end in a domain of ECR; its name is \
                 ACCOUNT.dkr.ecr.REGION.amazonaws.com (or AWS's own FIPS, dual-stack or partition form of that); \
                 of any other registry the endpoint sts must be given too",
            ),
        ),
    ] {
        let aws = AssumedRole::new(role.parse().unwrap());
        let endpoints = Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap();
        let outcome = aws.check(&registry.parse().unwrap(), &endpoints);
        assert_eq!(outcome.err().map(|error| error.to_string()).as_deref(), error);
    }
}

#[test]
fn session_names_stay_readable() {
    let long = "a".repeat(50);
    assert_eq!(role_session_name(&slug("default"), &slug("prod")), "default@prod");
    let name = role_session_name(&slug("short"), &slug(&long));
    assert_eq!(name, format!("short@{long}"));
    let name = role_session_name(&slug(&long), &slug(&long));
    assert!(name.starts_with(&format!("{0}@{0}=", &long[..21])), "{name}");
    assert_eq!(name.len(), 64);
}

proptest! {
    #[test]
    fn two_feeds_never_share_a_session_name(
        pairs in proptest::collection::hash_set(("[ab]{1,2}[a-z-]{0,46}[a-z]", "[ab]{1,2}[a-z-]{0,46}[a-z]"), 2..20)
    ) {
        let names: std::collections::HashSet<_> =
            pairs.iter().map(|(space, feed)| role_session_name(&slug(space), &slug(feed))).collect();
        prop_assert_eq!(names.len(), pairs.len());
        for name in names {
            prop_assert!((2..=64).contains(&name.len()) && name.bytes().all(is_name_byte), "{}", name);
        }
    }
}
