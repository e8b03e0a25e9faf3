//! A strict interpreter for the commands of `aws`, `az` and `gcloud` that change something.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::feed_check::fixes::Trusted;

/// A command line: its words, and its flags.
struct Call {
    /// The words before the first flag, and others without a flag.
    words: Vec<String>,
    flags: BTreeMap<String, String>,
}

impl Call {
    /// Parses `--name=value`, `--name value` and `--name`.
    fn read(words: &[String]) -> Self {
        let mut call = Self { words: Vec::new(), flags: BTreeMap::new() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else {
                call.words.push(word.clone());
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => (flag, words.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_default()),
            };
            let earlier = call.flags.insert(name.to_owned(), value);
            assert_eq!(earlier, None, "--{name} is given twice");
        }
        call
    }

    fn take(&mut self, flag: &str) -> String {
        self.flags.remove(flag).unwrap_or_else(|| panic!("no --{flag} in {:?}", self.words))
    }

    fn json(&mut self, flag: &str) -> Value {
        serde_json::from_str(&self.take(flag)).unwrap()
    }

    /// Asserts that no flag is left over, except the unimportant ones.
    fn understood(mut self, unimportant: &[&str]) {
        for flag in unimportant {
            self.flags.remove(*flag);
        }
        assert!(self.flags.is_empty(), "{:?} has {:?}", self.words, self.flags);
    }
}

/// Applies `calls` to the trust.
pub(crate) fn apply(calls: &[Vec<String>], trusted: &mut Trusted) {
    for call in calls {
        let mut call = Call::read(call);
        let words = call.words.clone();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Commands that only read.
        let asks = |word: &&str| matches!(*word, "show" | "describe") || word.starts_with("get-");
        if words.iter().any(asks) {
            continue;
        }
        trusted.facts.push(words.join(" "));
        match words[..] {
            ["aws", "iam", ..] => aws(words[2], call, trusted),
            ["az", "ad", "sp", "create"] => {}
            ["az", "ad", "app", "federated-credential", "create"] => azure_credential(call, trusted),
            ["az", "role", "assignment", "create"] => {
                trusted.facts.push(format!("the role {}", call.take("role")));
                call.understood(&["assignee-object-id", "assignee-principal-type", "scope"]);
            }
            ["gcloud", "iam", "workload-identity-pools", "create", _] => {}
            [
                "gcloud",
                "iam",
                "workload-identity-pools",
                "providers",
                "create-oidc" | "update-oidc",
                name,
            ] => {
                google_provider(name, call, trusted);
            }
            ["gcloud", "iam", "service-accounts", "create", _] => {}
            ["gcloud", "iam", "service-accounts", "add-iam-policy-binding", account] => {
                let (role, member) = (call.take("role"), call.take("member"));
                assert_eq!(role, "roles/iam.workloadIdentityUser");
                let (_, subject) = member.split_once("/subject/").unwrap();
                assert!(member.starts_with("principal://iam.googleapis.com/projects/"), "{member}");
                trusted.config["google"]["service_accounts"] =
                    json!([{ "email": account, "subjects": [subject] }]);
                call.understood(&["condition"]);
            }
            ["gcloud", "iam", "service-accounts", "enable", _] => call.understood(&[]),
            ["gcloud", "projects", "add-iam-policy-binding", _] => {
                call.understood(&["condition", "role", "member"]);
            }
            ["gcloud", "services", "enable", _] => {
                assert!(!call.take("project").is_empty());
                call.understood(&[]);
            }
            _ => panic!("{words:?} is not understood"),
        }
    }
}

fn aws(operation: &str, mut call: Call, trusted: &mut Trusted) {
    match operation {
        "create-open-id-connect-provider" => {
            let input = call.json("cli-input-json");
            trusted.issuer = input["Url"].as_str().unwrap().to_owned();
            assert!(!input["ClientIDList"].as_array().unwrap().is_empty());
        }
        "create-role" => {
            let (input, policy) = (call.json("cli-input-json"), call.json("assume-role-policy-document"));
            let name = format!("{}{}", input["Path"].as_str().unwrap(), input["RoleName"].as_str().unwrap());
            role(&name, &policy, &input["MaxSessionDuration"], trusted);
        }
        "update-assume-role-policy" => {
            let (name, policy) = (call.take("role-name"), call.json("policy-document"));
            role(&format!("/{name}"), &policy, &json!(3600), trusted);
        }
        "update-role" => {
            call.json("cli-input-json");
        }
        "put-role-policy" => {
            let policy = call.json("policy-document");
            for statement in policy["Statement"].as_array().unwrap() {
                for action in statement["Action"].as_array().unwrap() {
                    let (action, on) = (action.as_str().unwrap(), &statement["Resource"]);
                    trusted.facts.push(format!("the role may {action} on {on}"));
                }
            }
            call.take("role-name");
            call.take("policy-name");
        }
        _ => panic!("aws iam {operation} is not understood"),
    }
    call.understood(&[]);
}

/// Parses a role by its trust policy, whose conditions are about the issuer's provider.
fn role(name: &str, policy: &Value, longest: &Value, trusted: &mut Trusted) {
    let statement = &policy["Statement"][0];
    assert_eq!(statement["Action"], json!(["sts:AssumeRoleWithWebIdentity"]));
    let provider = statement["Principal"]["Federated"].as_str().unwrap();
    let (account, provider) = provider.split_once(":oidc-provider/").unwrap();
    assert!(trusted.issuer.ends_with(&format!("://{provider}")), "{provider} and {}", trusted.issuer);
    let equals = statement["Condition"]["StringEquals"].as_object().unwrap();
    assert_eq!(equals.len(), 2, "{equals:?}");
    trusted.config["aws"]["roles"] = json!([{
        "arn": format!("{account}:role{name}"),
        "audiences": [equals[&format!("{provider}:aud")]],
        "subjects": [equals[&format!("{provider}:sub")]],
        "max_session_duration": longest,
    }]);
}

fn azure_credential(mut call: Call, trusted: &mut Trusted) {
    let credential = call.json("parameters");
    trusted.issuer = credential["issuer"].as_str().unwrap().to_owned();
    let audiences = credential["audiences"].as_array().unwrap();
    assert_eq!(audiences.len(), 1, "Entra takes one");
    let made =
        json!({ "client_id": call.take("id"), "subject": credential["subject"], "audience": audiences[0] });
    let applications = &mut trusted.config["azure"]["applications"];
    match applications.as_array_mut() {
        Some(applications) => applications.push(made),
        None => *applications = json!([made]),
    }
    call.understood(&[]);
}

fn google_provider(name: &str, mut call: Call, trusted: &mut Trusted) {
    let is_new = call.words[4] == "create-oidc";
    let name = match name.starts_with("projects/") {
        true => name.to_owned(),
        false => {
            assert_eq!(call.take("location"), "global");
            let pool = call.take("workload-identity-pool");
            // The setup's commands contain the project's id, not its number.
            assert!(!call.take("project").is_empty());
            format!("projects/1/locations/global/workloadIdentityPools/{pool}/providers/{name}")
        }
    };
    let providers = trusted.config["google"]["providers"].as_array().cloned().unwrap_or_default();
    let known = providers.iter().find(|known| known["name"] == name.as_str()).cloned();
    let mut provider = match known {
        Some(known) => known,
        None => json!({ "name": name, "audiences": [] }),
    };
    if is_new || call.flags.contains_key("issuer-uri") {
        trusted.issuer = call.take("issuer-uri");
    }
    if is_new || call.flags.contains_key("attribute-mapping") {
        assert_eq!(call.take("attribute-mapping"), "google.subject=assertion.sub");
        let condition = call.take("attribute-condition");
        let subject = condition.strip_prefix("assertion.sub == '").unwrap().strip_suffix('\'').unwrap();
        provider["subjects"] = json!([subject]);
    }
    if let Some(audiences) = call.flags.remove("allowed-audiences") {
        provider["audiences"] = json!(audiences.split(',').collect::<Vec<_>>());
    }
    if call.flags.remove("no-disabled").is_some() {
        provider["disabled"] = json!(false);
    }
    let others = providers.into_iter().filter(|known| known["name"] != name.as_str());
    trusted.config["google"]["providers"] = others.chain([provider]).collect();
    call.understood(&["description"]);
}
