//! Whoever joins: hands its invitation in until it has a seat, then its program starts; and members that lose power just
//! when they go over to a new epoch.

use super::{Happening, World, altruistic_replica};
use crate::faults::Fault;
use crate::rng::{MILLI, SECOND};
use barfs_replication::{BlockCommand, Command, Input, InviteToken, LiveTime, MemberId, Replica};

/// Pause between two looks at whether the seat is there.
const ASK_EVERY: u64 = SECOND;

/// Names the invitation of the one that joins in this place.
fn invitation(place: usize) -> [u8; 16] {
    [place as u8 + 1; 16]
}

impl World {
    pub(super) fn join(&mut self, place: usize) -> anyhow::Result<()> {
        let id = invitation(place);
        let joined = |ledger: &Replica| {
            let ledger = ledger.ledger();
            let member = ledger.joined_with(&id)?;
            Some((member, ledger.seat(member)?.card.node))
        };
        let mut ledgers = self.members.iter().filter_map(altruistic_replica);
        if let Some((member, node)) = ledgers.find_map(joined) {
            if self.members.iter().any(|it| it.machine.id == member) {
                self.machine_of(member).group.seat(member, node);
                self.counts.joined += 1;
                self.note("joins", [member.0.into(), place as u64, 0]);
                self.start(member.0)?;
            }
            return Ok(());
        }
        self.schedule(self.at + ASK_EVERY, Happening::Join { place });
        let Some(join) = self.plan.membership.joins.get(place).copied() else {
            return Ok(());
        };
        let inviter = MemberId(join.inviter);
        let group = std::sync::Arc::clone(&self.machine_of(inviter).group);
        let Some(card) = group.newcomers_card(place) else {
            return Ok(());
        };
        let key = group.member_key(inviter)?;
        let token = InviteToken::sign(group.id(), key, inviter, id, LiveTime(u64::MAX));
        let card = Box::new(card.clone());
        let command = BlockCommand::Unnumbered(Command::Join {
            token: Box::new(token),
            card,
        });
        let ticket = None;
        self.feed(inviter.0, Input::Submit { ticket, command });
        Ok(())
    }

    fn machine_of(&self, member: MemberId) -> &crate::actors::Machine {
        #[expect(
            clippy::indexing_slicing,
            reason = "every member and newcomer has a machine"
        )]
        &self.members[member.index()].machine
    }

    /// Whether everybody that was to join has a seat, and its program runs.
    pub(super) fn everybody_is_in(&self) -> bool {
        self.members
            .iter()
            .all(|member| member.actor.is_some() || member.gone)
    }

    /// A member goes over to a new epoch: it may lose power at any moment of that.
    pub(super) fn turned(&mut self, member: MemberId) {
        if self.plan.membership.crash_at_turns
            && self.calm_since.is_none()
            && let Some((at, until)) = self.injector.turn()
        {
            let at = self.at + at;
            let until = Some(at + until);
            let member = member.0;
            self.counts.crashes += 1;
            self.schedule(at, Happening::Fault(Fault::Down { member, until }));
        }
    }
}

/// How long after a turn power goes at the latest.
pub(crate) const TURN_MICROS: u64 = 40 * MILLI;
