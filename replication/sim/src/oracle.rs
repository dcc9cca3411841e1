//! What the group owes to those who use it.
//!
//! Owns the record of every command handed in, how it ended, and what follows from that for the state: a promise per
//! subject, the one with the highest index counts. It learns only from what members report to their clients. Never
//! asks a ledger what it thinks.

use crate::observation::Observation;
use barfs_crypto::{Digest, NodeId};
use barfs_replication::{
    BlockCommand, Command, Event, Issuer, MemberId, Outcome, Refusal, VolumeId,
};
use std::collections::{BTreeMap, BTreeSet};

/// A command on its way to a member.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The member that it is handed to.
    pub via: MemberId,
    /// Unique in the run.
    pub ticket: u64,
    /// Who issued it.
    pub issuer: Issuer,
    /// The issuer's number for it.
    pub number: u64,
    /// How often it has been handed in, this time included.
    pub attempt: u32,
    /// The command.
    pub command: BlockCommand,
}

impl Submission {
    /// What it asks for.
    pub fn what(&self) -> &Command {
        match &self.command {
            BlockCommand::Own { command, .. } | BlockCommand::Unnumbered(command) => command,
            BlockCommand::Signed(signed) => &signed.command,
        }
    }
}

/// The end of a command.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The member that reported it.
    pub member: MemberId,
    /// Position in the order.
    pub index: u64,
    /// The ticket of the submission, if the member that carried it tells.
    pub ticket: Option<u64>,
    /// Who issued it.
    pub issuer: Issuer,
    /// The issuer's number for it.
    pub number: u64,
    /// How often it had been handed in by then.
    pub attempts: u32,
    /// The command.
    pub command: Command,
    /// What came of it.
    pub outcome: Outcome,
    /// Whether nobody told before.
    pub first: bool,
}

/// What a promise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A device of a member.
    Device(NodeId),
    /// A volume.
    Volume(VolumeId),
    /// The head of a volume.
    Head(VolumeId),
    /// A pack.
    Pack(VolumeId, u64),
}

/// What the state must show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It is there.
    Present,
    /// It is not there.
    Absent,
    /// The head is at this sequence with these bytes, or at a later one.
    HeadAtLeast(u64, Vec<u8>),
    /// The pack is there under this root.
    Placed(Digest),
    /// The pack may be there or not.
    Open,
}

/// Every acknowledgement of a run.
#[derive(Debug, Default)]
pub struct Oracle {
    open: BTreeMap<u64, Submission>,
    /// Every command ever handed in, with how often it was.
    known: BTreeMap<(Issuer, u64), (Command, u32)>,
    owed: BTreeSet<(Issuer, u64)>,
    /// Commands that ended with their number unused: what another member carries of them may execute yet.
    unused: BTreeSet<(Issuer, u64)>,
    promises: BTreeMap<Subject, (u64, Promise)>,
    ended: BTreeMap<Issuer, u64>,
    acknowledged: u64,
}

impl Oracle {
    /// A command is handed in.
    pub fn submitted(&mut self, submission: &Submission) {
        self.open.insert(submission.ticket, submission.clone());
        let name = (submission.issuer, submission.number);
        self.owed.insert(name);
        let what = submission.what().clone();
        self.known.insert(name, (what, submission.attempt));
    }

    /// Mutant: takes the handing in for the end.
    pub fn acknowledge_unordered(&mut self, submission: &Submission) {
        let ended = (submission.issuer, submission.number);
        self.acknowledge(ended.0, ended.1, u64::MAX, submission.what());
    }

    /// Learns from a report; returns the end of a command if it is one. The member that carried a command tells by its
    /// ticket; of a command with its issuer's signature every member tells.
    pub fn observe(&mut self, observation: &Observation) -> Option<Ended> {
        let (member, index, name, ticket, outcome) = match observation {
            Observation::Executed {
                member,
                index,
                ticket: Some(ticket),
                outcome,
                ..
            } => {
                let submission = self.open.remove(ticket)?;
                let name = (submission.issuer, submission.number);
                (member, index, name, Some(*ticket), outcome)
            }
            Observation::Event {
                member,
                event:
                    Event::Executed {
                        index,
                        issuer,
                        number,
                        outcome,
                    },
            } if *outcome != Outcome::Refused(Refusal::DuplicateNumber) => {
                (member, index, (*issuer, *number), None, outcome)
            }
            _ => return None,
        };
        if matches!(outcome, Outcome::Refused(Refusal::Busy | Refusal::Outdated)) {
            return None;
        }
        let (command, attempts) = self.known.get(&name)?.clone();
        let open = self.owed.remove(&name);
        match outcome {
            Outcome::Applied(_) if open || self.unused.remove(&name) => {
                self.acknowledge(name.0, name.1, *index, &command)
            }
            // It was executed by another way in; what came of it there was never told.
            Outcome::Refused(Refusal::DuplicateNumber | Refusal::Unseen) if open => {
                self.forget(&command);
            }
            Outcome::Refused(Refusal::Suspended | Refusal::Allowance) => {
                self.unused.insert(name);
            }
            _ => {}
        }
        Some(Ended {
            member: *member,
            index: *index,
            ticket,
            issuer: name.0,
            number: name.1,
            attempts,
            command,
            outcome: outcome.clone(),
            first: open,
        })
    }

    /// Which command was handed in under a ticket that has no answer yet.
    pub fn asked(&self, ticket: u64) -> Option<(Issuer, u64)> {
        let submission = self.open.get(&ticket)?;
        Some((submission.issuer, submission.number))
    }

    /// A command is owed no longer: nobody can take it any more.
    pub fn turned_away(&mut self, name: &(Issuer, u64)) {
        self.owed.remove(name);
        let named = |it: &Submission| (it.issuer, it.number) == *name;
        self.open.retain(|_, submission| !named(submission));
    }

    /// A member's own commands end with the member.
    pub fn forgive(&mut self, gone: impl Iterator<Item = MemberId>) {
        for member in gone {
            self.owed
                .retain(|(issuer, _)| *issuer != Issuer::Member(member));
        }
    }

    /// A member lost power: it answers nothing of what was handed in there.
    pub fn power_lost(&mut self, carrier: MemberId) {
        self.open.retain(|_, submission| submission.via != carrier);
    }

    /// Something that was handed in to one of these members, which has not lost power since, and was never answered.
    pub fn unanswered(&self, by: impl Fn(MemberId) -> bool) -> Option<&Submission> {
        self.open.values().find(|submission| by(submission.via))
    }

    /// Whether a command of one of these issuers has no end yet.
    pub fn owes(&self, of: impl Fn(&Issuer) -> bool) -> bool {
        self.owed.iter().any(|(issuer, _)| of(issuer))
    }

    /// Commands handed in that have no end yet.
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// The first few commands that have no end yet.
    pub fn owed_sample(&self) -> Vec<(Issuer, u64)> {
        self.owed.iter().take(5).copied().collect()
    }

    /// Commands acknowledged as applied.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What the state must show.
    pub fn promises(&self) -> impl Iterator<Item = (&Subject, &Promise)> {
        self.promises
            .iter()
            .map(|(subject, (_, promise))| (subject, promise))
    }

    /// The highest number of each issuer that was acknowledged.
    pub fn numbers(&self) -> impl Iterator<Item = (&Issuer, &u64)> {
        self.ended.iter()
    }

    fn acknowledge(&mut self, issuer: Issuer, number: u64, index: u64, command: &Command) {
        self.acknowledged += 1;
        let highest = self.ended.entry(issuer).or_insert(number);
        *highest = (*highest).max(number);
        for (subject, promise) in promised(command) {
            let known = self.promises.entry(subject).or_insert((0, Promise::Open));
            if known.0 <= index {
                *known = (index, promise);
            }
        }
    }

    /// Nothing is promised any more about what a command touches, save that heads never go back.
    fn forget(&mut self, command: &Command) {
        for (subject, _) in promised(command) {
            if !matches!(subject, Subject::Head(_)) {
                self.promises.insert(subject, (u64::MAX, Promise::Open));
            }
        }
    }
}

/// What an applied command promises.
fn promised(command: &Command) -> Vec<(Subject, Promise)> {
    match command {
        Command::AddDevice { device, .. } => vec![(Subject::Device(*device), Promise::Present)],
        Command::RevokeDevice { device, .. } => vec![(Subject::Device(*device), Promise::Absent)],
        Command::CreateVolume { volume, .. } => vec![(Subject::Volume(*volume), Promise::Present)],
        Command::SetHead {
            volume,
            sequence,
            bytes,
            ..
        } => {
            vec![(
                Subject::Head(*volume),
                Promise::HeadAtLeast(*sequence, bytes.clone()),
            )]
        }
        Command::Place { packs } => packs
            .iter()
            .map(|pack| {
                (
                    Subject::Pack(pack.record.volume, pack.record.number),
                    Promise::Placed(pack.record.root),
                )
            })
            .collect(),
        Command::Release { volume, packs } => packs
            .iter()
            .map(|number| (Subject::Pack(*volume, *number), Promise::Open))
            .collect(),
        // A veto that came in time keeps the pack, but its root is promised by the placement only.
        _ => Vec::new(),
    }
}
