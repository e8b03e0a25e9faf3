use proptest::prelude::*;

use super::*;
use crate::audit::{AuditKey, ClosedEpoch};
use crate::values::secret::SecretBytes;

/// A stored row that tests tamper with.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    seq: i64,
    text: String,
    mac: Mac,
}

fn key() -> AuditKey {
    AuditKey::new(&SecretBytes::new(vec![7; 32]))
}

fn keys() -> AuditKeys {
    AuditKeys::new(key())
}

fn extend(key: &AuditKey, before: &Mac, seq: i64, text: &str) -> Mac {
    key.extend(before, &[Some(&seq.to_string()), Some(text)])
}

fn log(texts: &[String]) -> Vec<Stored> {
    let key = key();
    let mut before = key.beginning().mac;
    let rows = texts.iter().zip(1..).map(|(text, seq)| {
        before = extend(&key, &before, seq, text);
        Stored { seq, text: text.clone(), mac: before }
    });
    rows.collect()
}

fn verify_behind(base: &Anchor, rows: &[Stored], anchors: &[Anchor]) -> Report {
    verify_with(&keys(), base, rows, anchors)
}

fn verify_with(keys: &AuditKeys, base: &Anchor, rows: &[Stored], anchors: &[Anchor]) -> Report {
    let base = Some((*base, Some(keys.current().base_tag(base))));
    let mut verifier = Verifier::new(keys, base, anchors);
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.seq);
    for Stored { seq, text, mac } in &rows {
        let number = seq.to_string();
        let columns = [Some(number.as_str()), Some(text.as_str())];
        verifier.row(Row { seq: *seq, columns: Some(&columns), mac: Some(*mac) });
    }
    verifier.finish()
}

fn verify(rows: &[Stored], anchors: &[Anchor]) -> Vec<Finding> {
    verify_behind(&key().beginning(), rows, anchors).findings
}

fn anchor(row: &Stored) -> Anchor {
    Anchor { seq: row.seq, mac: row.mac }
}

fn texts() -> Vec<String> {
    (1..=9).map(|n| format!("event {n}")).collect()
}

#[test]
fn each_kind_of_tampering_is_found_at_its_row() {
    type Tamper = fn(&mut Vec<Stored>);
    let whole = log(&texts());
    let anchors = [anchor(&whole[2]), anchor(&whole[8])];
    let found = |seq, problem| vec![Finding { seq, problem }];
    let both = |one, other| [found(one, Problem::Changed), found(other, Problem::Changed)].concat();
    let table: [(&str, Tamper, Vec<Finding>); 11] = [
        ("nothing", |_| {}, vec![]),
        ("a changed row", |rows| rows[4].text = "other".into(), found(5, Problem::Changed)),
        ("a changed MAC", |rows| rows[4].mac = rows[0].mac, found(5, Problem::MacChanged)),
        (
            "a changed row and MAC",
            |rows| {
                rows[4].text = "other".into();
                rows[4].mac = rows[0].mac;
            },
            both(5, 6),
        ),
        ("a removed row", |rows| drop(rows.remove(4)), found(5, Problem::Missing { until: 5 })),
        ("removed rows", |rows| drop(rows.drain(3..6)), found(4, Problem::Missing { until: 6 })),
        ("a removed head", |rows| drop(rows.drain(..2)), found(1, Problem::Missing { until: 2 })),
        ("a cut tail", |rows| rows.truncate(6), found(9, Problem::CutOff { last: 6 })),
        (
            "a row before the beginning",
            |rows| rows.insert(0, Stored { seq: 0, ..rows[0].clone() }),
            found(0, Problem::BeforeBeginning),
        ),
        (
            "swapped texts",
            |rows| (rows[3].text, rows[5].text) = (rows[5].text.clone(), rows[3].text.clone()),
            both(4, 6),
        ),
        (
            "swapped rows that stand apart",
            |rows| {
                (rows[3].seq, rows[6].seq) = (7, 4);
            },
            [both(4, 5), both(7, 8)].concat(),
        ),
    ];
    for (what, tamper, expected) in table {
        let mut rows = whole.clone();
        tamper(&mut rows);
        assert_eq!(verify(&rows, &anchors), expected, "{what}");
    }
}

#[test]
fn a_removed_row_is_found_even_if_the_gap_was_closed() {
    let mut rows = log(&texts());
    rows.remove(4);
    rows.iter_mut().zip(1..).for_each(|(row, seq)| row.seq = seq);
    assert_eq!(verify(&rows, &[])[0], Finding { seq: 5, problem: Problem::Changed });
}

#[test]
fn a_log_that_was_cut_and_went_on_fits_by_itself_and_not_its_anchors() {
    let whole = log(&texts());
    let mut other = texts();
    other[6] = "something else".to_owned();
    let rewritten = log(&other);
    assert_eq!(verify(&rewritten, &[]), []);
    assert_eq!(verify(&rewritten, &[anchor(&whole[5])]), []);
    let found = verify(&rewritten, &[anchor(&whole[5]), anchor(&whole[7])]);
    assert_eq!(found, [Finding { seq: 8, problem: Problem::NotAnchored }]);
}

#[test]
fn a_pruned_log_is_whole_behind_its_base_and_says_which_anchors_it_cannot_judge() {
    let whole = log(&texts());
    let base = anchor(&whole[3]);
    let anchors = [anchor(&whole[1]), base, anchor(&whole[5])];
    let report = verify_behind(&base, &whole[4..], &anchors);
    assert_eq!((report.findings.as_slice(), report.rows), (&[][..], 5));
    assert_eq!((report.pruned_until, report.anchors_pruned, report.end), (4, 1, anchor(&whole[8])));
    let emptied = verify_behind(&anchor(&whole[8]), &[], &[anchor(&whole[8])]);
    assert_eq!((emptied.is_clean(), emptied.end), (true, anchor(&whole[8])));
}

#[test]
fn a_base_without_its_own_mac_is_found() {
    let keys = keys();
    let whole = log(&texts());
    let base = anchor(&whole[3]);
    for (base, seq) in [(None, 0), (Some((base, None)), 4), (Some((base, Some(base.mac))), 4)] {
        let report = Verifier::new(&keys, base, &[]).finish();
        assert_eq!(report.findings, [Finding { seq, problem: Problem::Base }]);
    }
}

#[test]
fn a_row_that_cannot_be_read_is_one_finding() {
    let (keys, whole) = (keys(), log(&texts()));
    let beginning = keys.current().beginning();
    let base = (beginning, Some(keys.current().base_tag(&beginning)));
    let mut verifier = Verifier::new(&keys, Some(base), &[]);
    for Stored { seq, text, mac } in &whole {
        let number = seq.to_string();
        let columns = [Some(number.as_str()), Some(text.as_str())];
        let readable = *seq != 4;
        verifier.row(Row { seq: *seq, columns: readable.then_some(&columns), mac: readable.then_some(*mac) });
    }
    assert_eq!(verifier.finish().findings, [Finding { seq: 4, problem: Problem::Changed }]);
}

#[test]
fn of_very_many_findings_the_first_are_listed_and_the_rest_counted() {
    let mut rows = log(&vec!["same".to_owned(); 1000]);
    rows.iter_mut().for_each(|row| row.text = "other".to_owned());
    let report = verify_behind(&key().beginning(), &rows, &[]);
    assert_eq!((report.findings.len(), report.more), (LISTED, 900));
    assert_eq!(report.findings[0].seq, 1);
}

/// Nine rows, the last four of which belong to a second epoch, and the keys of both epochs.
fn two_epochs() -> (AuditKeys, AuditKey, Anchor, Vec<Stored>) {
    let (old, new) = (key(), AuditKey::new(&SecretBytes::new(vec![8; 32])));
    let mut rows = log(&texts());
    let end = anchor(&rows[4]);
    rewrite(&mut rows[5..], &new, end.mac);
    let beginning = old.beginning();
    let closed = ClosedEpoch { epoch: 1, end, key: old };
    (AuditKeys::with_closed(new, vec![closed], Vec::new()), key(), beginning, rows)
}

/// Recomputes the MACs of `rows`, which follow `before`.
fn rewrite(rows: &mut [Stored], key: &AuditKey, mut before: Mac) {
    for row in rows {
        before = extend(key, &before, row.seq, &row.text);
        row.mac = before;
    }
}

#[test]
fn rows_and_anchors_of_an_earlier_epoch_verify_with_its_own_key() {
    let (keys, _, beginning, rows) = two_epochs();
    let anchors = [anchor(&rows[1]), anchor(&rows[4]), anchor(&rows[8])];
    let report = verify_with(&keys, &beginning, &rows, &anchors);
    assert_eq!((report.findings.as_slice(), report.rows), (&[][..], 9));
}

/// Each forgery has correct MACs under the key of the first epoch.
#[test]
fn a_change_made_with_an_earlier_epochs_key_is_found() {
    type Forge = fn(&mut Vec<Stored>, &AuditKey);
    let table: [(&str, Forge, Finding); 4] = [
        (
            "rewrites its own epoch",
            |rows, old| {
                rows[1].text = "other".into();
                let before = rows[0].mac;
                rewrite(&mut rows[1..5], old, before);
            },
            Finding { seq: 5, problem: Problem::NotAnchored },
        ),
        (
            "changes a row of the present epoch",
            |rows, old| {
                rows[6].text = "other".into();
                let before = rows[5].mac;
                rewrite(&mut rows[6..], old, before);
            },
            Finding { seq: 7, problem: Problem::Changed },
        ),
        (
            "adds a row at the end",
            |rows, old| {
                let last = rows[8].clone();
                rows.push(Stored { seq: 10, ..last.clone() });
                rewrite(&mut rows[9..], old, last.mac);
            },
            Finding { seq: 10, problem: Problem::Changed },
        ),
        (
            "cuts off the present epoch and goes on with the first",
            |rows, old| {
                let before = rows[4].mac;
                rewrite(&mut rows[5..], old, before);
            },
            Finding { seq: 6, problem: Problem::Changed },
        ),
    ];
    for (what, forge, first) in table {
        let (keys, old, beginning, mut rows) = two_epochs();
        forge(&mut rows, &old);
        let report = verify_with(&keys, &beginning, &rows, &[]);
        assert_eq!(report.findings.first(), Some(&first), "{what}: {:?}", report.findings);
    }
}

#[test]
fn a_changed_record_of_an_epoch_is_found() {
    let (keys, _, beginning, rows) = two_epochs();
    let broken = AuditKeys::with_closed(AuditKey::new(&SecretBytes::new(vec![8; 32])), Vec::new(), vec![1]);
    let report = verify_with(&broken, &beginning, &rows, &[]);
    assert!(report.findings.contains(&Finding { seq: 1, problem: Problem::Epoch }));
    assert!(verify_with(&keys, &beginning, &rows, &[]).is_clean());
}

/// One change that an attacker without the key can make to rows.
#[derive(Debug, Clone)]
enum Tampering {
    Change(prop::sample::Index, String),
    Swap(prop::sample::Index, prop::sample::Index),
    Remove(prop::sample::Index),
    CutTail(prop::sample::Index),
    CopyMac(prop::sample::Index, prop::sample::Index),
    Insert(prop::sample::Index, String),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    use Tampering::{Change, CopyMac, CutTail, Insert, Remove, Swap};
    let (index, text) = (any::<prop::sample::Index>, "[a-c]{0,3}");
    prop_oneof![
        (index(), text).prop_map(|(at, text)| Change(at, text)),
        (index(), index()).prop_map(|(one, other)| Swap(one, other)),
        index().prop_map(Remove),
        index().prop_map(CutTail),
        (index(), index()).prop_map(|(from, to)| CopyMac(from, to)),
        (index(), text).prop_map(|(at, text)| Insert(at, text)),
    ]
}

impl Tampering {
    fn apply(&self, rows: &mut Vec<Stored>) {
        let len = rows.len();
        match self {
            _ if len == 0 => {}
            Self::Change(at, text) => rows[at.index(len)].text.clone_from(text),
            Self::Swap(one, other) => {
                let (one, other) = (one.index(len), other.index(len));
                rows.swap(one, other);
                let seq = rows[one].seq;
                rows[one].seq = rows[other].seq;
                rows[other].seq = seq;
            }
            Self::Remove(at) => drop(rows.remove(at.index(len))),
            Self::CutTail(at) => rows.truncate(at.index(len)),
            Self::CopyMac(from, to) => rows[to.index(len)].mac = rows[from.index(len)].mac,
            Self::Insert(at, text) => {
                let at = at.index(len);
                let row = Stored { text: text.clone(), ..rows[at].clone() };
                rows.insert(at, row);
                for row in &mut rows[at + 1..] {
                    row.seq += 1;
                }
            }
        }
    }
}

proptest! {
    /// With an anchor of its end, a log is clean exactly if it is unchanged, and the first finding is never
    /// after the first difference.
    #[test]
    fn any_change_without_the_key_is_found(
        texts in proptest::collection::vec("[a-c]{0,3}", 1..12),
        tamperings in proptest::collection::vec(tampering(), 0..4),
    ) {
        let whole = log(&texts);
        let mut rows = whole.clone();
        for tampering in &tamperings {
            tampering.apply(&mut rows);
        }
        rows.sort_by_key(|row| row.seq);
        let found = verify(&rows, &[anchor(whole.last().unwrap())]);
        prop_assert_eq!(found.is_empty(), rows == whole);
        let same = rows.iter().zip(&whole).take_while(|(one, other)| one == other).count();
        if let Some(first) = found.first() {
            let is_at_the_end = matches!(first.problem, Problem::CutOff { .. });
            prop_assert!(is_at_the_end || first.seq <= same as i64 + 1, "{:?} beyond {}", first, same);
            prop_assert!(first.seq > same as i64, "{:?} within the first {}", first, same);
        }
    }
}
