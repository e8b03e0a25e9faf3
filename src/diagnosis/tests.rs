use super::*;
use crate::feed::{FeedType, Provider};
use crate::jose::Algorithm;
use crate::oidc::subject::ContextKey;
use crate::oidc::token::Presented;

fn presented() -> Presented {
    Presented {
        iss: "https://issuer.example".into(),
        sub: "space:default:feed:a".into(),
        aud: "audience".into(),
        kid: "key-1".into(),
        alg: Algorithm::Rs256,
    }
}

fn provider(json: &str) -> Provider {
    serde_json::from_str(json).unwrap()
}

#[test]
fn every_code_that_vendors_document_has_a_cause_and_a_fix() {
    let Provider::AwsEcr(role) =
        provider(r#"{"type":"aws-ecr","role_arn":"arn:aws:iam::123456789012:role/pull"}"#)
    else {
        panic!("another provider")
    };
    for code in [
        "InvalidIdentityToken",
        "ExpiredTokenException",
        "IDPRejectedClaim",
        "IDPCommunicationError",
        "MalformedPolicyDocument",
        "PackedPolicyTooLarge",
        "RegionDisabledException",
        "AccessDenied",
    ] {
        assert!(!aws::of_sts(code, "", &presented(), &role).is_empty(), "{code}");
    }
    assert!(aws::of_sts("NewException", "", &presented(), &role).is_empty());

    let Provider::AzureAcr(azure) = provider(
        r#"{"type":"azure-acr","tenant_id":"8f3c1b2a-0d4e-4f5a-9b6c-7d8e9f0a1b2c",
            "client_id":"0b9d6c5e-1f2a-4b3c-8d4e-5f6a7b8c9d0e"}"#,
    ) else {
        panic!("another provider")
    };
    for number in [
        70_021, 700_211, 700_212, 700_213, 7_002_138, 700_024, 500_133, 50_013, 50_027, 90_061, 50_166,
        501_661, 900_612, 500_011, 700_016, 70_023,
    ] {
        let code = format!("AADSTS{number}");
        assert!(!azure::of_entra(&code, &presented(), &azure).is_empty(), "{code}");
    }
    assert!(azure::of_entra("AADSTS1", &presented(), &azure).is_empty());

    let Provider::GoogleArtifactRegistry(google) = provider(
        r#"{"type":"google-artifact-registry","workload_identity_provider":
            "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet"}"#,
    ) else {
        panic!("another provider")
    };
    for code in ["invalid_target", "unauthorized_client", "invalid_grant"] {
        let refused = google::GoogleRefusal { code, message: "", reason: None };
        assert!(!google::of_sts(&refused, &presented(), &google).is_empty(), "{code}");
    }
}

#[test]
fn fixes_are_commands_for_this_feed_and_context() {
    let feed: FeedPath = "default/a".parse().unwrap();
    let mut context = Context::empty();
    context.insert(ContextKey::Tenant, "acme".parse().unwrap());
    let asked = Asked {
        feed: &feed,
        context: &context,
        scope: &Scope::everything(),
        image: None,
        feed_type: FeedType::AwsEcr,
        network: &[],
    };
    for (fix, command) in [
        (Fix::Trust, Some("carnet feed setup default/a --context tenant=acme")),
        (Fix::Feed("--lifetime 1h".to_owned()), Some("carnet feed update default/a --lifetime 1h")),
        (Fix::Again, Some("carnet feed check default/a --context tenant=acme")),
        (
            Fix::CheckWith("--image x".to_owned()),
            Some("carnet feed check default/a --context tenant=acme --image x"),
        ),
        (Fix::Command("carnet key list".to_owned()), Some("carnet key list")),
        (Fix::Act("think".to_owned()), None),
    ] {
        assert_eq!(fix.written_out(&asked).1.as_deref(), command);
    }
}

#[test]
fn checking_again_asks_for_the_same_once_more() {
    let feed: FeedPath = "default/a".parse().unwrap();
    let repositories = ["app/two", "app/one"].map(|name| name.parse().unwrap());
    let scope = Scope::new(Some(repositories), Some([Action::Pull])).unwrap();
    let with = |arguments: &str| Fix::CheckWith(arguments.to_owned());
    let narrow = "carnet feed check default/a --repository app/one --repository app/two --action pull";
    for (image, fix, more) in [
        (None, Fix::Again, ""),
        (Some("app/one:v1"), Fix::Again, " --image app/one:v1"),
        (Some("app/one:v1"), with("--image NAME:TAG"), " --image NAME:TAG"),
        (Some("app/one:v1"), with("--ca-file FILE"), " --image app/one:v1 --ca-file FILE"),
        (Some("it's; x"), Fix::Again, r" --image 'it'\''s; x'"),
    ] {
        let feed_type = FeedType::AwsEcr;
        let network = ["--ca-file own.pem", "--proxy http://proxy.example:3128"].map(ToOwned::to_owned);
        let network = if more.contains("--ca-file") { &network[..] } else { &network[1..] };
        let asked =
            Asked { feed: &feed, context: &Context::empty(), scope: &scope, image, feed_type, network };
        assert_eq!(
            fix.written_out(&asked).1,
            Some(format!("{narrow}{more} --proxy http://proxy.example:3128"))
        );
    }
}

#[test]
fn advice_for_google_allows_one_audience_whatever_separators_it_contains() {
    let Provider::GoogleArtifactRegistry(google) = provider(
        r#"{"type":"google-artifact-registry","workload_identity_provider":
            "projects/1/locations/global/workloadIdentityPools/pool/providers/carnet"}"#,
    ) else {
        panic!("another provider")
    };
    for (aud, flag) in [
        ("one", Some("--allowed-audiences='one'")),
        ("one,two", Some("--allowed-audiences='^;^one,two'")),
        ("one,two;three", Some("--allowed-audiences='^|^one,two;three'")),
        ("^one;two", Some("--allowed-audiences='^|^^one;two'")),
        (",;|~%#!", None),
    ] {
        let presented = Presented { aud: aud.into(), ..presented() };
        let refused =
            google::GoogleRefusal { code: "invalid_grant", message: "The audience is wrong", reason: None };
        let causes = google::of_sts(&refused, &presented, &google);
        match (&causes[0].fix, flag) {
            (Fix::Change { command, .. }, Some(flag)) => assert!(command.ends_with(flag), "{command}"),
            (Fix::Act(what), None) => assert!(what.contains("no separator left"), "{what}"),
            (fix, _) => panic!("{aud}: {fix:?}"),
        }
    }
}
