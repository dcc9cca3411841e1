//! Proofs that this member has found: told, and put on the ledger.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::Replica;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::evidence::{self, Evidence};
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

    /// What came to nothing, as in a crash or with an epoch, is put on the ledger again. Proofs that have grown too old are
    /// forgotten: their authors are heard like others.
    pub(super) fn accuse_again(&mut self) {
        if self.replaying {
            return;
        }
        let genesis = Arc::clone(&self.genesis);
        let proofs = core::mem::take(&mut self.equivocators);
        for (author, (first, second)) in proofs {
            let twins = Evidence::of_twins(&first, &second);
            if self.ledger().is_convicted(author) || evidence::verify(&twins, &genesis).is_ok() {
                self.equivocators.insert(author, (first, second));
                self.submit_evidence(author, twins);
            }
        }
    }

    /// Puts a proof on the ledger, unless one against this member is there. Without a seat it has no block to put it into: it does
    /// so when it has one.
    pub(super) fn submit_evidence(&mut self, accused: MemberId, evidence: Evidence) {
        let known = self.ledger().is_convicted(accused) || accused == self.me;
        if !self.replaying && !known && !self.is_unseated() {
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
