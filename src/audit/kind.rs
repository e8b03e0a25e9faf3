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
    /// The end of this log, as a running process had written it, was gone.
    AuditCut = "audit.cut",
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

/// The kinds of events in the history of keys: for each the word in the history and the kind in this log.
macro_rules! key_events {
    ( $( $(#[$doc:meta])* $variant:ident = $word:literal is $kind:ident ),+ $(,)? ) => {
        /// A kind of event in the history of keys, key policy and master key (`carnet key list --history`).
        ///
        /// Each event of the history has a row in this log, too. The reverse does not hold: a
        /// [`KeyNudge`](EventKind::KeyNudge) changes no key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum KeyEventKind { $( $(#[$doc])* $variant ),+ }

        impl KeyEventKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$( Self::$variant ),+];

            /// Returns the word in the history.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word ),+ }
            }

            /// Returns the kind of the event's row in this log.
            #[must_use]
            pub fn audited(self) -> EventKind {
                match self { $( Self::$variant => EventKind::$kind ),+ }
            }
        }
    };
}

key_events! {
    /// A signing key was made and published.
    Prepared = "prepared" is KeyPrepare,
    /// A signing key began to sign.
    Activated = "activated" is KeyActivate,
    /// A signing key stopped signing, and its private half was destroyed.
    Retired = "retired" is KeyRetire,
    /// A signing key was withdrawn.
    Revoked = "revoked" is KeyRevoke,
    /// The key policy was changed.
    Policy = "policy" is KeyPolicy,
    /// A clock was accepted, or the database's time set back.
    Clock = "clock" is KeyClock,
    /// Everything was sealed again under another master key.
    Rewrap = "rewrap" is KeyRewrap,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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

    #[test]
    fn key_events_are_every_kind_of_this_log_about_keys_except_nudges() {
        let audited: BTreeSet<_> = KeyEventKind::ALL.iter().map(|kind| kind.audited()).collect();
        let about_keys = EventKind::ALL.iter().copied().filter(|kind| kind.as_str().starts_with("key."));
        assert_eq!(audited, about_keys.filter(|kind| *kind != EventKind::KeyNudge).collect());
        assert_eq!(audited.len(), KeyEventKind::ALL.len());
        // The words are in databases: a change of one would make two kinds of one.
        let words: Vec<_> = KeyEventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(words, ["prepared", "activated", "retired", "revoked", "policy", "clock", "rewrap"]);
    }

    #[test]
    fn the_page_about_the_log_has_every_kind() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit.md")).unwrap();
        let rows: String = page.lines().filter(|line| line.starts_with("| `")).collect();
        for kind in EventKind::ALL {
            assert!(rows.contains(&format!("`{kind}`")), "docs/audit.md has no row of {kind}");
        }
    }
}
