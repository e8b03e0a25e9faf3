//! The causes of failures and their fixes: a table for each provider from the code, and from the message where a code
//! stands for several things, to causes, most likely first.
//!
//! Pure. A code that no table has is shown as the provider sent it, without a fix. Messages change, so only advice and
//! retries follow from them.

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

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::feed::scope::{Action, Scope};
use crate::feed::{FeedPath, FeedType};
use crate::oidc::subject::Context;

/// Why something may have failed, and what fixes it.
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
    /// Carry out what `carnet feed setup` prints.
    Trust,
    /// Upload the JWKS anew with what `carnet feed setup` prints, where this one command does the upload, and then
    /// confirm the key.
    Upload {
        /// The upload alone, ready for a shell but for `FILE`.
        upload: String,
        /// What is to be confirmed.
        kid: String,
    },
    /// `carnet feed update` with these arguments.
    Feed(String),
    /// `carnet feed update` with other URLs for these endpoints. Only a feed that names its endpoints can do that.
    Endpoints(&'static [&'static str]),
    /// Another command, ready for a shell, which only looks or serves.
    Command(String),
    /// A command that changes something outside carnet, and what it changes.
    Change {
        /// What to know before it is run.
        what: String,
        /// Ready for a shell.
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
    /// The failure stays until somebody changes something.
    Never,
    /// One replica of the provider may lag behind the others: a second attempt may reach another one.
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
    /// The image to pull a part of, as the command line takes it.
    pub image: Option<&'a str>,
    /// The type of the feed.
    pub feed_type: FeedType,
    /// The network options of the command line, such as `--proxy URL`, each quoted for a shell: without them a repeated
    /// check may take another way.
    pub network: &'a [String],
}

impl Asked<'_> {
    /// `carnet feed COMMAND` for the feed and its context.
    fn command(&self, command: &str) -> String {
        let mut line = format!("carnet feed {command} {}", self.feed);
        for (key, value) in self.context.iter() {
            push(&mut line, "context", &format!("{}={value}", key.as_str()));
        }
        line
    }

    /// The same check, with `arguments` beside it or in the place of what was said before.
    fn check(&self, arguments: &str) -> String {
        let mut line = self.command("check");
        for repository in self.scope.repositories().into_iter().flatten() {
            push(&mut line, "repository", repository.as_str());
        }
        // Who may do everything has named no action, or each, which is the same.
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
        // An option that the advice names has a new value.
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

    /// Something that no one command fixes.
    pub(crate) fn act(why: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(why, Fix::Act(what.into()))
    }

    /// Something that the cloud's trust lacks.
    pub(crate) fn trust(why: impl Into<String>) -> Self {
        Self::new(why, Fix::Trust)
    }

    /// Something that is not known everywhere yet.
    pub(crate) fn early(why: impl Into<String>) -> Self {
        Self::new(why, Fix::Again)
    }

    /// A clock that is wrong.
    pub(crate) fn clock(why: impl Into<String>) -> Self {
        let what = "set this machine's clock; where systemd keeps it, by this".to_owned();
        Self::new(why, Fix::Change { what, command: "timedatectl set-ntp true".to_owned() })
    }
}

impl Fix {
    /// What to do, as a sentence for people, and the command that does it, if one does.
    #[must_use]
    pub fn told(&self, asked: &Asked<'_>) -> (String, Option<String>) {
        let feed = asked.feed;
        match self {
            Self::Trust => {
                let managed = match asked.feed_type {
                    FeedType::AzureAcr => "; add --identity managed if client_id is a managed identity's",
                    _ => "",
                };
                let what = format!("carry out what this prints, in the cloud's own account{managed}");
                (what, Some(asked.command("setup")))
            }
            Self::Upload { upload, kid } => (
                format!(
                    "carry out what this prints, whose upload is `{upload}`; then say `carnet feed confirm-jwks {kid} {feed}`"
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
            Self::Again => ("wait some minutes, then check again".to_owned(), Some(asked.check(""))),
            Self::CheckWith(arguments) => ("check again with it".to_owned(), Some(asked.check(arguments))),
            Self::Act(what) => (what.clone(), None),
        }
    }
}

fn push(line: &mut String, option: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = write!(line, " --{option} {}", word(value));
}

/// One word of a shell's: as it is where every shell reads it so.
pub(crate) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => quoted(text).into(),
    }
}

/// One word of a shell's, whatever it holds.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// All causes in one line, for who wants one.
pub(crate) fn in_one_line(causes: &[Cause]) -> Option<String> {
    let whys: Vec<_> = causes.iter().map(|cause| cause.why.as_str()).collect();
    Some(whys.join("; ")).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests;
