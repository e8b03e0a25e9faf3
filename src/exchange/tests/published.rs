//! Tests of the error codes that the clouds publish, each in its original response format: the advice must
//! fit the code and match `docs/failures.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::*;
use crate::diagnosis::{Asked, Cause, Fix, Retry, registry};
use crate::feed::FeedType;
use crate::oidc::subject::Context;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md");

/// The line of the page that precedes the generated tables.
const BEGIN: &str = "<!-- made from what carnet says; INSTA_UPDATE=always makes it anew -->\n";

const HEAD: &str =
    "| code (status) | if it says | what carnet says → what it offers | tried again |\n|---|---|---|---|\n";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Code {
    status: u16,
    code: String,
    about: About,
    #[serde(default)]
    message: String,
    reason: Option<String>,
}

/// The subject of a code in the vendors' documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum About {
    Trust,
    Feed,
    State,
    Policy,
    Issuer,
    Clock,
    Passing,
    Request,
    Image,
    Unknown,
}

/// The advice that carnet gives for a code.
struct Said {
    causes: Vec<Cause>,
    retry: Retry,
}

fn published() -> BTreeMap<String, Vec<Code>> {
    toml::from_str(include_str!("published.toml")).unwrap()
}

/// The steps in the order of their requests, with their headings.
const STEPS: [(&str, &str); 8] = [
    ("sts:AssumeRoleWithWebIdentity", "AWS STS"),
    ("ecr:GetAuthorizationToken", "Amazon ECR"),
    ("entra:token", "Microsoft Entra"),
    ("acr:exchange", "Azure Container Registry"),
    ("sts:token", "Google's Security Token Service"),
    ("iamcredentials:generateAccessToken", "Google's IAM Service Account Credentials"),
    ("registry", "The login at the registry"),
    ("pull", "The pull"),
];

/// Makes the step respond with the code, in its provider's format, and returns the advice.
async fn said(step: &str, code: &Code) -> Said {
    let Code { status, code: name, message, .. } = code;
    let exchanged = async |feed: Feed, responses: Vec<azure::ScriptedResponse>| {
        let error = run(&Scripted::new(responses), &feed).await.unwrap_err();
        let answered = error.upstream().unwrap();
        assert_eq!((answered.step, answered.code.as_deref()), (step, Some(name.as_str())));
        Said { causes: error.causes().to_vec(), retry: error.retry() }
    };
    match step {
        "sts:AssumeRoleWithWebIdentity" => {
            let escaped = message.replace('&', "&amp;").replace('<', "&lt;");
            exchanged(ecr_feed(), vec![refused_by_sts(*status, name, &escaped)]).await
        }
        "ecr:GetAuthorizationToken" => {
            let body = json!({ "__type": name, "message": message }).to_string();
            exchanged(ecr_feed(), vec![assumed(), response(*status, body)]).await
        }
        "entra:token" => {
            let refused = || match name.strip_prefix("AADSTS") {
                Some(number) => {
                    azure::refused_by_entra(*status, "invalid_client", number.parse().unwrap(), message)
                }
                None => oauth_error(code),
            };
            // Twice, because Entra may be called again with the fallback scope.
            exchanged(azure::public_feed(), vec![refused(), refused()]).await
        }
        "acr:exchange" => {
            let refused = azure::refused_by_acr(*status, name, message);
            exchanged(azure::public_feed(), vec![azure::access(), refused]).await
        }
        "sts:token" if name.contains(|c: char| c.is_ascii_lowercase()) => {
            exchanged(google_feed(), vec![oauth_error(code)]).await
        }
        "sts:token" => exchanged(google_feed(), vec![google_error(code)]).await,
        "iamcredentials:generateAccessToken" => {
            let federated =
                json!({ "access_token": "ya29.federated", "expires_in": 3599, "token_type": "Bearer" });
            exchanged(google_feed(), vec![response(200, federated.to_string()), google_error(code)]).await
        }
        "registry" => {
            let feed = if message.contains("client with IP") { azure::public_feed() } else { ecr_feed() };
            Said { causes: registry::of_login(&feed, Some(*status), message), retry: Retry::Never }
        }
        "pull" => {
            let causes = registry::of_pull("app:v1", Some(name), Some(*status), message, &ecr_feed());
            Said { causes, retry: Retry::Never }
        }
        step => panic!("{step} is no step"),
    }
}

const PROVIDER: &str = "projects/123456789012/locations/global/workloadIdentityPools/carnet/providers/issuer";

fn google_feed() -> Feed {
    let google = json!({
        "type": "google-artifact-registry",
        "workload_identity_provider": PROVIDER,
        "service_account": "pull@my-project.iam.gserviceaccount.com",
    });
    let draft = FeedDraft::new(
        "default/a".parse().unwrap(),
        "europe-west1-docker.pkg.dev".parse().unwrap(),
        serde_json::from_value(google).unwrap(),
    );
    Feed::new(draft, Uuid::nil(), Duration::from_secs(3600), NOW.parse().unwrap()).unwrap()
}

fn oauth_error(code: &Code) -> azure::ScriptedResponse {
    response(code.status, json!({ "error": code.code, "error_description": code.message }).to_string())
}

fn google_error(code: &Code) -> azure::ScriptedResponse {
    let mut error = json!({ "code": code.status, "message": code.message, "status": code.code });
    if let Some(reason) = &code.reason {
        let kind = "type.googleapis.com/google.rpc.ErrorInfo";
        error["details"] = json!([{ "@type": kind, "reason": reason, "domain": "googleapis.com" }]);
    }
    response(code.status, json!({ "error": error }).to_string())
}

#[tokio::test]
async fn the_cause_of_each_published_code_is_about_its_subject() {
    let mut wrong = String::new();
    let mut codes = published();
    for (step, _) in STEPS {
        for code in codes.remove(step).unwrap() {
            let said = said(step, &code).await;
            if let Err(why) = fits(step, &code, &said) {
                let _ = writeln!(wrong, "{step} {code:?}: {why}\n  {:?} {:?}", said.retry, said.causes);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(codes.is_empty(), "{:?} are no steps", codes.keys());
}

fn fits(step: &str, code: &Code, said: &Said) -> Result<(), &'static str> {
    let Said { causes, retry } = said;
    let any = |is: fn(&Fix) -> bool| causes.iter().any(|cause| is(&cause.fix));
    let setup = any(|fix| matches!(fix, Fix::Trust | Fix::Upload { .. }));
    let feed = any(|fix| matches!(fix, Fix::Feed(_) | Fix::Endpoints(_)));
    let changes = any(|fix| matches!(fix, Fix::Change { .. }));
    let knows_nothing = causes.iter().any(|cause| cause.why.contains("carnet does not know this code"));
    let sets_the_clock =
        |cause: &Cause| matches!(&cause.fix, Fix::Change { command, .. } if command.contains("timedatectl"));
    let Some(first) = causes.first() else { return Err("nothing is said") };
    if knows_nothing != (code.about == About::Unknown) {
        return Err("what is known of it, and what is said");
    }
    let is_passing = *retry == Retry::Passing || matches!(step, "registry" | "pull");
    if code.about == About::Passing && !is_passing || code.about != About::Passing && *retry == Retry::Passing
    {
        return Err("whether it is tried again");
    }
    let is_right = match code.about {
        About::Trust => setup || changes,
        About::Feed => feed && !setup,
        About::State | About::Policy | About::Request => !setup && !feed,
        About::Issuer | About::Image => !setup,
        About::Clock => !setup && sets_the_clock(first),
        About::Passing => !setup,
        About::Unknown => causes.len() == 1 && matches!(first.fix, Fix::Act(_)),
    };
    if is_right { Ok(()) } else { Err("what is offered") }
}

#[tokio::test]
async fn the_page_of_failures_has_the_texts_of_the_code() {
    let mut tables = String::new();
    let codes = published();
    for (step, heading) in STEPS {
        let _ = write!(tables, "\n## {heading}: `{step}`\n\n{HEAD}");
        let mut rows: Vec<(Vec<String>, String, String)> = Vec::new();
        for code in &codes[step] {
            let name = format!("`{}` ({})", code.code, code.status);
            let message = match (&code.reason, code.message.as_str()) {
                (Some(reason), message) => format!("“{message}”, reason `{reason}`"),
                (None, "") => String::new(),
                (None, message) => format!("“{message}”"),
            };
            // Codes with the same advice share a row.
            let written_out = written_out(step, &said(step, code).await).replace(&code.code, "the code");
            match rows.last_mut() {
                Some((names, last, same))
                    if message.is_empty() && last.is_empty() && *same == written_out =>
                {
                    names.push(name);
                }
                _ => rows.push((vec![name], message, written_out)),
            }
        }
        for (names, message, written_out) in rows {
            let _ = writeln!(tables, "| {} | {} | {written_out} |", names.join(", "), cell(&message));
        }
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, now) = page.split_once(BEGIN).expect("the page has a place for the tables");
    // By hand: insta compares whole files with a head of its own, and here a part of a page is made.
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(PAGE, format!("{before}{BEGIN}{tables}")).unwrap();
    } else {
        assert!(now == tables, "docs/failures.md differs; what carnet says now:\n{tables}");
    }
}

/// Formats the causes, each with its fix and command, and the retry.
fn written_out(step: &str, said: &Said) -> String {
    let feed = "default/a".parse().unwrap();
    let (context, scope) = (Context::empty(), Scope::everything());
    let feed_type = match step {
        "entra:token" | "acr:exchange" => FeedType::AzureAcr,
        "sts:token" | "iamcredentials:generateAccessToken" => FeedType::GoogleArtifactRegistry,
        _ => FeedType::AwsEcr,
    };
    let asked = Asked { feed: &feed, context: &context, scope: &scope, image: None, feed_type, network: &[] };
    let one = |cause: &Cause| {
        let (fix, command) = cause.fix.written_out(&asked);
        let command = command.map_or_else(String::new, |command| format!(": `{command}`"));
        format!("{} → {fix}{command}", cause.why)
    };
    let causes: Vec<_> = said.causes.iter().map(one).collect();
    let again = match (step, said.retry) {
        ("registry" | "pull", _) => "–",
        (_, Retry::Never) => "no",
        (_, Retry::Once) => "once",
        (_, Retry::Passing) => "yes",
    };
    let mut written_out = causes.join("<br>");
    for (name, word) in [(azure::TENANT, "TENANT"), (azure::CLIENT, "CLIENT"), (PROVIDER, "PROVIDER")] {
        written_out = written_out.replace(name, word);
    }
    format!("{} | {again}", cell(&written_out))
}

/// Escapes text so that it does not end its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
