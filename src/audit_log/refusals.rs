//! Counting refusals of nobody in particular: whoever floods the door does not flood the log.

use std::collections::HashMap;
use std::net::IpAddr;

/// So many addresses and reasons are told apart until the counts are taken.
const MAX_KINDS: usize = 256;

/// Counts by address and reason. Beyond [`MAX_KINDS`], by reason alone.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<(Option<IpAddr>, &'static str), u64>);

impl Refusals {
    pub(super) fn count(&mut self, client: IpAddr, reason: &'static str) {
        self.add(Some(client), reason, 1);
    }

    /// Counts again what could not be written.
    pub(super) fn put_back(&mut self, client: Option<IpAddr>, reason: &'static str, count: u64) {
        self.add(client, reason, count);
    }

    fn add(&mut self, client: Option<IpAddr>, reason: &'static str, count: u64) {
        let known = self.0.contains_key(&(client, reason));
        // The reasons are few, being written in the program.
        let client = client.filter(|_| known || self.0.len() < MAX_KINDS);
        let counted = self.0.entry((client, reason)).or_default();
        *counted = counted.saturating_add(count);
    }

    /// What was counted since the last time, in a fixed order; everybody together is `None`.
    pub(super) fn take(&mut self) -> Vec<(Option<IpAddr>, &'static str, u64)> {
        let counted = std::mem::take(&mut self.0);
        let mut counted: Vec<_> =
            counted.into_iter().map(|((client, reason), count)| (client, reason, count)).collect();
        counted.sort_unstable();
        counted
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

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
    fn refusals_are_told_apart_by_address_and_reason() {
        let mut refusals = Refusals::default();
        let [one, other] = [1, 2].map(|last| IpAddr::from([127, 0, 0, last]));
        for (client, reason) in [(one, "expired"), (other, "expired"), (one, "expired"), (one, "no token")] {
            refusals.count(client, reason);
        }
        let counted = [(Some(one), "expired", 2), (Some(one), "no token", 1), (Some(other), "expired", 1)];
        assert_eq!(refusals.take(), counted);
        refusals.put_back(Some(one), "expired", 5);
        assert_eq!(refusals.take(), [(Some(one), "expired", 5)]);
    }
}
