//! Filling a database through carnet's own code: every row of the audit log has its true MAC.

use carnet::internals::Parts as _;
use carnet::internals::audit::{Event, EventKind, Outcome as Became};
use carnet::internals::carnet::{Carnet, Config, MasterKeySource};
use carnet::internals::feed::aws::AssumedRole;
use carnet::internals::feed::{Feed, FeedDraft, Provider};
use carnet::internals::store::Trusted;
use carnet::internals::values::actor::Actor;
use carnet::internals::values::clock::{Clock as _, SystemClock};
use carnet::internals::values::random::{SecureRandom, uuid};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::support::carnet::Carnet as Installation;
use crate::world::ROLE;

/// The number of feeds that share each space.
const FEEDS_OF_A_SPACE: usize = 1000;

/// One feed in this many is at [`POPULAR`]; every other feed has a registry of its own.
const POPULAR_SHARE: usize = 10;

/// The registry that many feeds have.
pub(crate) const POPULAR: &str = "210987654321.dkr.ecr.eu-central-1.amazonaws.com";

/// The number of rows that one transaction writes.
const BATCH: usize = 5000;

/// The amount of data in a database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) feeds: usize,
    pub(crate) rows: usize,
    /// Different actors of the rows.
    pub(crate) actors: usize,
}

/// Values that occur in the filled log, for its filters.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) space: String,
    pub(crate) feed: String,
    pub(crate) grant: Uuid,
    pub(crate) jti: Uuid,
    pub(crate) middle: Timestamp,
}

/// Fills the database of `installation`, on which no server runs.
pub(crate) async fn fill(installation: &Installation, size: Size) -> Known {
    let database = installation.database().into();
    let config = Config::new(database, MasterKeySource::Folder(installation.keys_dir()));
    let carnet = Carnet::open(config).await.expect("the database opens");
    let feeds: Vec<Feed> = (0..size.feeds).map(|number| feed(size, number)).collect();
    let store = carnet.store();
    for some in feeds.chunks(BATCH) {
        let mut write = store.write().await.expect("nobody else writes");
        for feed in some {
            write.insert_feed(feed).await.expect("a feed is written");
        }
        write.commit().await.expect("feeds are committed");
    }
    let known = fill_log(store, &feeds, size).await;
    store.close().await;
    known
}

async fn fill_log(store: &Trusted, feeds: &[Feed], size: Size) -> Known {
    let random = SecureRandom::default();
    let actors: Vec<Uuid> = (0..size.actors).map(|_| uuid(&random).expect("randomness")).collect();
    // Some batches even of the smaller log, so that a time lies between two of them.
    let batch = BATCH.min(size.rows / 20);
    let (clock, mut at) = (SystemClock::new(), Timestamp::UNIX_EPOCH);
    let (mut jti, mut middle) = (Uuid::nil(), None);
    for from in (0..size.rows).step_by(batch) {
        at = clock.now().max(at + SignedDuration::from_millis(1));
        if from >= size.rows / 2 && middle.is_none() {
            middle = Some(at);
        }
        let events: Vec<Event> = (from..size.rows.min(from + batch))
            .map(|row| {
                // A token's minting, a failed exchange or none, and a credential follow each other.
                if row.is_multiple_of(3) {
                    jti = uuid(&random).expect("randomness");
                }
                event(row, &feeds[row / 3 % feeds.len()], actors[row / 3 % actors.len()], jti)
            })
            .collect();
        let mut write = store.write().await.expect("nobody else writes");
        write.append_audit(at, &events).await.expect("rows are appended");
        write.commit().await.expect("rows are committed");
    }
    let feed = &feeds[0];
    Known {
        space: feed.space.to_string(),
        feed: feed.slug.to_string(),
        grant: actors[0],
        jti,
        middle: middle.expect("there are rows"),
    }
}

fn event(row: usize, feed: &Feed, actor: Uuid, jti: Uuid) -> Event {
    let (kind, outcome) = match row % 20 {
        7 => (EventKind::Exchange, Became::Failed),
        13 => (EventKind::Request, Became::Refused),
        _ if row.is_multiple_of(3) => (EventKind::TokenMint, Became::Done),
        _ => (EventKind::Credential, Became::Done),
    };
    let event = Event::new(kind, outcome, &Actor::grant(actor)).about_feed(feed);
    let event = if outcome == Became::Refused { event } else { event.with_jti(jti) };
    event.detail("cache, expires at 2026-03-01T13:00:00Z").in_request(&format!("{row:016x}"))
}

fn feed(size: Size, number: usize) -> Feed {
    let space = number / FEEDS_OF_A_SPACE.min(size.feeds / 2);
    let registry = match number % POPULAR_SHARE {
        9 => POPULAR.to_owned(),
        _ => format!("{}.dkr.ecr.eu-central-1.amazonaws.com", 300_000_000_000_usize + number),
    };
    let draft = FeedDraft::new(
        format!("team-{space}/feed-{number}").parse().expect("a path"),
        registry.parse().expect("a registry"),
        Provider::AwsEcr(AssumedRole::new(ROLE.parse().expect("a role"))),
    );
    let random = SecureRandom::default();
    let id = uuid(&random).expect("randomness");
    Feed::new(draft, id, std::time::Duration::MAX, SystemClock::new().now()).expect("a feed")
}
