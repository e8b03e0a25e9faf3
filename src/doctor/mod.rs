//! What `carnet doctor` finds: one judgement for each thing that it looked at.
//!
//! The checks are pure: they get what was seen and the time, and give findings. [`fetch`] alone goes to the
//! network, and asks for public documents only: no request of it carries a token.

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

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works now; somebody should look at it.
    Warning,
    /// Does not work, soon will not, or is not safe.
    Failed,
}

impl Status {
    /// The name in tables and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same in every version.
    pub id: &'static str,
    /// How bad it is.
    pub status: Status,
    /// What was seen, in one line.
    pub summary: String,
    /// More of what was seen, and why it matters; nothing where the summary says it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without detail and hint.
    #[must_use]
    pub fn new(id: &'static str, status: Status, summary: impl Into<String>) -> Self {
        Self { id, status, summary: summary.into(), detail: None, hint: None }
    }

    /// All is well.
    #[must_use]
    pub fn ok(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, summary)
    }

    /// Somebody should look at it.
    #[must_use]
    pub fn warning(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Warning, summary)
    }

    /// It does not work, soon will not, or is not safe.
    #[must_use]
    pub fn failed(id: &'static str, summary: impl Into<String>) -> Self {
        Self::new(id, Status::Failed, summary)
    }

    /// With more of what was seen, or why it matters.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// With what to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is worse than may be.
    pub ok: bool,
    /// One for each thing that was looked at. What could not be looked at because of another finding is left out.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report that is `ok` if nothing failed; with `strict`, if there is no warning either.
    #[must_use]
    pub fn new(findings: Vec<Finding>, strict: bool) -> Self {
        let worst_allowed = if strict { Status::Ok } else { Status::Warning };
        Self { ok: findings.iter().all(|finding| finding.status <= worst_allowed), findings }
    }

    /// How many findings are of `status`.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }
}

/// An error and its causes, each once, in one line.
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

/// The first of many, and how many more there are.
fn listed(items: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = items.get(..SHOWN).unwrap_or(items).join("; ");
    match items.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// `1 key`, `2 keys`.
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
