//! `GET /audit`: the audit log.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::Api;
use super::body::Parameters;
use super::caller::Caller;
use super::openapi::Refusals;
use super::refusal::ApiRefusal;
use crate::api_types::audit::{AuditPage, AuditRecord};
use crate::api_types::texts::{EventKindName, OutcomeName, SlugText, TimeText};
use crate::audit::{EventKind, Outcome};
use crate::grant::{Permissions, Role};
use crate::store::audit::{AuditFilter, Direction, MAX_PAGE, Sight};
use crate::values::slug::Slug;

/// The filter and the page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParameters {
    /// Only rows older than this one; `next_before` of the previous page.
    #[param(minimum = 1)]
    before: Option<u64>,
    /// The maximum number of rows: 100 by default, up to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// Only this kind of event, such as `credential`.
    #[param(value_type = Option<EventKindName>)]
    kind: Option<String>,
    /// Only this outcome.
    #[param(value_type = Option<OutcomeName>)]
    outcome: Option<String>,
    /// Only the actions of this actor, such as `grant:ID`.
    #[param(max_length = 80)]
    actor: Option<String>,
    /// Only this space.
    #[param(value_type = Option<SlugText>)]
    space: Option<String>,
    /// Only feeds of this slug.
    #[param(value_type = Option<SlugText>)]
    feed: Option<String>,
    /// Only rows about this grant, or of requests with it.
    grant: Option<Uuid>,
    /// Only rows about this token.
    jti: Option<Uuid>,
    /// At or after this time, RFC 3339.
    #[param(value_type = Option<TimeText>)]
    since: Option<String>,
    /// Before this time, RFC 3339.
    #[param(value_type = Option<TimeText>)]
    until: Option<String>,
}

const USUAL_PAGE: u32 = 100;

/// The maximum length of an actor's name.
const MAX_ACTOR: usize = 80;

/// Read the audit log
///
/// Returns the newest rows first. A grant that is limited to spaces sees only rows about these. Requires a
/// grant of role viewer or admin.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    operation_id = "listAuditRecords",
    params(AuditParameters),
    responses((status = 200, description = "A page of rows", body = AuditPage), Refusals),
)]
pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Parameters(parameters): Parameters<AuditParameters>,
) -> Result<Json<AuditPage>, ApiRefusal> {
    caller.needs(Role::Viewer)?;
    let limit = parameters.limit.unwrap_or(USUAL_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiRefusal::field("limit", format!("1 to {MAX_PAGE}")));
    }
    let before = parameters.before.map(i64::try_from).transpose();
    let before = before.ok().filter(|before| *before != Some(0));
    let before = before.ok_or_else(|| ApiRefusal::field("before", "the number of a row"))?;
    let filter = filter(parameters, &caller)?;
    let _turn = api.audit_turns().take(caller.grant_id(), api.carnet().clock().as_ref()).await?;
    let page = api.carnet().store().audit(&filter, Direction::NewestFirst(before), limit).await?;
    Ok(Json(AuditPage {
        records: page.records.iter().map(AuditRecord::from).collect(),
        next_before: page.next,
    }))
}

fn filter(parameters: AuditParameters, caller: &Caller) -> Result<AuditFilter, ApiRefusal> {
    if parameters.actor.as_ref().is_some_and(|actor| actor.chars().count() > MAX_ACTOR) {
        return Err(ApiRefusal::field("actor", format!("at most {MAX_ACTOR} characters")));
    }
    let Permissions { spaces, feeds, .. } = caller.permissions();
    Ok(AuditFilter {
        kind: parsed::<EventKind>("kind", parameters.kind)?,
        outcome: parsed::<Outcome>("outcome", parameters.outcome)?,
        actor: parameters.actor,
        spaces: parsed::<Slug>("space", parameters.space)?.map(|space| vec![space]),
        feed: parsed("feed", parameters.feed)?,
        grant: parameters.grant,
        jti: parameters.jti,
        since: parsed::<Timestamp>("since", parameters.since)?,
        until: parsed::<Timestamp>("until", parameters.until)?,
        // Rows outside the caller's limits are neither read nor counted.
        sight: Sight { spaces: spaces.clone(), feeds: feeds.clone() },
    })
}

fn parsed<T>(field: &str, text: Option<String>) -> Result<Option<T>, ApiRefusal>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.map(|text| text.parse()).transpose().map_err(|error: T::Err| ApiRefusal::field(field, error))
}
