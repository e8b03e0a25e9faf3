use proptest::prelude::*;

use super::*;
use crate::feed::{DEFAULT_TOKEN_LIFETIME, Feed, FeedChanges, FeedDraft, FeedError, Provider};
use crate::oidc::subject::SubjectKeys;

const NAME: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";

const LIFETIME: Duration = Duration::from_secs(600);

fn google(service_account: Option<&str>) -> GoogleArtifactRegistry {
    GoogleArtifactRegistry {
        workload_identity_provider: NAME.parse().unwrap(),
        service_account: service_account.map(|account| account.parse().unwrap()),
        lifetime: AccessTokenLifetime::default(),
        jwks: JwksSource::default(),
    }
}

#[test]
fn a_providers_name_is_read_in_the_forms_that_users_paste() {
    for before in ["", "//iam.googleapis.com/", "https://iam.googleapis.com/"] {
        let provider: WorkloadIdentityProvider = format!("{before}{NAME}").parse().unwrap();
        assert_eq!(provider.as_str(), NAME);
        assert_eq!(provider.full_name(), format!("//iam.googleapis.com/{NAME}"));
        assert_eq!(provider.pool(), NAME.strip_suffix("/providers/issuer").unwrap());
        assert_eq!(provider.default_audience().as_str(), provider.full_name());
        assert_eq!(serde_json::to_value(&provider).unwrap(), NAME);
    }
}

#[test]
fn other_names_are_refused_with_the_rule() {
    use super::provider_name::WorkloadIdentityProviderRule::*;
    let with = |from: &str, to: &str| NAME.replace(from, to);
    for (text, rule) in [
        (String::new(), Form),
        (with("projects", "project"), Form),
        (with("/providers/issuer", ""), Form),
        (format!("{NAME}/"), Form),
        (format!("{NAME}/x"), Form),
        (format!("/{NAME}"), Form),
        (format!("http://iam.googleapis.com/{NAME}"), Form),
        (format!("HTTPS://iam.googleapis.com/{NAME}"), Form),
        (format!("https:{NAME}"), Form),
        (format!("https://https://iam.googleapis.com/{NAME}"), Form),
        (format!("//iam.googleapis.com//iam.googleapis.com/{NAME}"), Form),
        (format!("//iam.googleapis.com.evil.example/{NAME}"), Form),
        (format!("//user@iam.googleapis.com/{NAME}"), Form),
        (with("workloadIdentityPools", "workforcePools"), Form),
        (with("123456789012", "my-project"), Project),
        (with("123456789012", "0"), Project),
        (with("123456789012", "012"), Project),
        (with("123456789012", "+12"), Project),
        (with("123456789012", "-12"), Project),
        (with("123456789012", "٣"), Project),
        (with("123456789012", ""), Project),
        (with("123456789012", "1000000000000000000"), Project),
        (with("123456789012", "99999999999999999999"), Project),
        (with("global", "europe-west1"), Location),
        (with("global", ""), Location),
        (with("carnet", "abc"), Pool),
        (with("carnet", &"a".repeat(33)), Pool),
        (with("carnet", "Carnet"), Pool),
        (with("carnet", "car_net"), Pool),
        (with("carnet", ".."), Pool),
        (with("issuer", "abc"), Provider),
        (with("issuer", "issuer?x"), Provider),
        (with("issuer", "issuer#x"), Provider),
        (with("issuer", "issuer\n"), Provider),
        (with("issuer", "issüer"), Provider),
    ] {
        let refused = text.parse::<WorkloadIdentityProvider>().map_err(|error| error.rule);
        assert_eq!(refused, Err(rule), "{text:?}");
    }
    for number in ["1", "999999999999999999"] {
        assert!(with("123456789012", number).parse::<WorkloadIdentityProvider>().is_ok(), "{number}");
    }
    for id in ["abcd", "0-0-", &"z".repeat(32)] {
        assert!(with("carnet", id).parse::<WorkloadIdentityProvider>().is_ok(), "{id}");
    }
    let error = with("123456789012", "my-project").parse::<WorkloadIdentityProvider>().unwrap_err();
    assert!(error.to_string().ends_with("the project's number, not its id"), "{error}");
}

#[test]
fn only_googles_own_registries_need_no_endpoints() {
    let check = |registry: &str, account: Option<&str>, endpoints: &[&str]| {
        let google = google(account);
        let endpoints = Endpoints::from_pairs(ENDPOINT_NAMES, endpoints.iter().copied()).unwrap();
        let audience = google.workload_identity_provider.default_audience();
        google
            .check(&registry.parse().unwrap(), &audience, &endpoints, LIFETIME)
            .err()
            .map(|error| error.to_string())
    };
    for good in [
        "gcr.io",
        "GCR.io",
        "us.gcr.io",
        "eu.gcr.io",
        "asia.gcr.io",
        "europe-west1-docker.pkg.dev",
        "us-docker.pkg.dev",
        "docker.me-central2.rep.pkg.dev",
    ] {
        assert_eq!(check(good, None, &[]), None, "{good}");
    }
    let account = Some("pull@project.iam.gserviceaccount.com");
    for hostile in [
        "gcr.io.evil.example",
        "evilgcr.io",
        "a.b.gcr.io",
        "gcr.io:443",
        "docker.pkg.dev",
        "europe-west1.docker.pkg.dev",
        "evil.example-docker.pkg.dev",
        "europe-west1-docker.pkg.dev.evil.example",
        "europe-west1-docker.pkg.dev:443",
        "xdocker.pkg.dev",
        "docker.rep.pkg.dev",
        "evil.docker.me-central2.rep.pkg.dev",
        "docker.evil.me-central2.rep.pkg.dev",
        "docker.me-central2.rep.pkg.dev.evil.example",
        "docker.me-central2.rep.pkg.dev:443",
        "europe-west1-npm.pkg.dev",
        "pkg.dev",
        "localhost:5000",
    ] {
        let refused = check(hostile, None, &[]).unwrap_or_else(|| panic!("{hostile}"));
        assert!(refused.starts_with(&format!("registry: {hostile} is not one of Google's")), "{refused}");
        assert!(refused.contains("the endpoint sts must"), "{refused}");
        let sts = "sts=http://localhost:1";
        assert_eq!(check(hostile, None, &[sts]), None, "{hostile}");
        assert!(check(hostile, account, &[sts]).unwrap().contains("the endpoint iamcredentials must"));
        assert_eq!(check(hostile, account, &[sts, "iamcredentials=http://localhost:2"]), None);
    }
    let other = Endpoints::from_pairs(&["ecr"], ["ecr=http://localhost:1"]).unwrap();
    let audience = "custom".parse().unwrap();
    assert!(matches!(
        google(None).check(&"gcr.io".parse().unwrap(), &audience, &other, LIFETIME),
        Err(GoogleError::Endpoints(_))
    ));
}

#[test]
fn an_audience_may_be_custom_but_not_another_providers_name() {
    let check = |audience: &str| {
        google(None).check(
            &"gcr.io".parse().unwrap(),
            &audience.parse().unwrap(),
            &Endpoints::default(),
            LIFETIME,
        )
    };
    for good in [
        format!("//iam.googleapis.com/{NAME}"),
        format!("https://iam.googleapis.com/{NAME}"),
        "custom".to_owned(),
        NAME.to_owned(),
        "https://example.com/".to_owned(),
    ] {
        assert_eq!(check(&good), Ok(()), "{good}");
    }
    for bad in [
        format!("//iam.googleapis.com/{NAME}/"),
        format!("https://iam.googleapis.com/{NAME}2"),
        format!("https://iam.googleapis.com/{}", NAME.replace("123456789012", "1")),
        "//iam.googleapis.com/".to_owned(),
    ] {
        let refused = check(&bad).unwrap_err().to_string();
        assert!(
            refused.starts_with("audience: ") && refused.contains("name different providers"),
            "{refused}"
        );
    }
    let provider: WorkloadIdentityProvider = NAME.parse().unwrap();
    assert!(provider.is_default_audience(&format!("https://iam.googleapis.com/{NAME}")));
    assert!(!provider.is_default_audience(NAME), "Google wants the full name");
}

#[test]
fn a_token_lives_for_a_day_at_most_and_leaves_something_to_hand_out() {
    let check = |account: Option<&str>, seconds, lifetime: u32| {
        let mut google = google(account);
        google.lifetime = lifetime.try_into().unwrap();
        let audience = google.workload_identity_provider.default_audience();
        let token_lifetime = Duration::from_secs(seconds);
        google.check(&"gcr.io".parse().unwrap(), &audience, &Endpoints::default(), token_lifetime)
    };
    assert_eq!(check(None, 86_400, 3600), Ok(()));
    assert_eq!(check(None, 86_401, 3600), Err(GoogleError::TokenLifetime { given: 86_401 }));
    // Without an account, the credential ends with the token, whatever `lifetime` is.
    assert_eq!(check(None, 11, 1), Ok(()));
    assert_eq!(check(None, 10, 3600), Err(GoogleError::ShortToken { given: 10 }));
    // With an account, it ends independently, and no credential with five minutes left is handed out.
    let account = Some("pull@p.iam.gserviceaccount.com");
    assert_eq!(check(account, 1, 301), Ok(()));
    assert_eq!(check(account, 600, 300), Err(GoogleError::ShortLifetime { given: 300 }));
}

#[test]
fn the_default_token_lifetime_is_the_longest_if_the_credential_ends_with_the_token() {
    let (hour, standard) = (Duration::from_secs(3600), Duration::from_secs(300));
    let unchanged = || feed(FeedChanges::default()).unwrap();
    assert_eq!((unchanged().token_lifetime, unchanged().min_remaining(standard)), (hour, standard));
    let with_account = Provider::GoogleArtifactRegistry(google(Some("pull@p.iam.gserviceaccount.com")));
    let changes = || FeedChanges { provider: Some(with_account.clone()), ..FeedChanges::default() };
    let impersonating = feed(changes()).unwrap();
    assert_eq!(impersonating.token_lifetime, DEFAULT_TOKEN_LIFETIME);
    assert_eq!(impersonating.min_remaining(standard), standard);
    // A default changes with its inputs; an explicit value stays.
    let back = FeedChanges {
        provider: Some(Provider::GoogleArtifactRegistry(google(None))),
        ..FeedChanges::default()
    };
    assert_eq!(impersonating.changed(back, hour, jiff::Timestamp::UNIX_EPOCH).unwrap().token_lifetime, hour);
    let chosen = Duration::from_secs(400);
    let short = feed(FeedChanges { token_lifetime: Some(chosen), ..FeedChanges::default() }).unwrap();
    assert_eq!(short.min_remaining(standard), chosen / 2);
    let changed = short.changed(changes(), hour, jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!((changed.token_lifetime, changed.min_remaining(standard)), (chosen, standard));
}

fn feed(changes: FeedChanges) -> Result<Feed, FeedError> {
    feed_of_space("default", changes)
}

fn feed_of_space(space: &str, changes: FeedChanges) -> Result<Feed, FeedError> {
    let hour = Duration::from_secs(3600);
    let draft = FeedDraft::new(
        format!("{space}/a").parse().unwrap(),
        "gcr.io".parse().unwrap(),
        Provider::GoogleArtifactRegistry(google(None)),
    );
    let feed = Feed::new(draft, uuid::Uuid::nil(), hour, jiff::Timestamp::UNIX_EPOCH).unwrap();
    feed.changed(changes, hour, jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn a_default_audience_follows_the_provider_and_a_custom_one_stays() {
    let other = NAME.replace("issuer", "other");
    let moved = || {
        let mut google = google(None);
        google.workload_identity_provider = other.parse().unwrap();
        Some(Provider::GoogleArtifactRegistry(google))
    };
    let unchanged = feed(FeedChanges::default()).unwrap();
    assert_eq!(unchanged.audience.as_str(), format!("//iam.googleapis.com/{NAME}"));
    assert_eq!(unchanged.alg, crate::jose::Algorithm::Es256);
    let followed = feed(FeedChanges { provider: moved(), ..FeedChanges::default() }).unwrap();
    assert_eq!(followed.audience.as_str(), format!("//iam.googleapis.com/{other}"));
    let custom = Some("custom".parse().unwrap());
    let stayed = feed(FeedChanges { audience: custom.clone(), ..FeedChanges::default() }).unwrap();
    let stayed = stayed.changed(
        FeedChanges { provider: moved(), ..FeedChanges::default() },
        Duration::from_secs(3600),
        jiff::Timestamp::UNIX_EPOCH,
    );
    assert_eq!(Some(stayed.unwrap().audience), custom);
    let rs256 = Some(crate::jose::Algorithm::Rs256);
    assert!(feed(FeedChanges { alg: rs256, ..FeedChanges::default() }).is_ok());
}

#[test]
fn a_subject_that_google_can_never_accept_is_refused_when_the_feed_is_made() {
    let keys: SubjectKeys = "space,project,runbook,tenant,environment,type,feed,feed_id".parse().unwrap();
    let changes = || FeedChanges { subject_keys: Some(keys.clone()), ..FeedChanges::default() };
    let refused = feed_of_space(&"s".repeat(50), changes()).unwrap_err();
    assert!(matches!(refused, FeedError::Subject { limit: 127, .. }), "{refused}");
    assert!(
        feed(changes()).is_ok(),
        "short values may fit; each token's subject is checked when it is minted"
    );
}

#[test]
fn service_accounts_are_e_mail_addresses_below_googles_domain() {
    for (good, parts) in [
        ("pull@my-project.iam.gserviceaccount.com", Some(("pull", "my-project"))),
        ("pull@my-project.example.com.iam.gserviceaccount.com", None),
        ("123456789012-compute@developer.gserviceaccount.com", None),
        ("my-project@appspot.gserviceaccount.com", None),
    ] {
        let account: ServiceAccount = good.parse().unwrap();
        assert_eq!((account.as_str(), account.name_and_project()), (good, parts));
    }
    let long = format!("{}@p.iam.gserviceaccount.com", "a".repeat(64));
    for bad in [
        "",
        "pull",
        "pull@example.com",
        "pull@gserviceaccount.com",
        "pull@.gserviceaccount.com",
        "pull@p.iam.gserviceaccount.com.evil.example",
        "pull@evilgserviceaccount.com",
        "@p.iam.gserviceaccount.com",
        "a@b@p.iam.gserviceaccount.com",
        "Pull@p.iam.gserviceaccount.com",
        "../x@p.iam.gserviceaccount.com",
        "a/b@p.iam.gserviceaccount.com",
        "a%2fb@p.iam.gserviceaccount.com",
        "a:b@p.iam.gserviceaccount.com",
        "a?b@p.iam.gserviceaccount.com",
        "pull@p..iam.gserviceaccount.com",
        "pull@p.iam.gserviceaccount.com\n",
        "pull@p.iam.gserviceaccount.com.",
        "púll@p.iam.gserviceaccount.com",
        &long,
    ] {
        assert!(bad.parse::<ServiceAccount>().is_err(), "{bad:?}");
    }
}

#[test]
fn lifetimes_keep_to_googles_limits() {
    for (text, seconds) in [
        ("1", Some(1)),
        ("3600s", Some(3600)),
        ("12h", Some(43_200)),
        ("0", None),
        ("43201", None),
        ("13h", None),
        ("", None),
        ("-1", None),
        ("4294967297", None),
    ] {
        let read = text.parse::<AccessTokenLifetime>().ok().map(AccessTokenLifetime::as_secs);
        assert_eq!(read, seconds, "{text:?}");
    }
}

#[test]
fn settings_are_flat_json_with_defaults() {
    let short = format!(r#"{{"workload_identity_provider":"https://iam.googleapis.com/{NAME}"}}"#);
    let google: GoogleArtifactRegistry = serde_json::from_str(&short).unwrap();
    let json = format!(r#"{{"workload_identity_provider":"{NAME}","lifetime":3600,"jwks":"fetched"}}"#);
    assert_eq!(serde_json::to_string(&google).unwrap(), json);
    assert_eq!(serde_json::from_str::<GoogleArtifactRegistry>(&json).unwrap(), google);
    let uploaded =
        serde_json::from_str::<GoogleArtifactRegistry>(&json.replace("fetched", "uploaded")).unwrap();
    assert_eq!(uploaded.jwks, JwksSource::Uploaded);
    assert!(serde_json::from_str::<GoogleArtifactRegistry>(&json.replace("fetched", "Fetched")).is_err());
    assert!(serde_json::from_str::<ServiceAccount>("\"x\"").is_err());
    assert!(serde_json::from_str::<AccessTokenLifetime>("0").is_err());
}

proptest! {
    #[test]
    fn a_parsed_provider_name_is_safe_in_a_url_and_an_audience(text in "(//iam.googleapis.com/|https:)?[a-zA-Z0-9:/._%?# -]{0,120}") {
        if let Ok(provider) = text.parse::<WorkloadIdentityProvider>() {
            prop_assert!(provider.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte)));
            prop_assert!(provider.is_default_audience(provider.default_audience().as_str()));
        }
    }

    #[test]
    fn no_inserted_character_makes_another_host_googles(at in 0_usize..30, inserted in "[a-z./@:#?-]") {
        for name in ["europe-west1-docker.pkg.dev", "eu.gcr.io"] {
            let mut text = name.to_owned();
            text.insert_str(at.min(name.len()), &inserted);
            if let Ok(registry) = text.parse::<RegistryHost>() && is_google_registry(&registry) {
                prop_assert!(registry.host().ends_with("-docker.pkg.dev") || registry.host().ends_with(".gcr.io"));
                prop_assert_eq!(registry.host().matches('.').count(), name.matches('.').count());
            }
        }
    }
}
