//! Verification of a log: reads it row by row, and finds changes made since it was written.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::chain::{Anchor, Mac};
use super::epochs::AuditKeys;

/// The maximum number of findings listed; more are only counted. In a log of millions of rows, one broken
/// link can be followed by as many others.
const LISTED: usize = 100;

/// A stored row.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The sequence number.
    pub seq: i64,
    /// Every column except the MAC, as [`AuditKey::extend`](super::AuditKey::extend) takes them; `None` if
    /// one has a value that carnet never writes.
    pub columns: Option<&'a [Option<&'a str>]>,
    /// The MAC; `None` if the column has a value that carnet never writes.
    pub mac: Option<Mac>,
}

/// A problem and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The sequence number of the row. For missing rows, the first of them; for the base row, the row that it
    /// names as the last pruned one; for an epoch's record, the number of the epoch; for the indexes, the last row.
    pub seq: i64,
    /// The problem.
    pub problem: Problem,
}

/// A problem with a row or a record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// The base row, which says where the log begins, is missing or was changed.
    Base,
    /// Rows are missing. The row after them cannot be checked either.
    Missing {
        /// The last missing row.
        until: i64,
    },
    /// A row is present before the beginning of the log.
    BeforeBeginning,
    /// The row was changed, inserted, or moved here from elsewhere.
    Changed,
    /// The row's columns are unchanged, but its MAC was changed.
    MacChanged,
    /// The log ends before this row, which an anchor names.
    CutOff {
        /// The last row present.
        last: i64,
    },
    /// The row is not the one that an anchor names: the log was rewritten from some row before it.
    NotAnchored,
    /// The record of an earlier epoch's end and key was changed. `seq` is the epoch's number.
    Epoch,
    /// Searches by time can miss this row: the record of how far times go back was changed.
    Hidden,
    /// An index of the log does not have its rows. `seq` is the last row.
    Indexes,
}

impl Problem {
    /// The name in machine-readable output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Missing { .. } => "missing",
            Self::BeforeBeginning => "before-beginning",
            Self::Changed => "changed",
            Self::MacChanged => "mac-changed",
            Self::CutOff { .. } => "cut-off",
            Self::NotAnchored => "not-anchored",
            Self::Epoch => "epoch",
            Self::Hidden => "hidden",
            Self::Indexes => "indexes",
        }
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seq = self.seq;
        match self.problem {
            Problem::Base => write!(
                f,
                "the audit_base row, which records row {seq} as the last one pruned, is missing or was \
                 changed"
            ),
            Problem::Missing { until } if until == seq => {
                write!(f, "row {seq} is missing; row {} cannot be checked without it", until + 1)
            }
            Problem::Missing { until } => {
                write!(
                    f,
                    "rows {seq} to {until} are missing; row {} cannot be checked without them",
                    until + 1
                )
            }
            Problem::BeforeBeginning => write!(f, "row {seq} comes before the beginning of the log"),
            Problem::Changed => write!(f, "row {seq} was changed, inserted, or moved there from elsewhere"),
            Problem::MacChanged => write!(f, "row {seq} is unchanged, but its MAC was changed"),
            Problem::CutOff { last } => {
                write!(f, "an anchor names row {seq}, but the log ends with row {last}: its end was cut off")
            }
            Problem::NotAnchored => write!(
                f,
                "row {seq} is not the one that the anchor names: the log was written again from somewhere before it"
            ),
            Problem::Epoch => write!(
                f,
                "the audit_epochs row that records the end of epoch {seq} was changed: rows of that epoch \
                 cannot be checked"
            ),
            Problem::Hidden => {
                write!(f, "the audit_times row was changed: searches by time can miss row {seq} and others")
            }
            Problem::Indexes => write!(
                f,
                "the indexes of the log do not have all of its rows up to {seq}: a filter of `audit list` may not show all of them"
            ),
        }
    }
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The number of rows read.
    pub rows: u64,
    /// The last pruned row; 0 if none was pruned.
    pub pruned_until: i64,
    /// The last row; the base if there is no row.
    #[serde(serialize_with = "as_text")]
    pub end: Anchor,
    /// The problems, in the order of rows. At most the first 100 are listed.
    pub findings: Vec<Finding>,
    /// The number of further problems.
    pub more: u64,
    /// The number of anchors that name pruned rows, which can no longer be checked.
    pub anchors_pruned: usize,
}

fn as_text<S: Serializer>(anchor: &Anchor, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(anchor)
}

impl Report {
    /// Adds the finding that the indexes of the log do not agree with its rows.
    pub fn add_index_problem(&mut self) {
        self.findings.push(Finding { seq: self.end.seq, problem: Problem::Indexes });
    }

    /// Returns whether there are no findings.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies a log. Takes its rows in order.
#[derive(Debug)]
pub struct Verifier<'a> {
    keys: &'a AuditKeys,
    /// The anchors of rows not reached yet, by row.
    anchors: BTreeMap<i64, Vec<Mac>>,
    before: Before,
    report: Report,
}

/// The row that the next row must follow.
#[derive(Debug, Clone, Copy)]
struct Before {
    seq: i64,
    /// The MAC stored in the row; `None` if it cannot be read.
    stored: Option<Mac>,
    /// The MAC that the row should have, if the stored one does not match.
    computed: Option<Mac>,
}

impl<'a> Verifier<'a> {
    /// Starts the verification of a log that begins after `base`; `None` if the database has no base row.
    ///
    /// `anchors` are those kept elsewhere.
    #[must_use]
    pub fn new(keys: &'a AuditKeys, base: Option<(Anchor, Option<Mac>)>, anchors: &[Anchor]) -> Self {
        let key = keys.current();
        let mut by_row = BTreeMap::<i64, Vec<Mac>>::new();
        for anchor in anchors {
            by_row.entry(anchor.seq).or_default().push(anchor.mac);
        }
        let (start, tag) = base.unwrap_or((key.beginning(), None));
        // The current epoch commits to the ends of the epochs before it.
        for closed in keys.closed().iter().filter(|closed| closed.end.seq > start.seq) {
            by_row.entry(closed.end.seq).or_default().push(closed.end.mac);
        }
        let report = Report {
            rows: 0,
            pruned_until: start.seq,
            end: start,
            findings: Vec::new(),
            more: 0,
            anchors_pruned: 0,
        };
        let before = Before { seq: start.seq, stored: Some(start.mac), computed: None };
        let mut verifier = Self { keys, anchors: by_row, before, report };
        if !tag.is_some_and(|tag| key.is_base(&start, &tag)) {
            verifier.find(start.seq, Problem::Base);
        }
        for epoch in keys.broken() {
            verifier.find(*epoch, Problem::Epoch);
        }
        verifier.meet(start.seq, Some(start.mac));
        while let Some(entry) = verifier.anchors.first_entry().filter(|entry| *entry.key() < start.seq) {
            verifier.report.anchors_pruned += entry.remove().len();
        }
        verifier
    }

    /// Checks the next row.
    pub fn row(&mut self, row: Row<'_>) {
        let Row { seq, columns, mac } = row;
        self.report.rows += 1;
        if seq <= self.before.seq {
            self.find(seq, Problem::BeforeBeginning);
            return;
        }
        let next = self.before.seq + 1;
        if seq > next {
            self.find(next, Problem::Missing { until: seq - 1 });
            // The finding already covers the anchors in the gap.
            self.anchors.retain(|anchored, _| !(next..seq).contains(anchored));
            self.before = Before { seq, stored: mac, computed: None };
        } else {
            self.check(seq, columns, mac);
        }
        self.meet(seq, mac);
        if let Some(mac) = mac {
            self.report.end = Anchor { seq, mac };
        }
    }

    fn check(&mut self, seq: i64, columns: Option<&[Option<&str>]>, mac: Option<Mac>) {
        let Before { stored, computed, .. } = self.before;
        self.before = Before { seq, stored: mac, computed: None };
        let Some(columns) = columns else {
            self.find(seq, Problem::Changed);
            return;
        };
        let key = self.keys.of_row(seq);
        let follows = |before: Option<Mac>| {
            before.zip(mac).is_some_and(|(before, mac)| key.follows(&before, columns, &mac))
        };
        if follows(stored) {
            return;
        }
        // This row follows from the previous row's columns as they are: of the previous row, only the MAC was
        // changed.
        if follows(computed) {
            if let Some(last) = self.report.findings.last_mut()
                && *last == (Finding { seq: seq - 1, problem: Problem::Changed })
            {
                last.problem = Problem::MacChanged;
            }
            return;
        }
        if stored.is_none() && computed.is_none() {
            // The previous row could not be read, so this row cannot be checked against it.
            return;
        }
        self.before.computed = stored.map(|stored| key.extend(&stored, columns));
        self.find(seq, Problem::Changed);
    }

    /// Reports that searches by time can miss `row`. Changed rows explain that already.
    pub fn hidden(&mut self, row: i64) {
        if self.report.is_clean() {
            self.find(row, Problem::Hidden);
        }
    }

    /// The report on the beginning of a log, when its other rows are not read. Ignores anchors of later rows.
    #[must_use]
    pub fn finish_part(mut self) -> Report {
        self.anchors.clear();
        self.finish()
    }

    /// The report, once all rows have been passed.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let last = self.before.seq;
        while let Some((seq, _)) = self.anchors.pop_first() {
            self.find(seq, Problem::CutOff { last });
        }
        self.report
    }

    fn meet(&mut self, seq: i64, mac: Option<Mac>) {
        let Some(anchored) = self.anchors.remove(&seq) else { return };
        if anchored.iter().any(|anchored| Some(*anchored) != mac) {
            self.find(seq, Problem::NotAnchored);
        }
    }

    fn find(&mut self, seq: i64, problem: Problem) {
        if self.report.findings.len() < LISTED {
            self.report.findings.push(Finding { seq, problem });
        } else {
            self.report.more += 1;
        }
    }
}

#[cfg(test)]
mod tests;
