//! `GET …/setup`: the resources to create in the cloud.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::body::{Names, Parameters};
use super::caller::Caller;
use super::openapi::Refusals;
use super::refusal::ApiRefusal;
use crate::api_types::feeds::JwksSourceName;
use crate::api_types::problem::{Problem, ProblemType};
use crate::api_types::setup::SetupResponse;
use crate::api_types::texts::SlugText;
use crate::feed::google::JwksSource;
use crate::feed::scope::{Action, Scope};
use crate::grant::Role;
use crate::issuer::MintError;
use crate::oidc::subject::{Context, ContextKey};
use crate::setup::{self, KeysToUpload, SetupError, SetupOptions};

/// The format, and the deployment that the resources are for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct SetupParameters {
    /// The format of the response's content.
    #[param(inline)]
    format: FormatName,
    /// The deployed project, if the feed's subject names it.
    #[serde(rename = "context.project")]
    #[param(value_type = Option<SlugText>)]
    project: Option<String>,
    /// The runbook that runs, if the feed's subject names it.
    #[serde(rename = "context.runbook")]
    #[param(value_type = Option<SlugText>)]
    runbook: Option<String>,
    /// The tenant that is deployed to, if the feed's subject names it.
    #[serde(rename = "context.tenant")]
    #[param(value_type = Option<SlugText>)]
    tenant: Option<String>,
    /// The environment that is deployed to, if the feed's subject names it.
    #[serde(rename = "context.environment")]
    #[param(value_type = Option<SlugText>)]
    environment: Option<String>,
    /// The kind of work, if the feed's subject names it.
    #[serde(rename = "context.type")]
    #[param(value_type = Option<SlugText>)]
    work: Option<String>,
    /// The repositories to give access to, separated by commas; by default all of the registry, or of
    /// Google's project. At Google `NAME` or `PROJECT/NAME`.
    #[param(example = "team/app,team/web")]
    repository: Option<String>,
    /// The actions to allow there, separated by commas: `pull`, `push`; by default `pull`.
    #[param(example = "pull,push")]
    action: Option<String>,
    /// The kind of identity that trusts the issuer (`azure-acr` only).
    #[param(inline)]
    identity: IdentityName,
    /// The way in which Google gets the issuer's keys (`google-artifact-registry` only); by default that of
    /// the feed.
    #[param(value_type = Option<JwksSourceName>)]
    jwks: Option<JwksSource>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    #[default]
    Cli,
    Terraform,
    Json,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum IdentityName {
    #[default]
    App,
    Managed,
}

/// Show the resources to create in the cloud
///
/// The resources trust exactly this issuer, subject and audience. The request contacts no other service and
/// changes nothing. Requires a grant of role viewer or admin for the feed.
#[utoipa::path(
    get,
    path = "/spaces/{space}/feeds/{feed}/setup",
    tag = "feeds",
    operation_id = "getFeedSetup",
    params(
        ("space" = SlugText, Path, description = "The space"),
        ("feed" = SlugText, Path, description = "The feed"),
        SetupParameters,
    ),
    responses((status = 200, description = "The resources to create", body = SetupResponse), Refusals),
)]
pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Names((space, feed)): Names<(String, String)>,
    Parameters(parameters): Parameters<SetupParameters>,
) -> Result<Json<SetupResponse>, ApiRefusal> {
    caller.needs(Role::Viewer)?;
    let path = caller.feed_path(&space, &feed)?;
    let feed = api.carnet().store().feed(&path).await?.ok_or_else(ApiRefusal::not_found)?;
    let format = parameters.format.into();
    let issuer = api.carnet().issuer();
    let mut options = parameters.options()?;
    if parameters.jwks.unwrap_or(feed.provider.jwks()) == JwksSource::Uploaded {
        options.uploaded_jwks = Some(KeysToUpload::of(&issuer.key_set().keys, api.carnet().clock().now()));
    }
    let setup = setup::setup(&feed, issuer.url(), &options)?;
    Ok(Json(SetupResponse::new(&setup, format)?))
}

impl SetupParameters {
    fn options(&self) -> Result<SetupOptions, ApiRefusal> {
        let mut context = Context::empty();
        for (key, value) in [
            (ContextKey::Project, &self.project),
            (ContextKey::Runbook, &self.runbook),
            (ContextKey::Tenant, &self.tenant),
            (ContextKey::Environment, &self.environment),
            (ContextKey::Type, &self.work),
        ] {
            if let Some(value) = value {
                let field = format!("context.{}", key.as_str());
                context.insert(key, value.parse().map_err(|error| ApiRefusal::field(&field, error))?);
            }
        }
        let repositories = self.repository.as_deref().map(|list| listed("repository", list)).transpose()?;
        let actions = self.action.as_deref().map(|list| listed("action", list)).transpose()?;
        let actions = actions.unwrap_or_else(|| vec![Action::Pull]);
        let scope = Scope::new(repositories, Some(actions))
            .map_err(|error| ApiRefusal::field("repository", error))?;
        let identity = match self.identity {
            IdentityName::App => setup::Identity::App,
            IdentityName::Managed => setup::Identity::Managed,
        };
        Ok(SetupOptions { context, scope, identity, uploaded_jwks: None })
    }
}

fn listed<T: FromStr<Err: std::fmt::Display>>(field: &str, list: &str) -> Result<Vec<T>, ApiRefusal> {
    list.split(',')
        .map(|item| item.parse().map_err(|error: T::Err| ApiRefusal::field(field, error)))
        .collect()
}

impl From<FormatName> for setup::Format {
    fn from(format: FormatName) -> Self {
        match format {
            FormatName::Cli => Self::Cli,
            FormatName::Terraform => Self::Terraform,
            FormatName::Json => Self::Json,
        }
    }
}

impl From<SetupError> for ApiRefusal {
    fn from(error: SetupError) -> Self {
        let detail = error.to_string();
        let field = match error {
            // The same refusal as for a token that cannot be minted, because the same subject lacks the same
            // key.
            SetupError::Subject(error) => return Self::from(&MintError::Subject(error)),
            SetupError::Audience { .. } => "audience",
            SetupError::Repositories(_) | SetupError::PolicyTooLong { .. } => "repository",
            SetupError::Registry(_) => "registry",
            SetupError::Option { option, .. } => option,
            SetupError::TooManyKeys { .. } => "jwks",
            error @ (SetupError::Render(_) | SetupError::Json(_)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a setup could not be written");
                return Self::new(ProblemType::Internal);
            }
        };
        Problem::new(ProblemType::InvalidField).field(field).detail(detail).into()
    }
}
