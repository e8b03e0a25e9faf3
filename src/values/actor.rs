//! Who does something, as the records name it.

use std::fmt;

use uuid::Uuid;

/// A server, a user of this machine, or a caller of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// The server itself, on schedule.
    #[must_use]
    pub fn server() -> Self {
        Self("serve".to_owned())
    }

    /// A user at the command line of this machine. The name is kept to 64 visible ASCII characters.
    #[must_use]
    pub fn local(user: &str) -> Self {
        let visible = user.chars().filter(char::is_ascii_graphic).take(64);
        Self(format!("local:{}", visible.collect::<String>()))
    }

    /// Whoever uses this grant.
    #[must_use]
    pub fn grant(id: Uuid) -> Self {
        Self(format!("grant:{id}"))
    }

    /// Somebody who did not say who he is, or could not show it.
    #[must_use]
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// The name as the records of a log give it back: whoever wrote it had one of the others.
    pub(crate) fn recorded(name: String) -> Self {
        Self(name)
    }

    /// The name in records.
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
