//! Proofs that this member has found: told, and put on the ledger.

use alloc::boxed::Box;

use super::Replica;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::evidence::Evidence;
use crate::ledger::command::{BlockCommand, Command};
use crate::membership::MemberId;
use crate::output::{Event, Output};

impl Replica {
    /// Keeps the first proof against a member and tells of it.
    pub(super) fn accuse(&mut self, first: VerifiedBlock, second: VerifiedBlock) {
        let author = first.reference().author;
        if self.equivocators.contains_key(&author) {
            return;
        }
        self.equivocators
            .insert(author, (first.clone(), second.clone()));
        let kept = &self.twins_kept;
        let keep = |reference: &BlockRef| kept.contains_key(reference);
        for parent in self.suspended.drop_unneeded(author, keep) {
            self.fetch.forget(parent);
        }
        self.submit_evidence(author, Evidence::of_twins(&first, &second));
        self.out.push(Output::Event(Event::Equivocation {
            evidence: Box::new((first, second)),
        }));
    }

    /// Puts a proof on the ledger, unless one against this member is there.
    pub(super) fn submit_evidence(&mut self, accused: MemberId, evidence: Evidence) {
        if !self.replaying && !self.ledger().is_convicted(accused) && accused != self.me {
            let command = BlockCommand::Unnumbered(Command::Accuse {
                evidence: Box::new(evidence),
            });
            self.submit(None, command);
        }
    }

    /// The proofs of equivocation that this member has, one for each member at most.
    pub fn equivocations(&self) -> impl Iterator<Item = &(VerifiedBlock, VerifiedBlock)> {
        self.equivocators.values()
    }
}
