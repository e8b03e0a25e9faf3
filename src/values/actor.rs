//! The actor named in audit records and logs.

use std::fmt;

use uuid::Uuid;

/// The name of an actor: a server, a user of this machine, or a caller of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// The server itself, acting on its schedule.
    #[must_use]
    pub fn server() -> Self {
        Self("serve".to_owned())
    }

    /// A user at the command line of this machine. Keeps the first 64 visible ASCII characters of the name.
    #[must_use]
    pub fn local(user: &str) -> Self {
        let visible = user.chars().filter(char::is_ascii_graphic).take(64);
        Self(format!("local:{}", visible.collect::<String>()))
    }

    /// A caller that authenticated with this grant.
    #[must_use]
    pub fn grant(id: Uuid) -> Self {
        Self(format!("grant:{id}"))
    }

    /// A caller without a valid grant.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// Reads a name back from a record. Every recorded name was made by one of the other constructors.
    pub(crate) fn recorded(name: String) -> Self {
        Self(name)
    }

    /// The name as written in records.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
