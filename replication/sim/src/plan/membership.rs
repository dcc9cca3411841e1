//! What changes about the membership of a group during a run: who joins, leaves, is voted out, gets another key or goes on
//! vacation, and when.

use crate::rng::{MILLI, Rng, SECOND};

/// Something that a member asks for about its own membership, or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Gives up its seat, in a round that it leads if it can.
    Leave,
    /// Gets another node key.
    Rotate,
    /// Announces a vacation.
    Vacation,
    /// Wants this member out.
    Evict(u16),
}

/// Somebody with an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// When it first hands it in.
    pub at: u64,
    /// Who has invited it, and hands the command in.
    pub inviter: u16,
}

/// Every change of a run. Times in micros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Who joins.
    pub joins: Vec<Join>,
    /// Who asks for what, and when.
    pub errands: Vec<(u16, u64, Errand)>,
    /// Whether whoever goes over to a new epoch may lose power just then.
    pub crash_at_turns: bool,
}

impl Membership {
    /// Members that have no seat in the end.
    pub fn leaves(&self, id: u16) -> bool {
        self.errands.iter().any(|(who, _, errand)| match errand {
            Errand::Leave => *who == id,
            // The last four keep everybody: see `draw`.
            Errand::Evict(whom) => *whom == id && !self.keeps_all(),
            Errand::Rotate | Errand::Vacation => false,
        })
    }

    /// Evictions that are to be refused: three others want somebody out of a group of four.
    pub fn keeps_all(&self) -> bool {
        let evict = |errand: &Errand| matches!(errand, Errand::Evict(_));
        let votes = self.errands.iter().filter(|(.., errand)| evict(errand));
        votes.count() == 3 && self.joins.is_empty()
    }

    /// Members that go, for the thresholds of the smallest group that a run comes to.
    pub fn going(&self, nodes: u16) -> u16 {
        (0..nodes).filter(|id| self.leaves(*id)).count() as u16
    }

    /// Draws the changes of a run of a group of `nodes`.
    pub(super) fn draw(
        nodes: u16,
        storm_micros: u64,
        lies: impl Fn(u16) -> bool,
        rng: &mut Rng,
    ) -> Membership {
        let mut order: Vec<u16> = (0..nodes).collect();
        rng.shuffle(&mut order);
        // Taken from the end: whoever lies invites nobody.
        order.sort_by_key(|id| !lies(*id));
        let time = |rng: &mut Rng| rng.between(500 * MILLI, storm_micros - 3 * SECOND);
        let mut changes = Membership {
            crash_at_turns: rng.per_mille(500),
            ..Membership::default()
        };
        let at = time(rng);
        let refused = nodes == 4 && rng.per_mille(400);
        let (Some(inviter), Some(other)) = (order.pop(), order.pop()) else {
            return changes;
        };
        let joins = if refused { 0 } else { rng.between(0, 2) };
        for place in 0..joins {
            // Two at once as often as one after the other.
            let at = if rng.per_mille(500) { at } else { time(rng) };
            let inviter = if place == 0 { inviter } else { other };
            changes.joins.push(Join { at, inviter });
        }
        if let Some(who) = order.pop().filter(|_| rng.per_mille(700)) {
            changes.errands.push((who, time(rng), Errand::Rotate));
        }
        changes.errands.push((inviter, time(rng), Errand::Vacation));
        if refused {
            changes.evict(other, nodes, at);
        } else if nodes >= 6
            && rng.per_mille(600)
            && let Some(whom) = order.pop()
        {
            changes.evict(whom, nodes, time(rng));
        }
        if nodes >= 5
            && rng.per_mille(600)
            && let Some(who) = order.pop()
        {
            changes.errands.push((who, time(rng), Errand::Leave));
        }
        changes
    }

    fn evict(&mut self, whom: u16, nodes: u16, at: u64) {
        let others = (0..nodes).filter(|id| *id != whom);
        let votes = others.map(|voter| (voter, at, Errand::Evict(whom)));
        self.errands.extend(votes);
    }
}
