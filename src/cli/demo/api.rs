//! The API's part of the demo: a deployment that has only a grant's token.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail, ensure};

use super::{line_or, step};
use crate::api_types::PREFIX;
use crate::api_types::credentials::{CredentialRequest, CredentialResponse};
use crate::api_types::problem::ProblemType;
use crate::carnet::Carnet;
use crate::client::{ApiClient, ClientError};
use crate::feed::FeedPath;
use crate::feed::scope::Scope;
use crate::grant::{ContextRules, FeedLimit, GrantDraft, Permissions, Role, SpaceLimit};
use crate::values::actor::Actor;
use crate::values::secret::SecretString;

/// Requests credentials of `feed` from `server`, with a grant for the feed's space.
pub(super) async fn play(carnet: &Carnet, server: &str, feed: &FeedPath) -> anyhow::Result<()> {
    line_or("\nA deployment asks the API. It has a grant's token: no database, no key, no cloud secret.")?;
    step("API", &format!("{server}{PREFIX}"))?;
    let client = ApiClient::new(server.parse()?, &grant(carnet, feed).await?, None)?;
    let request = CredentialRequest::default();
    let first = client.credential(feed, &request).await.context("a credential by the API")?;
    show(&first)?;

    line_or("\nA second request is answered from the cache; each response has its row in the audit log.")?;
    let second = client.credential(feed, &request).await.context("a credential by the API, again")?;
    ensure!(second.source == "cache" && second.jti == first.jti, "the credential was not cached");
    show(&second)?;

    line_or("\nAnything outside its grant is answered with 404.")?;
    let elsewhere = FeedPath { space: "elsewhere".parse()?, slug: feed.slug.clone() };
    match client.credential(&elsewhere, &request).await {
        Err(ClientError::Refused(problem)) if problem.known_type() == Some(ProblemType::NotFound) => {
            step("refused", &format!("{elsewhere}: {}", problem.problem_type))
        }
        Err(error) => Err(error).context("refused for another reason"),
        Ok(_) => bail!("the grant reaches a space that it does not name"),
    }
}

/// Creates a deployer's grant for the feed's space.
async fn grant(carnet: &Carnet, feed: &FeedPath) -> anyhow::Result<SecretString> {
    let permissions = Permissions {
        role: Role::Deployer,
        spaces: SpaceLimit::Only(BTreeSet::from([feed.space.clone()])),
        feeds: FeedLimit::All,
        context: ContextRules::of_role(Role::Deployer),
        scope: Scope::everything(),
    };
    let draft = GrantDraft { name: "demo".parse()?, permissions, expires_at: None };
    let made = carnet.grants().create(draft, &Actor::local("demo")).await?;
    step("grant", &format!("{} of space {}", made.grant.permissions.role, feed.space))?;
    Ok(SecretString::new(made.token.reveal().to_owned()))
}

fn show(response: &CredentialResponse) -> anyhow::Result<()> {
    step("source", &response.source)?;
    step("username", response.username.as_deref().unwrap_or_default())?;
    step("expires at", &response.expires_at.to_string())
}
