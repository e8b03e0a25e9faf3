//! Decides which identities may assume a role. The decision is pure.

use super::AwsError;
use crate::feed::aws::{RoleArn, SessionDuration};
use crate::sandbox::config::AwsRole;
use crate::sandbox::identity::Identity;

/// Decides in AWS's order: the provider's client IDs, the role's trust, the role's maximum session duration.
///
/// Without any configured role, every role exists and trusts every identity for up to 12 hours.
pub(super) fn decide(
    roles: &[AwsRole],
    arn: &RoleArn,
    identity: &Identity,
    duration: SessionDuration,
) -> Result<(), AwsError> {
    if roles.is_empty() {
        return Ok(());
    }
    if !roles.iter().any(|role| role.audiences.contains(&identity.aud)) {
        return Err(AwsError::new(400, "InvalidIdentityToken", "Incorrect token audience"));
    }
    let trusting = roles.iter().find(|role| {
        role.arn == *arn
            && role.audiences.contains(&identity.aud)
            && role.subjects.iter().any(|pattern| like(pattern.as_bytes(), identity.sub.as_bytes()))
    });
    // As in AWS, the response is the same for a role that does not exist and for one that does not trust the
    // identity.
    let role = trusting.ok_or_else(|| {
        AwsError::new(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
    })?;
    if duration > role.max_session_duration {
        return Err(AwsError::new(
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(())
}

/// Matches as IAM's `StringLike`: `*` is any run of characters and `?` any single one. Without either, it
/// matches as `StringEquals`.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // The position of the last `*`, and the end of the text that it has matched so far.
    let mut star = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, seen) = (*after + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/pull";

    fn role(arn: &str, audience: &str, subject: &str) -> AwsRole {
        AwsRole {
            arn: arn.parse().unwrap(),
            audiences: vec![audience.into()],
            subjects: vec![subject.into()],
            max_session_duration: SessionDuration::default(),
        }
    }

    #[test]
    fn trust_is_decided_by_role_audience_subject_and_duration() {
        let roles = [
            role(ARN, "sts.amazonaws.com", "space:default:feed:a"),
            role("arn:aws:iam::123456789012:role/other", "other", "*"),
        ];
        let denied = Some("AccessDenied");
        for (roles, arn, aud, sub, duration, code) in [
            (&roles[..], ARN, "sts.amazonaws.com", "space:default:feed:a", "1h", None),
            (&roles, ARN, "sts.amazonaws.com", "space:default:feed:A", "1h", denied),
            (&roles, ARN, "sts.amazonaws.com", "space:default:feed:a:feed:b", "1h", denied),
            (&roles, ARN, "other", "space:default:feed:a", "1h", denied),
            (&roles, ARN, "nobody's", "space:default:feed:a", "1h", Some("InvalidIdentityToken")),
            (&roles, "arn:aws:iam::123456789012:role/none", "other", "x", "1h", denied),
            (&roles, "arn:aws:iam::123456789012:role/other", "other", "anything", "1h", None),
            (&roles, ARN, "sts.amazonaws.com", "space:default:feed:a", "3601", Some("ValidationError")),
            (&[], ARN, "anything", "anything", "12h", None),
        ] {
            let identity = Identity {
                sub: sub.into(),
                aud: aud.into(),
                kid: String::new(),
                iat: jiff::Timestamp::UNIX_EPOCH,
                exp: jiff::Timestamp::UNIX_EPOCH,
            };
            let outcome = decide(roles, &arn.parse().unwrap(), &identity, duration.parse().unwrap());
            assert_eq!(outcome.err().map(|error| error.code), code, "{arn} {aud} {sub} {duration}");
        }
    }

    #[test]
    fn wildcards_match_like_iam() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("", "", true),
            ("*", "", true),
            ("space:*:feed:a", "space:x:y:feed:a", true),
            ("space:*:feed:a", "space:x:feed:ab", false),
            ("*a*b*", "xaxbx", true),
            ("*a*b", "xaxbxc", false),
            ("?", "", false),
            ("??", "ab", true),
            ("a*aab", "aaaaab", true),
        ] {
            assert_eq!(like(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
    }
}
