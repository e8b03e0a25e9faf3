//! The names of events and outcomes in the log.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The error for a text that is not a kind of event or not an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} is one of {known}")]
pub struct UnknownName {
    what: &'static str,
    known: &'static str,
}

/// Defines an enum whose variants have names: each is written once, and the rest follows from it.
macro_rules! names {
    (
        $(#[$enum_doc:meta])* $name:ident, $what:literal:
        $( $(#[$doc:meta])* $variant:ident = $text:literal ),+ $(,)?
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$doc])* $variant ),+ }

        impl $name {
            /// All variants.
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
    /// The act that was done or tried.
    EventKind, "a kind of event":
    /// A token was signed.
    TokenMint = "token.mint",
    /// A token was exchanged at a provider. Recorded only for failures; after a success, the `credential`
    /// event follows.
    Exchange = "exchange",
    /// A credential was issued.
    Credential = "credential",
    /// The API refused a request before acting on it.
    Request = "request",
    /// A signing key was made and published.
    KeyPrepare = "key.prepare",
    /// A signing key began to sign.
    KeyActivate = "key.activate",
    /// A signing key stopped signing, and its private half was destroyed.
    KeyRetire = "key.retire",
    /// A signing key was revoked.
    KeyRevoke = "key.revoke",
    /// A token was signed to make a verifier fetch the JWKS after a revocation, or could not be delivered.
    KeyNudge = "key.nudge",
    /// The key policy was changed.
    KeyPolicy = "key.policy",
    /// A clock was accepted, or the database's time was set back.
    KeyClock = "key.clock",
    /// Everything was sealed again under another master key.
    KeyRewrap = "key.rewrap",
    /// From this event on, no key signs before a copy of the public documents has shown it.
    PublicationBegin = "publication.begin",
    /// From this event on, no key waits for that copy.
    PublicationEnd = "publication.end",
    /// Another writer changed that copy, and carnet wrote it again.
    PublicationAltered = "publication.altered",
    /// A feed was added.
    FeedAdd = "feed.add",
    /// A feed was changed.
    FeedUpdate = "feed.update",
    /// A feed was removed.
    FeedRemove = "feed.remove",
    /// An operator confirmed that a key is in the JWKS uploaded for a feed.
    FeedConfirmJwks = "feed.confirm-jwks",
    /// A grant was made.
    GrantCreate = "grant.create",
    /// A grant was revoked.
    GrantRevoke = "grant.revoke",
    /// A restored or altered database was accepted, with none of its keys and grants trusted.
    DatabaseAccept = "database.accept",
    /// The issuer URL was stored or replaced.
    IssuerChange = "issuer.change",
    /// Old rows of this log were removed.
    AuditPrune = "audit.prune",
}

names! {
    /// The outcome of the act.
    Outcome, "an outcome":
    /// The act succeeded.
    Done = "done",
    /// Carnet or a provider refused the act.
    Refused = "refused",
    /// The act failed.
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
