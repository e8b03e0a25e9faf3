//! `carnet grant`: the grants for the API.

mod create;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::failure::CommandFailure;
use super::output::Format;
use super::{confirm, opening, output, times};
use crate::access::grants::{Grants, GrantsError};
use crate::feed::scope::{Action, Scope};
use crate::grant::{ContextRule, ContextRules, FeedLimit, Grant, GrantState, SpaceLimit};
use crate::values::clock::{Clock as _, SystemClock};
use crate::values::visible;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a grant, and print its token, which is not shown again
    Create(create::Create),
    /// List grants
    List(List),
    /// Revoke a grant at once, or all grants that one has created
    Revoke(Revoke),
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    output: output::OutputOptions,
}

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The grant's ID, as `grant list` shows it
    #[arg(value_name = "ID", required_unless_present = "made_by")]
    id: Option<Uuid>,
    /// Instead, all grants that this one created, those that they created, and so on; not this one itself
    #[arg(long, value_name = "ID", conflicts_with = "id")]
    made_by: Option<Uuid>,
    #[command(flatten)]
    confirm: confirm::Confirmation,
}

/// A grant in JSON.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    grant: &'a Grant,
    state: GrantState,
}

pub(super) async fn run(opening: opening::OpeningOptions, command: Command) -> Result<(), CommandFailure> {
    match command {
        Command::Create(arguments) => create::run(opening, arguments).await,
        Command::List(arguments) => {
            list(&opening::grants(opening.trusted().await?), arguments.output.output).await
        }
        Command::Revoke(arguments) => revoke(&opening::grants(opening.trusted().await?), arguments).await,
    }
}

async fn list(grants: &Grants, format: Format) -> Result<(), CommandFailure> {
    let now = SystemClock::new().now();
    let list = grants.list(&opening::actor()).await?;
    for id in &list.forged {
        output::note(&format!(
            "warning: the row of grant {} fails its MAC: something other than carnet wrote it; it is not honoured",
            visible::line(id)
        ));
    }
    if format == Format::Json {
        let listed = list.grants.iter().map(|grant| Listed { grant, state: grant.state(now) });
        return output::json(&listed.collect::<Vec<_>>());
    }
    output::table(
        &["ID", "NAME", "ROLE", "STATE", "SPACES", "FEEDS", "CONTEXT", "SCOPE", "EXPIRES", "LAST USED"],
        list.grants.iter().map(|grant| {
            let relative = |time: Option<Timestamp>| time.map(|time| times::relative(time, now));
            let permissions = &grant.permissions;
            vec![
                grant.id.to_string(),
                grant.name.to_string(),
                permissions.role.to_string(),
                grant.state(now).as_str().to_owned(),
                spaces(&permissions.spaces),
                feeds(&permissions.feeds),
                context(&permissions.context),
                scope(&permissions.scope),
                relative(grant.expires_at).unwrap_or_else(|| "never".to_owned()),
                relative(grant.last_used_at).unwrap_or_else(|| "never".to_owned()),
            ]
        }),
    )
}

async fn revoke(grants: &Grants, arguments: Revoke) -> Result<(), CommandFailure> {
    let actor = opening::actor();
    let by = &actor;
    let id = match (arguments.id, arguments.made_by) {
        (_, Some(maker)) => return revoke_made_by(grants, maker, arguments.confirm).await,
        (Some(id), None) => id,
        (None, None) => {
            return Err(CommandFailure::usage("name the grant, or --made-by and the grant that made them"));
        }
    };
    // Read first, to name the grant in the question. The revocation reads it again.
    let listed = grants.list(by).await?;
    let Some(grant) = listed.grants.iter().find(|grant| grant.id == id) else {
        let is_forged = listed.forged.contains(&id.to_string());
        return Err(
            if is_forged { GrantsError::Forged(id.to_string()) } else { GrantsError::Unknown(id) }.into()
        );
    };
    if let Some(revoked_at) = grant.revoked_at {
        output::note(&format!("Nothing to do: {id} was revoked on {revoked_at}."));
        return Ok(());
    }
    arguments.confirm.confirm(&format!(
        "Requests with “{}” ({} of {}) are refused from now on. Credentials already issued to it work until \
         they expire, and grants that it made stay: `carnet grant revoke --made-by {id}` revokes those.",
        grant.name,
        grant.permissions.role,
        spaces(&grant.permissions.spaces)
    ))?;
    grants.revoke(id, by).await?;
    output::note(&format!("Revoked {id}."));
    Ok(())
}

async fn revoke_made_by(
    grants: &Grants,
    maker: Uuid,
    confirm: confirm::Confirmation,
) -> Result<(), CommandFailure> {
    confirm.confirm(&format!(
        "Requests with a grant that {maker} made, directly or through other grants, are refused from now on. \
         {maker} itself stays: revoke it first, so that it makes no more."
    ))?;
    let revoked = grants.revoke_made_by(maker, &opening::actor()).await?;
    for grant in &revoked {
        output::note(&format!("Revoked {} “{}”.", grant.id, grant.name));
    }
    let count = revoked.len();
    output::note(&format!("Revoked {count} grants that {maker} made, directly or through other grants."));
    Ok(())
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn spaces(limit: &SpaceLimit) -> String {
    match limit {
        SpaceLimit::All => "all".to_owned(),
        SpaceLimit::Only(spaces) => joined(spaces),
    }
}

fn feeds(limit: &FeedLimit) -> String {
    match limit {
        FeedLimit::All => "all".to_owned(),
        FeedLimit::Matching(patterns) => joined(patterns),
    }
}

fn context(rules: &ContextRules) -> String {
    if *rules == ContextRules::open() {
        return "any".to_owned();
    }
    let pairs: Vec<_> = rules
        .iter()
        .map(|(key, rule)| match rule {
            ContextRule::Fixed(value) => format!("{key}={value}"),
            ContextRule::Open | ContextRule::Closed => format!("{key}=*"),
        })
        .collect();
    if pairs.is_empty() { "none".to_owned() } else { pairs.join(",") }
}

fn scope(scope: &Scope) -> String {
    let actions = joined(Action::ALL.into_iter().filter(|action| scope.allows(*action)));
    match scope.repositories() {
        None if scope.is_everything() => "all".to_owned(),
        None => actions,
        Some(names) => format!("{actions} of {}", joined(names)),
    }
}
