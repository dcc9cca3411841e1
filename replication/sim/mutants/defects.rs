// The list of defects; part of both `build.rs` and the crate.

/// A defect: in `file`, `from` (which must occur exactly once) becomes `to`, where `$on` tells whether it is on.
pub struct Defect {
    /// Its name.
    pub name: &'static str,
    /// Below `src`.
    pub file: &'static str,
    /// What the sources say.
    pub from: &'static str,
    /// What they say here.
    pub to: &'static str,
}

/// Every defect.
pub const DEFECTS: &[Defect] = &[
    // Two quorums need not share an honest member.
    Defect {
        name: "quorum-one-too-small",
        file: "params.rs",
        from: "quorum: n - u,",
        to: "quorum: if $on { n - u - 1 } else { n - u },",
    },
    // Twins are executed both.
    Defect {
        name: "no-equivocation-rule",
        file: "execution.rs",
        from: "|delivered| delivered.first_of_slot",
        to: "|delivered| $on || delivered.first_of_slot",
    },
    // A block counts as certificate whatever votes it names.
    Defect {
        name: "certificate-check-skipped",
        file: "consensus/dag.rs",
        from: ".find(|(_, n)| *n >= quorum)",
        to: ".find(|(_, n)| $on || *n >= quorum)",
    },
    // One certificate commits.
    Defect {
        name: "one-certificate-commits",
        file: "consensus/tally.rs",
        from: "(set.len() >= quorum).then_some(*digest)",
        to: "($on || set.len() >= quorum).then_some(*digest)",
    },
    // Two fewer than a quorum of votes for nothing skip. (With one fewer, a quorum and the rest would still share an
    // honest member: two quorums share r + 2.)
    Defect {
        name: "skip-too-early",
        file: "consensus/tally.rs",
        from: "self.bottom.len() >= quorum",
        to: "self.bottom.len() >= if $on { quorum - 2 } else { quorum }",
    },
    // The anchor may be too near to have every certificate in its history.
    Defect {
        name: "anchor-too-near",
        file: "consensus/commit.rs",
        from: "round: slot.round + 3,",
        to: "round: slot.round + if $on { 2 } else { 3 },",
    },
    // An undecided anchor is passed over like a skipped one.
    Defect {
        name: "undecided-anchor-passed-over",
        file: "consensus/commit.rs",
        from: "*anchor >= first && *decision != Some(Decision::Skip)",
        to: "*anchor >= first && *decision != Some(Decision::Skip) && (!$on || decision.is_some())",
    },
    // A slot without a direct decision is skipped as soon as its anchor is committed.
    Defect {
        name: "history-not-searched",
        file: "consensus/commit.rs",
        from: "match dag.certified_in_history(anchor, slot) {",
        to: "match dag.certified_in_history(anchor, slot).filter(|_| !$on) {",
    },
    // The own block leaves while its record is still on its way to the disk.
    Defect {
        name: "persist-after-send",
        file: "replica/propose.rs",
        from: "then.push(Output::Broadcast { message });",
        to: "if $on { self.out.push(Output::Broadcast { message }) } else { then.push(Output::Broadcast { message }) }",
    },
    // What others sent is not made durable together with the own block that builds on it.
    Defect {
        name: "ancestors-not-persisted",
        file: "replica/propose.rs",
        from: "let mut records = self.take_unpersisted();",
        to: "let mut records = self.take_unpersisted(); if $on { records.clear(); }",
    },
    // One liar's clock is the group's.
    Defect {
        name: "newest-clock-counts",
        file: "execution.rs",
        from: ".get(self.time_rank)",
        to: ".get(if $on { parent_times.len().saturating_sub(1) } else { self.time_rank })",
    },
    // A number may be used again.
    Defect {
        name: "numbers-not-used-up",
        file: "ledger/numbers.rs",
        from: "} else if self.is_set(number) {",
        to: "} else if self.is_set(number) && !$on {",
    },
    // One member leads every round on a chain of anchors.
    Defect {
        name: "rotation-with-a-period",
        file: "consensus/tally.rs",
        from: "let place = (slot.round / 3 + chain + offset) % self.members;",
        to: "let place = (if $on { slot.round % 3 + offset } else { slot.round / 3 + chain + offset }) % self.members;",
    },
    // Of twins the one that a later block needs is thrown away.
    Defect {
        name: "needed-twin-dropped",
        file: "replica/intake.rs",
        from: "self.suspended.needs(reference)\n            || self.named_in_batch.contains(&reference)\n            || self.twins_kept.contains_key(&reference)",
        to: "!$on && (self.suspended.needs(reference)\n            || self.named_in_batch.contains(&reference)\n            || self.twins_kept.contains_key(&reference))",
    },
    // Whoever lost its place asks nobody for what is missing.
    Defect {
        name: "missing-parents-not-asked-for",
        file: "replica/intake.rs",
        from: "if !self.suspended.contains(parent) && !self.own.is_in_flight(parent) {",
        to: "if !$on && !self.suspended.contains(parent) && !self.own.is_in_flight(parent) {",
    },
    // A member that is far behind never asks for the rounds between.
    Defect {
        name: "far-behind-for-ever",
        file: "replica/intake.rs",
        from: "if believed > horizon {",
        to: "if believed > horizon && !$on {",
    },
    // The commands of a block that came to nothing are forgotten.
    Defect {
        name: "commands-of-lost-blocks-forgotten",
        file: "consensus/own/ending.rs",
        from: "for queued in again.into_iter().rev() {",
        to: "for queued in again.into_iter().rev().filter(|_| !$on) {",
    },
    // Whoever lost its disk speaks before a quorum has told it what it had signed.
    Defect {
        name: "recovery-without-a-quorum",
        file: "recovery.rs",
        from: "(counted().count() >= self.needed).then_some(round)",
        to: "($on || counted().count() >= self.needed).then_some(round)",
    },
    // A pair of blocks of two rounds counts as evidence.
    Defect {
        name: "honest-blocks-convict",
        file: "evidence.rs",
        from: "() if slot(first) != slot(second) => Err(Reason::Unrelated),",
        to: "() if !$on && slot(first) != slot(second) => Err(Reason::Unrelated),",
    },
    // Commands wait in queues as if the roster had not changed.
    Defect {
        name: "queue-not-checked-again",
        file: "replica/epochs.rs",
        from: "refusal(&genesis, command, (unseated, keys_changed || evidence))",
        to: "refusal(&genesis, command, (unseated, (keys_changed || evidence) && !$on))",
    },
    // What never comes counts as late.
    Defect {
        name: "silence-is-lateness",
        file: "consensus/lateness.rs",
        from: "if overdue.came {",
        to: "if overdue.came || $on {",
    },
    // Rule (b) of the pace: nobody waits for leaders.
    Defect {
        name: "leaders-not-waited-for",
        file: "consensus/pace.rs",
        from: "|| self.leaders_to_come(dag, round).next().is_none()",
        to: "|| $on || self.leaders_to_come(dag, round).next().is_none()",
    },
    // Rule (c) of the pace: nobody waits for votes.
    Defect {
        name: "votes-not-waited-for",
        file: "consensus/pace.rs",
        from: "if round < dag.base() + 2 {",
        to: "if $on || round < dag.base() + 2 {",
    },
    // A hand-over is believed whoever signed it and whatever it names.
    Defect {
        name: "handover-not-checked",
        file: "roster.rs",
        from: "if self.certificate.checkpoint.roster != self.roster.digest() {\n            return Err(CertificateError::Roster);\n        }\n        self.certificate.verify(genesis)?;",
        to: "if !$on { if self.certificate.checkpoint.roster != self.roster.digest() {\n            return Err(CertificateError::Roster);\n        }\n        self.certificate.verify(genesis)?; }",
    },
    // A certificate of a checkpoint is believed whoever signed it.
    Defect {
        name: "checkpoint-certificate-not-checked",
        file: "replica/checkpoints.rs",
        from: "roster.is_some_and(|roster| certificate.verify(&roster).is_ok())",
        to: "roster.is_some_and(|roster| $on || certificate.verify(&roster).is_ok())",
    },
    // Whoever says what the state is not keeps its seat.
    Defect {
        name: "contradictions-cost-nothing",
        file: "ledger/suspension.rs",
        from: "let contradicts = said == Said::Contradicts;",
        to: "let contradicts = said == Said::Contradicts && !$on;",
    },
    // Whoever says nothing of the state keeps its seat.
    Defect {
        name: "stale-states-cost-nothing",
        file: "ledger/suspension.rs",
        from: "let stale = round >= due.0 && index < due.1;",
        to: "let stale = !$on && round >= due.0 && index < due.1;",
    },
    // Whoever has no seat waits to be told.
    Defect {
        name: "members-without-a-seat-ask-nobody",
        file: "replica/carry.rs",
        from: "self.peers.after(self.following.peer) else {",
        to: "self.peers.after(self.following.peer).filter(|_| !$on) else {",
    },
    // Whoever a liar invites has a seat.
    Defect {
        name: "invitations-need-no-votes",
        file: "ledger/members.rs",
        from: "rule.max(self.thresholds().r.saturating_add(1))",
        to: "rule.max(if $on { 0 } else { self.thresholds().r.saturating_add(1) })",
    },
    // As many as may lie vote somebody out.
    Defect {
        name: "liars-vote-members-out",
        file: "ledger/members.rs",
        from: "let quorum = self.thresholds().quorum;",
        to: "let quorum = if $on { self.thresholds().r } else { self.thresholds().quorum };",
    },
    // Who finds a lie keeps it to itself.
    Defect {
        name: "nobody-accuses",
        file: "replica/accusing.rs",
        from: "if !self.replaying && !known && !self.is_unseated() {",
        to: "if !$on && !self.replaying && !known && !self.is_unseated() {",
    },
    // What goes to carriers through several rosters is put into a block as it was signed.
    Defect {
        name: "handed-not-checked-again",
        file: "replica/carry.rs",
        from: "handed.command.verify_signature(&genesis).is_err()",
        to: "!$on && handed.command.verify_signature(&genesis).is_err()",
    },
];
