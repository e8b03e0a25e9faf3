//! The findings of `carnet doctor`, one for each check.
//!
//! The checks are pure functions of the observations and the time. Only [`fetch`] uses the network. It
//! requests public documents, and none of its requests carries a token.

pub mod address;
pub mod clock;
pub mod database;
pub mod feeds;
pub mod fetch;
pub mod files;
pub mod grants;
pub mod issuer_url;
pub mod keys;
pub mod public;
pub mod publication;
pub mod state;

use serde::Serialize;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The check passed.
    Ok,
    /// It works now and needs attention.
    Warning,
    /// It does not work, will soon fail, or is not safe.
    Failed,
}

impl Status {
    /// Returns the name in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check, the same in every version.
    pub id: &'static str,
    /// The severity.
    pub status: Status,
    /// The observation, in one line.
    pub summary: String,
    /// More of the observation, and why it matters. `None` if the summary is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// Creates a finding without detail and hint.
    #[must_use]
    pub fn new(id: &'static str, status: Status, summary: impl Into<String>) -> Self {
        Self { id, status, summary: summary.into(), detail: None, hint: None }
    }

    /// Creates a finding of a check that passed.
    #[must_use]
    pub fn ok(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, summary)
    }

    /// Creates a finding that needs attention.
    #[must_use]
    pub fn warning(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Warning, summary)
    }

    /// Creates a finding of something that does not work, will soon fail, or is not safe.
    #[must_use]
    pub fn failed(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Failed, summary)
    }

    /// Adds more of the observation, or why it matters.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Adds the fix.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// All findings, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// True if no finding is worse than permitted.
    pub ok: bool,
    /// One finding for each check. A check that another finding made impossible is left out.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Creates a report that is `ok` if nothing failed. With `strict`, a warning makes it not `ok`, too.
    #[must_use]
    pub fn new(findings: Vec<Finding>, strict: bool) -> Self {
        let worst_allowed = if strict { Status::Ok } else { Status::Warning };
        Self { ok: findings.iter().all(|finding| finding.status <= worst_allowed), findings }
    }

    /// Returns the number of findings with `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

/// Formats an error and its causes, each once, in one line.
#[must_use]
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent error repeats its source.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// Joins the first ten items and counts the rest.
fn listed(items: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = items.get(..SHOWN).unwrap_or(items).join("; ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Formats a count, such as `1 key` or `2 keys`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_fail_a_report_only_if_it_is_strict() {
        for (status, lenient, strict) in
            [(Status::Ok, true, true), (Status::Warning, true, false), (Status::Failed, false, false)]
        {
            let findings = vec![Finding::ok("a", ""), Finding::new("b", status, "")];
            assert_eq!(Report::new(findings.clone(), false).ok, lenient);
            assert_eq!(Report::new(findings, true).ok, strict);
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let items: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        assert_eq!(listed(&items[..2]), "0; 1");
        assert_eq!(listed(&items), "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 2 more");
    }
}
