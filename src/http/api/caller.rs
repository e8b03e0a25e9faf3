//! Callers: authentication, separate from authorization.
//!
//! A [`Caller`] is an authenticated name with its permissions. Handlers use only the permissions; only this
//! module knows their source.
//!
//! A grant that ends during a request ends the request. Every response passes [`admit`], which reads the
//! grant again unless it was read just before. Every body passes [`Caller::confirm`] after it is read. Every
//! change needs [`Caller::principal`], which the services confirm in the transaction of the change. So no new
//! route can omit these checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use uuid::Uuid;

use super::Api;
use super::limits::RequestPermit;
use super::refusal::ApiRefusal;
use super::request_id::RequestId;
use crate::access::grants::AuthenticationError;
use crate::access::principal::Principal;
use crate::api_types::problem::ProblemType;
use crate::audit::{Event, EventKind, Outcome};
use crate::feed::FeedPath;
use crate::grant::{Grant, Permissions, Role};
use crate::http::client_address::ClientAddress;
use crate::metrics::GrantOutcome;
use crate::values::actor::Actor;
use crate::values::secret::SecretString;
use crate::values::shares::Account;
use crate::values::slug::Slug;

/// The age from which a grant's row is read again. It is less than one second: from one second after the
/// response to a revocation, no response may begin that still accepts the revoked grant.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    grant: Arc<Grant>,
    /// The monotonic time before the grant was read.
    read_at: Duration,
    actor: Actor,
    request_id: RequestId,
    client: Option<IpAddr>,
}

impl Caller {
    /// Returns the caller's permissions.
    pub(super) fn permissions(&self) -> &Permissions {
        &self.grant.permissions
    }

    /// Returns the grant's id.
    pub(super) fn grant_id(&self) -> Uuid {
        self.grant.id
    }

    /// Returns the expiry of the caller's grant; `None` if it never expires.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.grant.expires_at
    }

    /// Returns the account that the caller's requests are charged to. Callers whose grants have the same
    /// maker share one allowance. A grant made by a user of this machine is its own group.
    pub(super) fn account(&self) -> Account {
        let maker = self.grant.created_by.strip_prefix("grant:").and_then(|id| id.parse().ok());
        maker.map_or_else(|| Account::of(self.grant.id), |maker| Account::made_by(maker, self.grant.id))
    }

    /// Returns the principal for changes and for lists of grants. A caller can change nothing without it.
    pub(super) fn principal(&self) -> Principal<'_> {
        Principal::Grant(&self.grant)
    }

    /// Refuses a caller whose grant has ended since it was last read. A grant read less than
    /// [`READ_AGAIN_AFTER`] ago is not read again.
    pub(super) async fn confirm(&self, api: &Api) -> Result<(), ApiRefusal> {
        let clock = api.carnet().clock();
        if clock.monotonic().saturating_sub(self.read_at) < READ_AGAIN_AFTER {
            return Ok(());
        }
        if api.carnet().grants().is_valid(self.grant.id, clock.now()).await? {
            return Ok(());
        }
        checked(api, GrantOutcome::Revoked);
        let why = "the grant has ended since the request began".to_owned();
        Err(ApiRefusal::new(ProblemType::Unauthorized).because(why))
    }

    /// Confirms the caller, as [`Caller::confirm`] does, of a request whose body has just been read.
    pub(super) async fn confirm_sender(extensions: &Extensions, api: &Api) -> Result<(), ApiRefusal> {
        match extensions.get::<Self>() {
            Some(caller) => caller.confirm(api).await,
            None => Ok(()),
        }
    }

    /// Returns an audit event caused by this caller.
    pub(super) fn event(&self, kind: EventKind, outcome: Outcome) -> Event {
        let event = Event::new(kind, outcome, &self.actor).in_request(self.request_id.as_str());
        match self.client {
            Some(client) => event.with_client(client),
            None => event,
        }
    }

    /// Refuses a caller whose role does not cover `role`. This comes before any lookup.
    pub(super) fn needs(&self, role: Role) -> Result<(), ApiRefusal> {
        if self.permissions().role.covers(role) {
            return Ok(());
        }
        Err(forbidden(format!(
            "this needs a grant of role {role}, and yours is of role {}",
            self.permissions().role
        )))
    }

    /// Refuses everyone except an admin without limits, because keys belong to no space.
    pub(super) fn needs_unlimited_admin(&self) -> Result<(), ApiRefusal> {
        self.needs(Role::Admin)?;
        if self.permissions().is_unlimited_admin() {
            return Ok(());
        }
        Err(forbidden("this needs an admin's grant without limits to spaces, feeds, context or scope"))
    }

    /// Returns the path of a feed that the caller may know of. Other feeds are not found.
    pub(super) fn feed_path(&self, space: &str, feed: &str) -> Result<FeedPath, ApiRefusal> {
        let (Ok(space), Ok(slug)) = (space.parse(), feed.parse()) else {
            return Err(ApiRefusal::not_found());
        };
        let path = FeedPath { space, slug };
        if self.permissions().may_see(&path) { Ok(path) } else { Err(ApiRefusal::not_found()) }
    }

    /// Returns the space of this name, if the caller may know of it.
    pub(super) fn space(&self, space: &str) -> Result<Slug, ApiRefusal> {
        let space: Slug = space.parse().map_err(|_| ApiRefusal::not_found())?;
        if self.permissions().sees_space(&space) { Ok(space) } else { Err(ApiRefusal::not_found()) }
    }
}

fn forbidden(why: impl Into<String>) -> ApiRefusal {
    crate::api_types::problem::Problem::new(ProblemType::Forbidden).detail(why).into()
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiRefusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiRefusal> {
        // Absent only if a route was left without authentication. Such a route refuses everyone.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| ApiRefusal::new(ProblemType::Unauthorized))
    }
}

/// Admits callers that present a valid grant.
pub(super) async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Response {
    admit(api, request, next, None).await
}

/// Admits callers that present a valid grant of role viewer or admin.
pub(super) async fn authenticate_viewer(State(api): State<Api>, request: Request, next: Next) -> Response {
    admit(api, request, next, Some(Role::Viewer)).await
}

async fn admit(api: Api, mut request: Request, next: Next, role: Option<Role>) -> Response {
    let client = request.extensions().get::<ClientAddress>().and_then(ClientAddress::ip);
    let presented = bearer(request.headers()).map(|token| SecretString::new(token.to_owned()));
    let request_id = request.extensions().get::<RequestId>().cloned();
    let caller = match identify(&api, presented, request_id, client).await {
        Ok(caller) => caller,
        Err(refusal) => return challenged(refusal),
    };
    let mut response = match let_in(&api, &caller, role) {
        Ok(_permit) => {
            request.extensions_mut().insert(caller.clone());
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    };
    if response.status() != StatusCode::UNAUTHORIZED {
        match caller.confirm(&api).await {
            Ok(()) => {
                let is_forbidden = response.status() == StatusCode::FORBIDDEN;
                checked(&api, if is_forbidden { GrantOutcome::Forbidden } else { GrantOutcome::Accepted });
            }
            Err(refusal) => response = refusal.into_response(),
        }
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    // The envelope records a refusal under the caller's name.
    response.extensions_mut().insert(caller);
    response
}

/// Checks the limits of the server first, then the caller's role.
fn let_in(api: &Api, caller: &Caller, role: Option<Role>) -> Result<RequestPermit, ApiRefusal> {
    let limits = api.limits();
    limits.take_for_address(caller.client, caller.grant.id)?;
    limits.take_for_grant(caller.grant.id)?;
    let permit = limits.enter(caller.account())?;
    role.map_or(Ok(()), |role| caller.needs(role))?;
    Ok(permit)
}

/// Refuses a caller without a valid grant. Such callers have a separate budget for each address, so they use
/// up nothing of callers with a grant behind the same address, for example a proxy.
fn stranger(api: &Api, client: Option<IpAddr>, outcome: GrantOutcome, why: String) -> ApiRefusal {
    checked(api, outcome);
    match api.limits().take_for_strangers(client) {
        Ok(()) => ApiRefusal::new(ProblemType::Unauthorized).because(why),
        Err(refusal) => refusal,
    }
}

async fn identify(
    api: &Api,
    presented: Option<SecretString>,
    request_id: Option<RequestId>,
    client: Option<IpAddr>,
) -> Result<Caller, ApiRefusal> {
    let (token, request_id) = presented
        .zip(request_id)
        .ok_or_else(|| stranger(api, client, GrantOutcome::Missing, "no grant was presented".to_owned()))?;
    let grants = api.carnet().grants();
    // An expired grant stays expired even if the clock falls behind.
    let now = api.carnet().clock().now().max(api.carnet().issuer().pulse().time.high_water);
    let read_at = api.carnet().clock().monotonic();
    let grant = match grants.authenticate(token.reveal(), now).await {
        Ok(grant) => grant,
        Err(AuthenticationError::Store(error)) => return Err(error.into()),
        Err(error) => {
            // The reason goes only to the log: a caller without a grant learns nothing.
            tracing::debug!(%error, ?client, "a grant was refused");
            let outcome = match error {
                AuthenticationError::Expired => GrantOutcome::Expired,
                AuthenticationError::Revoked => GrantOutcome::Revoked,
                _ => GrantOutcome::Unknown,
            };
            return Err(stranger(api, client, outcome, error.to_string()));
        }
    };
    grants.note_used(grant.id, now);
    let actor = Actor::grant(grant.id);
    Ok(Caller { grant: Arc::new(grant), read_at, actor, request_id, client })
}

fn checked(api: &Api, outcome: GrantOutcome) {
    api.carnet().metrics().server.grant_checked(outcome);
}

/// Returns the token of `Authorization: Bearer`, RFC 6750 section 2.1. A repeated header counts as absent.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_matches(' '))
}

const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"carnet\"");

fn challenged(refusal: ApiRefusal) -> Response {
    let is_unauthorized = refusal.problem_type() == Some(ProblemType::Unauthorized);
    let mut response = refusal.into_response();
    if is_unauthorized {
        response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bearer_token_is_accepted() {
        for (values, token) in [
            (vec!["Bearer abc"], Some("abc")),
            (vec!["bearer abc"], Some("abc")),
            (vec!["BEARER  abc"], Some("abc")),
            (vec!["Basic abc"], None),
            (vec!["abc"], None),
            (vec!["Bearer abc", "Bearer def"], None),
            (vec![], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            assert_eq!(bearer(&headers), token, "{values:?}");
        }
    }
}
