//! `carnet grant create`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{context, feeds, scope, spaces};
use crate::access::grants::GrantsError;
use crate::cli::failure::CommandFailure;
use crate::cli::feed_fields::ScopeArguments;
use crate::cli::output::{self, Format};
use crate::cli::{opening, times};
use crate::feed::display_name::{DisplayName, DisplayNameError};
use crate::grant::{
    ContextRule, ContextRules, FeedLimit, FeedPattern, Grant, GrantDraft, Permissions, Role, SpaceLimit,
};
use crate::oidc::subject::{ContextError, ContextKey};
use crate::values::clock::{Clock as _, SystemClock};
use crate::values::duration::{self, DurationError};
use crate::values::slug::Slug;

#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// The role of the grant: admin, viewer or deployer
    #[arg(long)]
    role: Role,
    /// The display name [default: the role]
    #[arg(long)]
    name: Option<DisplayName>,
    /// A space that the grant is for; repeatable [default: all]
    #[arg(long, value_name = "SLUG")]
    space: Vec<Slug>,
    /// A feed in those spaces, by its slug; * matches any characters; repeatable [default: all]
    #[arg(long, value_name = "PATTERN")]
    feed: Vec<FeedPattern>,
    /// The context of requests: tenant=acme fixes the tenant, tenant=* leaves it to the request; repeatable
    /// [default: anything for an admin, nothing for others]
    #[arg(long, value_name = "KEY=VALUE", value_parser = ContextRules::parse_pair)]
    context: Vec<(ContextKey, ContextRule)>,
    #[command(flatten)]
    scope: ScopeArguments,
    /// The lifetime, such as 12h or 30d, or never
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = parse_life)]
    expires_in: Life,
    #[command(flatten)]
    output: output::OutputOptions,
}

/// The lifetime of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    For(Duration),
    Unending,
}

fn parse_life(text: &str) -> Result<Life, DurationError> {
    if text == "never" { Ok(Life::Unending) } else { duration::parse(text).map(Life::For) }
}

/// A new grant in JSON. Only this output contains its token.
#[derive(Serialize)]
struct Created<'a> {
    token: &'a str,
    #[serde(flatten)]
    grant: &'a Grant,
}

pub(super) async fn run(opening: opening::OpeningOptions, arguments: Create) -> Result<(), CommandFailure> {
    let format = arguments.output.output;
    let now = SystemClock::new().now();
    let draft = arguments.draft(now)?;
    // Checked first, so that a refused draft creates no database.
    draft.check(now).map_err(GrantsError::from)?;
    let grants = opening::grants(opening.trusted_or_made().await?);
    let made = grants.create(draft, &opening::actor()).await?;
    let (grant, token) = (&made.grant, made.token.reveal());
    if format == Format::Json {
        return output::secret_json(&Created { token, grant });
    }
    output::secret_line(token)?;
    let permissions = &grant.permissions;
    let end = grant.expires_at.map_or_else(|| "never".to_owned(), |end| times::relative(end, now));
    output::note(&format!(
        "Grant {}: {} of spaces {}, feeds {}, context {}, scope {}; expires {end}.\nThe token above is shown this once; \
         only its hash is kept.",
        grant.id,
        permissions.role,
        spaces(&permissions.spaces),
        feeds(&permissions.feeds),
        context(&permissions.context),
        scope(&permissions.scope),
    ));
    Ok(())
}

impl Create {
    fn draft(self, now: jiff::Timestamp) -> Result<GrantDraft, CommandFailure> {
        let Self { role, name, space, feed, context: pairs, scope, expires_in, .. } = self;
        let name = match name {
            Some(name) => name,
            None => role
                .as_str()
                .parse()
                .map_err(|error: DisplayNameError| CommandFailure::usage(error.to_string()))?,
        };
        let mut context = ContextRules::of_role(role);
        let mut mentioned = Vec::new();
        for (key, rule) in pairs {
            if mentioned.contains(&key) {
                return Err(CommandFailure::usage(format!("--context: {}", ContextError::Twice(key))));
            }
            mentioned.push(key);
            context.set(key, rule);
        }
        let expires_at = match expires_in {
            Life::Unending => None,
            Life::For(life) => Some(now.checked_add(life).map_err(|_| {
                CommandFailure::usage(
                    "--expires-in: the duration is too long to be added to the present time",
                )
            })?),
        };
        let permissions = Permissions {
            role,
            spaces: if space.is_empty() {
                SpaceLimit::All
            } else {
                SpaceLimit::Only(space.into_iter().collect())
            },
            feeds: if feed.is_empty() {
                FeedLimit::All
            } else {
                FeedLimit::Matching(feed.into_iter().collect())
            },
            context,
            scope: scope.scope()?,
        };
        Ok(GrantDraft { name, permissions, expires_at })
    }
}
