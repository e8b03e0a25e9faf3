//! Counting of refusals, so that a flood of refused requests does not flood the log.
//!
//! Refusals without a valid grant are counted by network and reason. Refusals of a grant are counted by
//! grant, route and reason: the first one in a minute is recorded as it is, the others as one row with their
//! number. So each caller can cause only a bounded number of rows a minute. Only refusals are counted here.

use std::collections::HashMap;
use std::net::IpAddr;

use uuid::Uuid;

use crate::audit::Event;
use crate::values::network::network;
use crate::values::slug::Slug;

/// The maximum number of combinations of network and reason until the counts are taken. Beyond that, refusals
/// are counted by reason alone.
const MAX_KINDS: usize = 256;
/// The maximum number of kinds of one grant. Further refusals are counted together as one more kind.
const MAX_KINDS_OF_GRANT: usize = 64;
/// The maximum number of kinds of all grants. Beyond that, each new grant gets one kind.
const MAX_KINDS_OF_GRANTS: usize = 8192;

/// The detail of rows that count several kinds together.
const VARIOUS: &str = "various requests and reasons";

/// The refusals since the counts were last taken.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    anonymous: HashMap<(Option<IpAddr>, &'static str), u64>,
    granted: HashMap<Kind, Counted>,
    /// The number of kinds of each grant.
    kinds: HashMap<Uuid, usize>,
}

/// The refusals that are counted together: those of one grant, route, reason and space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    grant: Uuid,
    what: String,
    space: Option<Slug>,
}

/// The count of a kind.
#[derive(Debug)]
pub(super) struct Counted {
    /// The members that all of the refusals have in common.
    pub(super) event: Event,
    /// The number of refusals after the first one.
    pub(super) more: u64,
}

impl Refusals {
    /// Counts a refusal without a valid grant. Returns whether it is the first of its kind.
    pub(super) fn count(&mut self, client: IpAddr, reason: &'static str) -> bool {
        self.add(Some(network(client)), reason, 1)
    }

    /// Adds a count back that could not be written.
    pub(super) fn put_back(&mut self, client: Option<IpAddr>, reason: &'static str, count: u64) {
        self.add(client, reason, count);
    }

    fn add(&mut self, client: Option<IpAddr>, reason: &'static str, count: u64) -> bool {
        let known = self.anonymous.contains_key(&(client, reason));
        // There are few reasons, because they are constants in the source.
        let client = client.filter(|_| known || self.anonymous.len() < MAX_KINDS);
        let counted = self.anonymous.entry((client, reason)).or_default();
        let is_first = *counted == 0;
        *counted = counted.saturating_add(count);
        is_first
    }

    /// Counts a refusal of `grant`. Returns it for recording if it is the first of its kind.
    pub(super) fn count_granted(&mut self, grant: Uuid, event: Event) -> Option<Event> {
        let what = event.detail.clone().unwrap_or_default();
        let mut kind = Kind { grant, what, space: event.space.clone() };
        if !self.granted.contains_key(&kind) {
            let of_grant = self.kinds.get(&grant).copied().unwrap_or_default();
            let has_room = of_grant < MAX_KINDS_OF_GRANT && self.granted.len() < MAX_KINDS_OF_GRANTS;
            if !has_room && of_grant > 0 {
                kind = Kind { grant, what: VARIOUS.to_owned(), space: None };
            }
        }
        if let Some(counted) = self.granted.get_mut(&kind) {
            counted.more = counted.more.saturating_add(1);
            counted.event.keep_common(&event);
            return None;
        }
        let is_various = kind.what == VARIOUS;
        let mut common = event.clone();
        common.request_id = None;
        if is_various {
            common = common.detail(VARIOUS);
            (common.space, common.feed) = (None, None);
        }
        *self.kinds.entry(grant).or_default() += 1;
        self.granted.insert(kind, Counted { event: common, more: u64::from(is_various) });
        (!is_various).then_some(event)
    }

    /// Adds a count back that could not be written. What its row names is named on only if the refusals that
    /// were counted meanwhile share it.
    pub(super) fn put_back_granted(&mut self, kind: Kind, counted: Counted) {
        match self.granted.get_mut(&kind) {
            Some(known) => {
                known.more = known.more.saturating_add(counted.more);
                known.event.keep_common(&counted.event);
            }
            None => {
                *self.kinds.entry(kind.grant).or_default() += 1;
                self.granted.insert(kind, counted);
            }
        }
    }

    /// Takes the counts since the last call, in a fixed order. `None` is the count of all further networks.
    pub(super) fn take(&mut self) -> Vec<(Option<IpAddr>, &'static str, u64)> {
        let counted = std::mem::take(&mut self.anonymous);
        let mut counted: Vec<_> =
            counted.into_iter().map(|((client, reason), count)| (client, reason, count)).collect();
        counted.sort_unstable();
        counted
    }

    /// Takes the counts of grants, for kinds with more refusals than the first one.
    pub(super) fn take_granted(&mut self) -> Vec<(Kind, Counted)> {
        self.kinds.clear();
        let counted = std::mem::take(&mut self.granted);
        let mut counted: Vec<_> = counted.into_iter().filter(|(_, counted)| counted.more > 0).collect();
        counted.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        counted
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::audit::{EventKind, Outcome};
    use crate::values::actor::Actor;

    #[test]
    fn a_flood_from_everywhere_is_counted_whole_and_kept_small() {
        let mut refusals = Refusals::default();
        for address in 0..10_000_u32 {
            refusals.count(Ipv4Addr::from(address).into(), "unknown token");
            refusals.count(Ipv4Addr::from(7).into(), "no token");
        }
        let counted = refusals.take();
        assert!(counted.len() <= MAX_KINDS + 2, "{}", counted.len());
        assert_eq!(counted.iter().map(|(_, _, count)| count).sum::<u64>(), 20_000);
        assert!(refusals.take().is_empty());
    }

    #[test]
    fn refusals_are_counted_by_address_and_reason() {
        let mut refusals = Refusals::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        for (client, reason, first) in [
            (one, "expired", true),
            (other, "expired", true),
            (one, "expired", false),
            (one, "no token", true),
        ] {
            assert_eq!(refusals.count(client, reason), first);
        }
        let counted = [(Some(one), "expired", 2), (Some(one), "no token", 1), (Some(other), "expired", 1)];
        assert_eq!(refusals.take(), counted);
        refusals.put_back(Some(one), "expired", 5);
        assert_eq!(refusals.take(), [(Some(one), "expired", 5)]);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one() {
        let mut refusals = Refusals::default();
        for address in ["2001:db8::1", "2001:db8::ffff:2", "::ffff:192.0.2.1", "192.0.2.1"] {
            refusals.count(address.parse().unwrap(), "no token");
        }
        let counted: Vec<_> = refusals
            .take()
            .into_iter()
            .map(|(client, _, count)| (client.unwrap().to_string(), count))
            .collect();
        assert_eq!(counted, [("192.0.2.1".to_owned(), 2), ("2001:db8::".to_owned(), 2)]);
    }

    fn refused(grant: Uuid, what: &str, space: &str, feed: &str, request: &str) -> Event {
        let path = crate::feed::FeedPath { space: space.parse().unwrap(), slug: feed.parse().unwrap() };
        Event::new(EventKind::Request, Outcome::Refused, &Actor::grant(grant))
            .in_request(request)
            .about_path(&path)
            .with_client(Ipv4Addr::LOCALHOST.into())
            .detail(what)
    }

    #[test]
    fn the_first_refusal_of_a_grant_is_exact_and_later_ones_are_merged() {
        let (mut refusals, grant) = (Refusals::default(), Uuid::from_u128(1));
        let first = refused(grant, "GET /x: forbidden", "a", "one", "1");
        assert_eq!(refusals.count_granted(grant, first.clone()), Some(first));
        for (feed, request) in [("one", "2"), ("two", "3"), ("one", "4")] {
            assert!(
                refusals
                    .count_granted(grant, refused(grant, "GET /x: forbidden", "a", feed, request))
                    .is_none()
            );
        }
        assert!(
            refusals.count_granted(grant, refused(grant, "GET /x: forbidden", "b", "one", "5")).is_some()
        );
        assert!(
            refusals.count_granted(grant, refused(grant, "GET /y: forbidden", "a", "one", "6")).is_some()
        );
        let counted = refusals.take_granted();
        assert_eq!(counted.len(), 1, "only the first of the others was seen");
        let Counted { event, more } = &counted[0].1;
        assert_eq!((*more, event.detail.as_deref()), (3, Some("GET /x: forbidden")));
        assert_eq!((&event.request_id, &event.feed), (&None, &None));
        assert_eq!(event.space.as_ref().map(Slug::as_str), Some("a"));
        assert_eq!(event.actor, Actor::grant(grant));
        assert_eq!(event.client, Some(Ipv4Addr::LOCALHOST.into()));
        // After that, counting starts again.
        assert!(
            refusals.count_granted(grant, refused(grant, "GET /x: forbidden", "a", "one", "7")).is_some()
        );
    }

    #[test]
    fn a_count_that_is_put_back_names_only_what_later_refusals_share() {
        let (mut refusals, grant) = (Refusals::default(), Uuid::from_u128(1));
        let refuse = |refusals: &mut Refusals, feed: &str| {
            refusals.count_granted(grant, refused(grant, "GET /x: forbidden", "a", feed, "1"));
        };
        for feed in ["one", "one", "one"] {
            refuse(&mut refusals, feed);
        }
        let (kind, counted) = refusals.take_granted().remove(0);
        refuse(&mut refusals, "two");
        refuse(&mut refusals, "two");
        refusals.put_back_granted(kind, counted);
        let Counted { event, more } = &refusals.take_granted()[0].1;
        assert_eq!((*more, &event.feed), (3, &None));
        assert_eq!(event.space.as_ref().map(Slug::as_str), Some("a"));
    }

    #[test]
    fn the_rows_of_any_grant_are_bounded_and_keep_its_name() {
        let mut refusals = Refusals::default();
        let (mut exact, mut asked) = (0, 0);
        for number in 0..20_000_u128 {
            for grant in [Uuid::from_u128(1), Uuid::from_u128(2 + number % 9_000)] {
                asked += 1;
                let event = refused(grant, &format!("GET /{number}: forbidden"), "a", "one", "1");
                exact += u64::from(refusals.count_granted(grant, event).is_some());
            }
        }
        let counted = refusals.take_granted();
        assert!(counted.len() <= MAX_KINDS_OF_GRANTS + 9_001, "{}", counted.len());
        let of_one: Vec<_> = counted.iter().filter(|(kind, _)| kind.grant == Uuid::from_u128(1)).collect();
        assert!(of_one.len() <= MAX_KINDS_OF_GRANT + 1, "{}", of_one.len());
        let more: u64 = counted.iter().map(|(_, counted)| counted.more).sum();
        assert_eq!(exact + more, asked, "none is lost");
        assert!(counted.iter().all(|(kind, counted)| counted.event.actor == Actor::grant(kind.grant)));
    }
}
