use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::jose::Algorithm;
use crate::jose::jwk::PublicKey;
use crate::oidc::metadata::{Document, Documents};
use crate::publish::target::Label;
use crate::publish::target::TargetFuture;
use crate::store::sealed::RowMac;
use crate::values::secret::SecretBytes;

const ISSUER: &str = "https://issuer.example";
const TARGET: &str = "s3://bucket";

fn mac(database: u8) -> RowMac {
    RowMac::new(&SecretBytes::new(vec![database; 32]))
}

fn generation(keys: i64) -> Generation {
    Generation { keys, pruned: 0 }
}

/// The state `keys` of `issuer`; each state has a JWKS and a discovery document of its own.
fn edition_of(issuer: &str, keys: u8) -> Edition {
    let url: IssuerUrl = issuer.parse().unwrap();
    let key = PublicKey::P256 { x: [keys; 32], y: [1; 32] };
    let algorithms = &Algorithm::ALL[..usize::from(keys) % 2 + 1];
    let documents = Documents::new(&url, [&key], algorithms, Duration::from_secs(300)).unwrap();
    Edition::new(url, generation(keys.into()), Arc::new(documents), vec![key.thumbprint()], mac(1))
}

fn edition(keys: u8) -> Edition {
    edition_of(ISSUER, keys)
}

/// A document stored at the target.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    body: Bytes,
    label: Option<Label>,
    headers_fit: bool,
    version: usize,
}

/// A target in memory. Every call yields once before it acts.
#[derive(Debug)]
struct Memory {
    url: TargetUrl,
    standing: Mutex<BTreeMap<DocumentName, Standing>>,
    writes: Mutex<Vec<DocumentName>>,
    /// The number of writes that will be refused, as if another writer had come first without changing
    /// anything.
    races: Mutex<usize>,
}

impl Memory {
    fn new() -> Self {
        Self {
            url: TARGET.parse().unwrap(),
            standing: Mutex::default(),
            writes: Mutex::default(),
            races: Mutex::new(0),
        }
    }

    fn showing(edition: &Edition) -> Self {
        let memory = Self::new();
        for name in DocumentName::ALL {
            memory.put(
                name,
                &edition.document(name).body,
                Some(&edition.label_at(&memory.url, name, None)),
                true,
            );
        }
        memory
    }

    fn put(&self, name: DocumentName, body: &Bytes, label: Option<&Label>, headers_fit: bool) {
        let mut standing = self.standing.lock().unwrap();
        let version = standing.get(&name).map_or(1, |standing| standing.version + 1);
        let new = Standing { body: body.clone(), label: label.cloned(), headers_fit, version };
        standing.insert(name, new);
    }

    fn get(&self, name: DocumentName) -> Option<Standing> {
        self.standing.lock().unwrap().get(&name).cloned()
    }

    fn generation(&self, name: DocumentName) -> Option<Generation> {
        Some(self.get(name)?.label?.generation)
    }

    fn writes(&self) -> Vec<DocumentName> {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }

    #[track_caller]
    fn assert_shows(&self, edition: &Edition) {
        for name in DocumentName::ALL {
            let standing = self.get(name).unwrap();
            assert_eq!(standing.body, edition.document(name).body, "{name}");
            assert_eq!(standing.label, Some(edition.label_at(&self.url, name, None)), "{name}");
        }
    }
}

impl Target for Memory {
    fn url(&self) -> &TargetUrl {
        &self.url
    }

    fn read<'a>(&'a self, name: DocumentName, _: &'a Document) -> TargetFuture<'a, Option<Stored>> {
        Box::pin(async move {
            turn().await;
            Ok(self.get(name).map(|standing| Stored {
                version: version(standing.version),
                body: standing.body,
                label: standing.label,
                headers_fit: standing.headers_fit,
            }))
        })
    }

    fn write<'a>(
        &'a self,
        name: DocumentName,
        document: &'a Document,
        label: &'a Label,
        over: Option<&'a Version>,
    ) -> TargetFuture<'a, ()> {
        Box::pin(async move {
            turn().await;
            let mut races = self.races.lock().unwrap();
            if *races > 0 {
                *races -= 1;
                return Err(TargetError::Changed(name));
            }
            if self.get(name).map(|standing| version(standing.version)).as_ref() != over {
                return Err(TargetError::Changed(name));
            }
            self.put(name, &document.body, Some(label), true);
            self.writes.lock().unwrap().push(name);
            Ok(())
        })
    }
}

fn version(number: usize) -> Version {
    Version { e_tag: None, version: Some(number.to_string()) }
}

/// Yields once, so that a test can decide which task continues.
async fn turn() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Polls `work` to its end. It never waits for anything except its turn.
fn run<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return done;
        }
    }
}

/// Returns the edition with `state` in its labels.
fn at_state(keys: u8, state: Option<i64>) -> Edition {
    let mut edition = edition(keys);
    edition.label.state = state.map(|n| format!("{n}:{}", "A".repeat(43)));
    edition
}

#[test]
fn a_later_state_renews_the_label_of_the_jwks_and_an_earlier_or_unproved_one_leaves_it() {
    for (there, here, is_renewed) in [
        (None, Some(3), true),
        (Some(3), Some(4), true),
        (Some(9), Some(10), true),
        (Some(4), Some(4), false),
        (Some(4), Some(3), false),
        (Some(4), None, false),
    ] {
        let target = Memory::showing(&at_state(1, there));
        let before = target.get(DocumentName::Jwks).unwrap();
        let edition = at_state(1, here);
        let done = published(&target, &edition, Mode::First).unwrap();
        assert_eq!(done, Published::default(), "{there:?} {here:?}");
        let after = target.get(DocumentName::Jwks).unwrap();
        assert_eq!(after.body, before.body);
        let written = if is_renewed { vec![DocumentName::Jwks] } else { Vec::new() };
        assert_eq!(target.writes(), written, "{there:?} {here:?}");
        let expected = if is_renewed { edition.label.state } else { at_state(1, there).label.state };
        assert_eq!(after.label.unwrap().state, expected, "{there:?} {here:?}");
    }
}

#[test]
fn new_documents_without_a_proved_state_keep_the_state_of_the_label_there_unless_taken_over() {
    for (mode, kept) in [(Mode::Update, at_state(1, Some(4)).label.state), (Mode::TakeOver, None)] {
        let target = Memory::showing(&at_state(1, Some(4)));
        published(&target, &at_state(2, None), mode).unwrap();
        let label = target.get(DocumentName::Jwks).unwrap().label.unwrap();
        assert_eq!(label.state, kept, "{mode:?}");
        assert!(label.is_authentic(
            &mac(1),
            &target.url,
            DocumentName::Jwks,
            &edition(2).documents.jwks.body
        ));
    }
    // A take-over removes a later state, also if the text stays.
    let target = Memory::showing(&at_state(1, Some(9)));
    published(&target, &at_state(1, Some(4)), Mode::TakeOver).unwrap();
    target.assert_shows(&at_state(1, Some(4)));
}

fn published(target: &Memory, edition: &Edition, mode: Mode) -> Result<Published, PublishError> {
    run(publish(target, edition, mode))
}

/// Returns a label of `issuer` for this text, signed with the MAC key of `database`.
fn signed(database: u8, issuer: &str, keys: i64, target: &str, name: DocumentName, body: &Bytes) -> Label {
    let label =
        Label { issuer: issuer.parse().unwrap(), generation: generation(keys), state: None, mac: None };
    label.signed(&mac(database), &target.parse().unwrap(), name, body)
}

#[test]
fn the_present_document_and_the_mode_decide_about_the_write() {
    use DocumentName::{Discovery, Jwks};
    const OTHER: &str = "https://other.example";
    let ours = edition(5);
    let jwks = &ours.documents.jwks.body;
    let (text, empty) = (Bytes::from_static(b"{}"), Bytes::new());
    let label = |body: &Bytes, keys| Some(signed(1, ISSUER, keys, TARGET, Jwks, body));
    let of_other = |body: &Bytes, keys| Some(signed(2, OTHER, keys, TARGET, Jwks, body));
    let forged = |body: &Bytes, keys| Some(signed(2, ISSUER, keys, TARGET, Jwks, body));
    let without_mac =
        |keys| Some(Label { mac: None, ..signed(1, ISSUER, keys, TARGET, Jwks, &Bytes::new()) });
    let (leave, write) = ("leave", "write");
    let (newer, theirs, unlabelled, unauthentic) = ("newer", "other issuer", "unlabelled", "unauthentic");

    // The columns: stored body, its label, whether its headers fit, and the outcome in each of the three
    // modes.
    let table = [
        (jwks, label(jwks, 5), true, [leave, leave, leave]),
        (jwks, label(jwks, 5), false, [write, write, write]),
        (&text, label(&text, 5), true, [write, write, write]),
        (&text, label(&text, 4), true, [write, write, write]),
        (jwks, label(jwks, 4), true, [write, write, write]),
        (&text, label(&text, 6), true, [newer, newer, write]),
        (jwks, label(jwks, 6), true, [newer, newer, write]),
        (jwks, None, true, [write, write, write]),
        (jwks, None, false, [write, write, write]),
        (&text, None, true, [unlabelled, write, write]),
        (&text, of_other(&text, 1), true, [theirs, write, write]),
        (&text, of_other(&text, 5), true, [theirs, write, write]),
        (&text, of_other(&text, 9), true, [theirs, write, write]),
        (jwks, of_other(jwks, 5), true, [theirs, write, write]),
        // Labels that look like ours.
        (&text, forged(&text, 999_999), true, [unauthentic, write, write]),
        (&text, without_mac(999_999), true, [unauthentic, write, write]),
        (jwks, without_mac(999_999), true, [write, write, write]),
        // Authentic, but for another text, target, document or issuer.
        (&text, label(&empty, 999_999), true, [unauthentic, write, write]),
        (&text, Some(signed(1, ISSUER, 9, "s3://bucket/a", Jwks, &text)), true, [unauthentic, write, write]),
        (&text, Some(signed(1, ISSUER, 9, TARGET, Discovery, &text)), true, [unauthentic, write, write]),
        (&text, Some(signed(1, OTHER, 9, TARGET, Jwks, &text)), true, [theirs, write, write]),
    ];
    for (row, (body, label, headers_fit, expected)) in table.into_iter().enumerate() {
        let stored = Stored { body: body.clone(), label, version: version(7), headers_fit };
        for (mode, expected) in [Mode::First, Mode::Update, Mode::TakeOver].into_iter().zip(expected) {
            let step = match decide(Some(&stored), &ours, &TARGET.parse().unwrap(), Jwks, mode) {
                Ok(Step::Relabel { .. }) => panic!("without states"),
                Ok(Step::Leave) => leave,
                Ok(Step::Write { over }) => {
                    assert_eq!(over, Some(&stored.version), "row {row}");
                    write
                }
                Err(Conflict::Newer { document, there, ours }) => {
                    assert_eq!((document, there, ours), (Jwks, generation(6), generation(5)));
                    newer
                }
                Err(Conflict::OtherIssuer { document, issuer }) => {
                    assert_eq!((document, issuer.as_str()), (Jwks, OTHER));
                    theirs
                }
                Err(Conflict::Unauthentic(document)) => {
                    assert_eq!(document, Jwks);
                    unauthentic
                }
                Err(Conflict::Unlabelled(document)) => {
                    assert_eq!(document, Jwks);
                    unlabelled
                }
            };
            assert_eq!(step, expected, "row {row}, {mode:?}");
        }
    }
    for mode in [Mode::First, Mode::Update, Mode::TakeOver] {
        assert_eq!(decide(None, &ours, &TARGET.parse().unwrap(), Jwks, mode), Ok(Step::Write { over: None }));
    }
}

#[test]
fn a_label_covers_its_state() {
    let target = TARGET.parse().unwrap();
    let body = Bytes::from_static(b"{}");
    let label = Label { state: Some("7:head".to_owned()), ..edition(1).label };
    let label = label.signed(&mac(1), &target, DocumentName::Jwks, &body);
    assert!(label.is_authentic(&mac(1), &target, DocumentName::Jwks, &body));
    for state in [None, Some("8:head".to_owned())] {
        let changed = Label { state, ..label.clone() };
        assert!(!changed.is_authentic(&mac(1), &target, DocumentName::Jwks, &body));
    }
}

#[test]
fn the_jwks_is_written_before_the_discovery_document_and_a_second_time_nothing_is() {
    let (target, edition) = (Memory::new(), edition(1));
    let first = published(&target, &edition, Mode::First).unwrap();
    assert_eq!(target.writes(), [DocumentName::Jwks, DocumentName::Discovery]);
    assert_eq!(first.written, [DocumentName::Jwks, DocumentName::Discovery]);
    assert!(first.replaced_jwks.is_none() && first.foreign.is_empty());
    target.assert_shows(&edition);

    assert_eq!(published(&target, &edition, Mode::First), Ok(Published::default()));
    assert_eq!(target.writes(), []);
}

#[test]
fn an_older_state_is_replaced_and_reported_and_a_newer_one_never() {
    let target = Memory::showing(&edition(4));
    let done = published(&target, &edition(5), Mode::First).unwrap();
    assert_eq!(done.replaced_jwks.unwrap().label.unwrap().generation, generation(4));
    assert_eq!(done.foreign, []);
    target.writes();

    for mode in [Mode::First, Mode::Update] {
        let error = published(&target, &edition(4), mode).unwrap_err();
        assert!(matches!(error, PublishError::Conflict(Conflict::Newer { .. })), "{error}");
        assert_eq!(target.writes(), []);
        target.assert_shows(&edition(5));
    }
}

#[test]
fn a_foreign_document_in_place_of_a_registered_copy_is_replaced_and_reported() {
    let ours = edition(5);
    let forgery = Bytes::from_static(b"{\"keys\":[]}");
    let named = |issuer| signed(2, issuer, 999_999, TARGET, DocumentName::Jwks, &forgery);
    for label in [None, Some(named(ISSUER)), Some(named("https://other.example"))] {
        let target = Memory::showing(&ours);
        target.put(DocumentName::Jwks, &forgery, label.as_ref(), true);
        let done = published(&target, &ours, Mode::Update).unwrap();
        let foreign = Foreign { name: DocumentName::Jwks, sha256: sha256(&forgery) };
        assert_eq!((done.written, done.foreign), (vec![DocumentName::Jwks], vec![foreign]));
        assert_eq!(done.replaced_jwks.unwrap().body, forgery);
        target.assert_shows(&ours);
    }
}

#[test]
fn another_issuers_documents_are_taken_over_only_if_no_key_waits_for_the_target() {
    let theirs = edition_of("https://other.example", 9);
    let target = Memory::showing(&theirs);
    let error = published(&target, &edition(5), Mode::First).unwrap_err();
    assert!(matches!(error, PublishError::Conflict(Conflict::OtherIssuer { .. })), "{error}");
    target.assert_shows(&theirs);
    published(&target, &edition(5), Mode::TakeOver).unwrap();
    target.assert_shows(&edition(5));
}

#[test]
fn a_race_is_retried_a_limited_number_of_times() {
    let target = Memory::new();
    *target.races.lock().unwrap() = ATTEMPTS - 1;
    published(&target, &edition(1), Mode::First).unwrap();
    target.assert_shows(&edition(1));

    *target.races.lock().unwrap() = ATTEMPTS;
    let error = published(&target, &edition(2), Mode::First).unwrap_err();
    assert_eq!(error, PublishError::Target(TargetError::Changed(DocumentName::Jwks)));
    assert_eq!(target.writes(), [DocumentName::Jwks, DocumentName::Discovery]);
}

/// Tests every interleaving of two publishers, with and without an earlier state at the target: the newer
/// state always wins.
#[test]
fn two_states_published_at_once_end_with_the_newer_one_in_every_order() {
    /// The number of turns that both need together without a conflict, and some more.
    const TURNS: u32 = 12;
    let (before, older, newer) = (edition(3), edition(4), edition(5));
    for schedule in 0..2_u32.pow(TURNS) {
        for target in [Memory::new(), Memory::showing(&before)] {
            let mut publishers = [&older, &newer]
                .map(|edition| Some(publish(&target, edition, Mode::First)))
                .map(|publisher| publisher.map(Box::pin));
            let mut outcomes = [None, None];
            let mut turns =
                (0..TURNS).map(|turn| usize::from(schedule >> turn & 1 == 1)).chain((0..2).cycle());
            while outcomes.iter().any(Option::is_none) {
                let who = turns.next().unwrap();
                let Some(publisher) = &mut publishers[who] else { continue };
                let polled = publisher.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(outcome) = polled {
                    outcomes[who] = Some(outcome);
                    publishers[who] = None;
                }
                // The discovery document is never newer than the JWKS.
                let [jwks, discovery] = DocumentName::ALL.map(|name| target.generation(name));
                assert!(jwks >= discovery, "{schedule:b}: {jwks:?} {discovery:?}");
            }
            let [of_older, of_newer] = outcomes.map(Option::unwrap);
            of_newer.unwrap_or_else(|error| panic!("{schedule:b}: {error}"));
            if let Err(error) = of_older {
                assert!(
                    matches!(error, PublishError::Conflict(Conflict::Newer { .. })),
                    "{schedule:b}: {error}"
                );
            }
            target.assert_shows(&newer);
        }
    }
}
