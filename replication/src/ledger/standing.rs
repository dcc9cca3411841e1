//! What a proven lie costs. Lateness and silence are other lanes and never end here.
//!
//! A convicted member's packs are no longer placed, it is no longer drawn to hold any, and its blocks are no longer
//! pushed to it. What it has placed and what it holds stays where it is: its data may still be restored, and nobody
//! loses a shard because its holder lied.

use alloc::vec::Vec;

use super::command::VolumeId;
use super::outcome::{Effect, LedgerEvent, Refusal};
use super::seats::SeatState;
use super::state::{Conviction, Ledger};
use crate::evidence::{self, Accused, Evidence};
use crate::membership::MemberId;
use crate::placement;

impl Ledger {
    pub(super) fn accuse(&mut self, evidence: &Evidence) -> Result<Effect, Refusal> {
        let Ok(Accused { member, kind }) = evidence::verify(evidence, &self.genesis) else {
            return Err(Refusal::NoProof);
        };
        if self.is_echo_over(evidence) {
            return Err(Refusal::NoProof);
        }
        let live = self.live;
        let account = self
            .tables
            .accounts
            .get_mut(&member)
            .ok_or(Refusal::UnknownMember(member))?;
        if account.convicted.is_none() {
            account.convicted = Some(Conviction { kind, live });
            // Its seat goes at once, with the term: whoever lies counts against r as long as it sits.
            let seat = self.tables.seats.get(&member);
            if seat.is_some_and(|seat| matches!(seat.state, SeatState::Seated | SeatState::Joining))
            {
                self.turn_soon();
            }
            self.events
                .push_back(LedgerEvent::Convicted { member, kind });
        }
        Ok(Effect::Done)
    }

    /// Whether a lie of this member is on record.
    #[must_use]
    pub fn is_convicted(&self, member: MemberId) -> bool {
        self.account(member)
            .is_some_and(|account| account.convicted.is_some())
    }

    /// All members that may hold shards of a new pack, the first to be asked first: the draw of
    /// [`candidates`](placement::candidates()) without those that lied.
    #[must_use]
    pub fn candidates(&self, owner: MemberId, volume: VolumeId, number: u64) -> Vec<MemberId> {
        let mut drawn = placement::candidates(&self.genesis, owner, volume, number);
        drawn.retain(|member| !self.is_convicted(*member));
        drawn
    }
}
