//! The likely causes of failures, and their fixes. Each provider has a table from codes to causes, most
//! likely first; if a code has several meanings, the message selects among them.
//!
//! Pure. A code that is in no table is shown as the provider sent it, without a fix. Messages change, so only
//! advice and retries depend on them.

pub(crate) mod aws;
pub(crate) mod azure;
pub(crate) mod general;
pub(crate) mod google;
#[cfg(feature = "server")]
pub(crate) mod issuer;
#[cfg(feature = "server")]
pub(crate) mod registry;
#[cfg(feature = "cli")]
pub(crate) mod target;
pub(crate) mod tls;

use std::fmt::Write as _;

use crate::feed::scope::{Action, Scope};
use crate::feed::{FeedPath, FeedType};
use crate::oidc::subject::Context;
use crate::values::shell::word;

/// The likely cause of a failure, with its fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The likely fault, in terms of the presented token.
    pub why: String,
    /// The fix.
    pub fix: Fix,
}

/// The fix of a [`Cause`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// Apply the output of `carnet feed setup`.
    Trust,
    /// Upload the JWKS again with the output of `carnet feed setup`, in which this one command does the
    /// upload. Then confirm the key.
    Upload {
        /// The upload command, ready for a shell except for `FILE`.
        upload: String,
        /// The key to confirm.
        kid: String,
    },
    /// `carnet feed update` with these arguments.
    Feed(String),
    /// `carnet feed update` with other URLs for these endpoints. Only for a feed that names its endpoints.
    Endpoints(&'static [&'static str]),
    /// Another command, ready for a shell. It only inspects something or starts a server.
    Command(String),
    /// A command that changes something outside carnet.
    Change {
        /// The change and its preconditions.
        what: String,
        /// The command, ready for a shell.
        command: String,
    },
    /// Wait, and check again.
    Again,
    /// Check again with these arguments.
    CheckWith(String),
    /// An action that no single command carries out.
    Act(String),
}

/// The chance that a refused request succeeds when it is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// The failure stays until a cause is fixed.
    Never,
    /// One replica of the provider may lag behind the others; a second attempt may reach another replica.
    Once,
    /// The failure is transient.
    Passing,
}

/// The arguments of a check, which the printed commands repeat.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The feed.
    pub feed: &'a FeedPath,
    /// The deployment.
    pub context: &'a Context,
    /// The scope of the credential.
    pub scope: &'a Scope,
    /// The image of which a part is pulled, as the command line accepts it.
    pub image: Option<&'a str>,
    /// The type of the feed.
    pub feed_type: FeedType,
    /// The network options of the command line, such as `--proxy URL`, each quoted for a shell. Without them
    /// a repeated check could use another route.
    pub network: &'a [String],
}

impl Asked<'_> {
    /// Returns `carnet feed COMMAND` with the feed and its context.
    fn command(&self, command: &str) -> String {
        let mut line = format!("carnet feed {command} {}", self.feed);
        for (key, value) in self.context.iter() {
            push(&mut line, "context", &format!("{}={value}", key.as_str()));
        }
        line
    }

    /// Returns the command for the same check, with `arguments` added or replacing the earlier ones.
    fn check(&self, arguments: &str) -> String {
        let mut line = self.command("check");
        for repository in self.scope.repositories().into_iter().flatten() {
            push(&mut line, "repository", repository.as_str());
        }
        // A scope with all actions is the default and needs no option.
        let may = |action: &Action| self.scope.allows(*action);
        if !Action::ALL.iter().all(may) {
            Action::ALL.iter().filter(|action| may(action)).for_each(|action| {
                push(&mut line, "action", action.as_str());
            });
        }
        if let Some(image) = self.image.filter(|_| !arguments.starts_with("--image ")) {
            push(&mut line, "image", image);
        }
        if !arguments.is_empty() {
            line.extend([" ", arguments]);
        }
        // The advice names a new value for this option.
        let is_named = |option: &&String| option.split(' ').next() == arguments.split(' ').next();
        for option in self.network.iter().filter(|option| !is_named(option)) {
            line.extend([" ", option]);
        }
        line
    }
}

impl Cause {
    pub(crate) fn new(why: impl Into<String>, fix: Fix) -> Self {
        Self { why: why.into(), fix }
    }

    /// Creates a cause that no single command fixes.
    pub(crate) fn act(why: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(why, Fix::Act(what.into()))
    }

    /// Creates a cause in the cloud's trust configuration.
    pub(crate) fn trust(why: impl Into<String>) -> Self {
        Self::new(why, Fix::Trust)
    }

    /// Creates a cause that disappears with time.
    pub(crate) fn early(why: impl Into<String>) -> Self {
        Self::new(why, Fix::Again)
    }

    /// Creates a cause for a wrong clock.
    pub(crate) fn clock(why: impl Into<String>) -> Self {
        let what = "set this machine's clock; with systemd, run this".to_owned();
        Self::new(why, Fix::Change { what, command: "timedatectl set-ntp true".to_owned() })
    }
}

impl Fix {
    /// Returns the fix as a sentence for people, with the command that does it, if there is one.
    #[must_use]
    pub fn written_out(&self, asked: &Asked<'_>) -> (String, Option<String>) {
        let feed = asked.feed;
        match self {
            Self::Trust => {
                let managed = match asked.feed_type {
                    FeedType::AzureAcr => "; add --identity managed if client_id is a managed identity's",
                    _ => "",
                };
                let what =
                    format!("run this, and carry out the printed set-up in the cloud's account{managed}");
                (what, Some(asked.command("setup")))
            }
            Self::Upload { upload, kid } => (
                format!(
                    "run this and carry out the printed steps; the upload is `{upload}`; then run `carnet \
                     feed confirm-jwks {kid} {feed}`"
                ),
                Some(asked.command("setup")),
            ),
            Self::Endpoints(names) => {
                let arguments =
                    names.iter().map(|name| format!(" --endpoint {name}=URL")).collect::<String>();
                ("change the feed".to_owned(), Some(format!("carnet feed update {feed}{arguments}")))
            }
            Self::Feed(arguments) => {
                ("change the feed".to_owned(), Some(format!("carnet feed update {feed} {arguments}")))
            }
            Self::Command(command) => ("run this".to_owned(), Some(command.clone())),
            Self::Change { what, command } => (what.clone(), Some(command.clone())),
            Self::Again => ("wait a few minutes, then check again".to_owned(), Some(asked.check(""))),
            Self::CheckWith(arguments) => ("check again with this".to_owned(), Some(asked.check(arguments))),
            Self::Act(what) => (what.clone(), None),
        }
    }
}

fn push(line: &mut String, option: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = write!(line, " --{option} {}", word(value));
}

/// Joins the causes to one line.
pub(crate) fn in_one_line(causes: &[Cause]) -> Option<String> {
    let whys: Vec<_> = causes.iter().map(|cause| cause.why.as_str()).collect();
    Some(whys.join("; ")).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
