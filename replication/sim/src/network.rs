//! The network between members.
//!
//! Fault model. A message may be lost, delayed by up to many seconds, overtaken by later ones, and delivered twice.
//! Members may be cut off from each other in both directions or in one. A cut or a lost message is silent: nobody is
//! told, except that after a cut heals both ends see a new connection. A message in flight across a new cut is lost.
//! An opponent that reads the traffic may hold up or lose what it aims at (its own model is in [`crate::adversary`]).
//! Never: it alters no message and invents none, and it never lies about who sent one, because the real transport
//! authenticates both ends. (What an opponent may send is the business of `actors::byzantine`; bytes that change on
//! the way are the business of a mutant.)

use crate::adversary::Fate;
use crate::rng::{Rng, SECOND};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the network may do in a run. Probabilities are per mille, times in micros.
#[derive(Clone, Debug)]
pub struct NetworkFaults {
    /// Shortest one-way delay of a link.
    pub delay_min: u64,
    /// Longest usual one-way delay; each link draws its own base between the two.
    pub delay_max: u64,
    /// A member of which everything arrives later than over any other link, and by how much.
    pub late_sender: Option<(u16, u64)>,
    /// How much longer than that a message may take, per mille of it, each time anew.
    pub jitter_per_mille: u64,
    /// Messages that take up to `tail_micros` longer.
    pub tail_per_mille: u64,
    /// How much longer those take at most.
    pub tail_micros: u64,
    /// Messages lost without notice.
    pub loss_per_mille: u64,
    /// Messages delivered a second time later.
    pub duplicate_per_mille: u64,
    /// Whether messages of one link may overtake each other.
    pub reorder: bool,
    /// Bytes per second of a link.
    pub bandwidth: u64,
    /// Mean time between partitions, if there are any.
    pub partition_every: Option<u64>,
    /// Mean length of a partition.
    pub partition_micros: u64,
}

/// What the network did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounts {
    /// Messages handed over by senders.
    pub sent: u64,
    /// Bytes handed over by senders.
    pub sent_bytes: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost because the two ends were cut off.
    pub cut: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delayed beyond the usual.
    pub delayed: u64,
    /// Scheduled to arrive before an older message of the same link.
    pub overtook: u64,
    /// Held up by an opponent that aims.
    pub held_up: u64,
    /// Lost to such an opponent.
    pub starved: u64,
}

/// One arrival that the world has to schedule.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Virtual time of arrival.
    pub at: u64,
    /// Number of the link's connection: the world drops it if a cut came in between.
    pub connection: u64,
    /// The bytes as sent.
    pub bytes: Arc<[u8]>,
}

/// The links of one group.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    faults: NetworkFaults,
    links: BTreeMap<(u16, u16), Link>,
    counts: NetworkCounts,
    healed: bool,
}

#[derive(Clone, Debug, Default)]
struct Link {
    base: u64,
    cut: bool,
    connection: u64,
    last_arrival: u64,
}

impl Network {
    /// Links between members `0..nodes`.
    pub fn new(nodes: u16, faults: NetworkFaults, mut rng: Rng) -> Self {
        let mut links = BTreeMap::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                let late = faults.late_sender.filter(|(sender, _)| *sender == from);
                let base = rng.between(faults.delay_min, faults.delay_max)
                    + late.map_or(0, |(_, micros)| micros);
                links.insert(
                    (from, to),
                    Link {
                        base,
                        ..Link::default()
                    },
                );
            }
        }
        Network {
            rng,
            faults,
            links,
            counts: NetworkCounts::default(),
            healed: false,
        }
    }

    /// Takes one message and returns its arrivals: none, one or two. `fate` is the will of an opponent that aims.
    pub fn send(
        &mut self,
        at: u64,
        (from, to): (u16, u16),
        bytes: &Arc<[u8]>,
        fate: Fate,
    ) -> Vec<Delivery> {
        let Some(link) = self.links.get_mut(&(from, to)) else {
            return Vec::new();
        };
        self.counts.sent += 1;
        self.counts.sent_bytes += bytes.len() as u64;
        if link.cut {
            self.counts.cut += 1;
            return Vec::new();
        }
        let held_up = match fate {
            Fate::Pass => 0,
            Fate::Lose => {
                self.counts.starved += 1;
                return Vec::new();
            }
            Fate::Hold(micros) => {
                self.counts.held_up += 1;
                micros
            }
        };
        if !self.healed && self.rng.per_mille(self.faults.loss_per_mille) {
            self.counts.lost += 1;
            return Vec::new();
        }
        let size_delay = (bytes.len() as u64).saturating_mul(SECOND) / self.faults.bandwidth.max(1);
        let jitter = link.base * self.faults.jitter_per_mille / 1_000;
        let mut arrival = at + link.base + self.rng.below(jitter + 1) + size_delay;
        if !self.healed && self.rng.per_mille(self.faults.tail_per_mille) {
            arrival += self.rng.below(self.faults.tail_micros);
            self.counts.delayed += 1;
        }
        if arrival < link.last_arrival {
            if self.faults.reorder && !self.healed {
                self.counts.overtook += 1;
            } else {
                arrival = link.last_arrival;
            }
        }
        // What an opponent holds up is overtaken: it does not hold up the rest.
        link.last_arrival = link.last_arrival.max(arrival);
        arrival += held_up;
        let first = Delivery {
            at: arrival,
            connection: link.connection,
            bytes: Arc::clone(bytes),
        };
        if !self.healed && self.rng.per_mille(self.faults.duplicate_per_mille) {
            self.counts.duplicated += 1;
            let again = Delivery {
                at: arrival + self.rng.below(SECOND),
                ..first.clone()
            };
            return vec![first, again];
        }
        vec![first]
    }

    /// Whether a delivery of `connection` still arrives: no cut came in between.
    pub fn arrives(&self, from: u16, to: u16, connection: u64) -> bool {
        self.links
            .get(&(from, to))
            .is_some_and(|link| !link.cut && link.connection == connection)
    }

    /// Cuts every link that `apart` names by its two ends (from, to). Returns how many links were cut.
    pub fn cut(&mut self, apart: impl Fn(u16, u16) -> bool) -> u64 {
        let mut count = 0;
        for ((from, to), link) in &mut self.links {
            if apart(*from, *to) && !link.cut {
                link.cut = true;
                link.connection += 1;
                count += 1;
            }
        }
        count
    }

    /// Mends every cut and returns the pairs (both orders) that are connected anew.
    pub fn mend(&mut self) -> Vec<(u16, u16)> {
        let mut pairs = Vec::new();
        for ((from, to), link) in &mut self.links {
            if link.cut {
                link.cut = false;
                pairs.push((*from, *to));
                pairs.push((*to, *from));
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        pairs
    }

    /// From here on nothing is lost, doubled, overtaken or late.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// What was done so far.
    pub fn counts(&self) -> NetworkCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn faults() -> NetworkFaults {
        NetworkFaults {
            delay_min: 1_000,
            delay_max: 2_000,
            late_sender: None,
            jitter_per_mille: 250,
            tail_per_mille: 100,
            tail_micros: SECOND,
            loss_per_mille: 200,
            duplicate_per_mille: 100,
            reorder: true,
            bandwidth: 1_000_000,
            partition_every: None,
            partition_micros: 0,
        }
    }

    #[test]
    fn every_fault_of_the_model_is_injected_and_none_after_healing() {
        let mut network = Network::new(2, faults(), Rng::new(1));
        let bytes: Arc<[u8]> = Arc::from(&b"x"[..]);
        for at in 0..2_000 {
            network.send(at * 100, (0, 1), &bytes, Fate::Pass);
        }
        let counts = network.counts();
        assert!(
            counts.lost > 300
                && counts.duplicated > 100
                && counts.delayed > 100
                && counts.overtook > 100
        );
        network.heal();
        let mut last = 0;
        for at in 2_000..3_000 {
            let arrivals = network.send(at * 100, (0, 1), &bytes, Fate::Pass);
            assert_eq!(arrivals.len(), 1);
            assert!(arrivals[0].at >= last);
            last = arrivals[0].at;
        }
        assert_eq!(network.counts().lost, counts.lost);
    }

    #[test]
    fn a_cut_loses_what_is_in_flight_until_it_is_mended() {
        let mut network = Network::new(
            3,
            NetworkFaults {
                loss_per_mille: 0,
                ..faults()
            },
            Rng::new(1),
        );
        let bytes: Arc<[u8]> = Arc::from(&b"x"[..]);
        let before = network.send(0, (0, 1), &bytes, Fate::Pass);
        assert_eq!(network.cut(|from, to| from == 0 || to == 0), 4);
        assert!(!network.arrives(0, 1, before[0].connection));
        assert!(network.send(1, (1, 0), &bytes, Fate::Pass).is_empty());
        assert!(!network.send(1, (1, 2), &bytes, Fate::Pass).is_empty());
        assert_eq!(network.mend(), vec![(0, 1), (0, 2), (1, 0), (2, 0)]);
        assert!(
            !network.arrives(0, 1, before[0].connection),
            "the old connection stays dead"
        );
        let after = network.send(2, (0, 1), &bytes, Fate::Pass);
        assert!(network.arrives(0, 1, after[0].connection));
        assert_eq!(network.cut(|from, _| from == 2), 2);
    }
}
