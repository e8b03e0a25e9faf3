//! What events are called in the log.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The text names no kind of event, or no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is one of {known}")]
pub struct UnknownName {
    what: &'static str,
    known: &'static str,
}

/// An enum of names: each variant and its name once, and everything that follows from them.
macro_rules! names {
    (
        $(#[$enum_doc:meta])* $name:ident, $what:literal:
        $( $(#[$doc:meta])* $variant:ident = $text:literal ),+ $(,)?
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$doc])* $variant ),+ }

        impl $name {
            /// Every one.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// The name in the log.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text ),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $text => Ok(Self::$variant), )+
                    _ => Err(UnknownName { what: $what, known: names!(@list $( $text )+) }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
    (@list $first:literal $( $more:literal )*) => { concat!($first $( , ", ", $more )*) };
}

names! {
    /// What was done or tried.
    EventKind, "a kind of event":
    /// A token was signed.
    TokenMint = "token.mint",
    /// A token was traded at a provider. Recorded when that failed; a success is the `credential` after it.
    Exchange = "exchange",
    /// A credential was handed out.
    Credential = "credential",
    /// A request was refused at the API's door.
    Request = "request",
    /// A signing key was made and published.
    KeyPrepare = "key.prepare",
    /// A signing key began to sign.
    KeyActivate = "key.activate",
    /// A signing key stopped signing, and its private half was destroyed.
    KeyRetire = "key.retire",
    /// A signing key was withdrawn.
    KeyRevoke = "key.revoke",
    /// A token was made to have a verifier fetch the JWKS after a revocation, or did not reach it.
    KeyNudge = "key.nudge",
    /// The key policy was changed.
    KeyPolicy = "key.policy",
    /// A clock was accepted, or the database's time set back.
    KeyClock = "key.clock",
    /// Everything was sealed again under another master key.
    KeyRewrap = "key.rewrap",
    /// From now on no key signs before a copy of the public documents has shown it.
    PublicationBegin = "publication.begin",
    /// No key waits for that copy any more.
    PublicationEnd = "publication.end",
    /// That copy was changed by somebody else, and has been written again.
    PublicationAltered = "publication.altered",
    /// A feed was added.
    FeedAdd = "feed.add",
    /// A feed was changed.
    FeedUpdate = "feed.update",
    /// A feed was removed.
    FeedRemove = "feed.remove",
    /// Somebody said that a key stands in the JWKS uploaded for a feed.
    FeedConfirmJwks = "feed.confirm-jwks",
    /// A grant was made.
    GrantCreate = "grant.create",
    /// A grant was revoked.
    GrantRevoke = "grant.revoke",
    /// A database that was put back or altered was accepted, and nothing of it believed.
    DatabaseAccept = "database.accept",
    /// The issuer URL was stored, or replaced.
    IssuerChange = "issuer.change",
    /// Old rows of this log were removed.
    AuditPrune = "audit.prune",
}

names! {
    /// What became of it.
    Outcome, "an outcome":
    /// It was done.
    Done = "done",
    /// Somebody, carnet or a provider, would not.
    Refused = "refused",
    /// It went wrong.
    Failed = "failed",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(*outcome));
        }
        assert_eq!(
            "Done".parse::<Outcome>().unwrap_err().to_string(),
            "an outcome is one of done, refused, failed"
        );
    }
}
