//! Amazon ECR, private and public: assumes the feed's role with the token, then requests a login from ECR in
//! that role.

use super::aws::ecr::{self, Ecr};
use super::aws::{Apis, sts};
use jiff::SignedDuration;

use super::handed_on::Success;
use super::{Call, Credential, ExchangeError, ExchangeFailure, Secret, StatedExpiry};
use crate::feed::Feed;
use crate::feed::aws::{AssumedRole, role_session_name};
use crate::feed::aws_scope::session_policy;

/// The longest life of a role session (`DurationSeconds`) and of an ECR login.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// Runs the whole exchange.
///
/// AWS does not document whether an ECR login can outlive the role session in which it was created. Therefore
/// the earlier of both expiries counts.
pub(super) async fn exchange(
    call: &Call<'_>,
    feed: &Feed,
    role: &AssumedRole,
    ecr: Ecr,
) -> Result<Credential, ExchangeError> {
    let issued_at = call.clock.now();
    let apis = Apis::of(feed, &role.role_arn, ecr)
        .map_err(|reason| call.fail(sts::STEP, ExchangeFailure::Request(reason)))?;

    let policy = session_policy(&feed.registry, &role.role_arn, call.scope)
        .map_err(|error| call.fail(sts::STEP, ExchangeFailure::Scope(error)))?;
    let session_name = role_session_name(&feed.space, &feed.slug);
    let session = sts::assume_role(call, &apis.sts, role, &session_name, policy.as_deref()).await?;
    call.unexpired(sts::STEP, session.expires_at)?;

    let login = ecr::authorization_token(call, &apis, ecr, &session, role).await?;
    let success = Success {
        step: ecr.step(),
        status: login.status,
        secret: Secret::Password { username: login.username, password: login.password },
        issued_at,
        expiries: vec![
            StatedExpiry { of: "sts", at: session.expires_at },
            StatedExpiry { of: ecr.signing_name(), at: login.expires_at },
        ],
        longest: LONGEST,
    };
    call.credential(feed, success)
}
