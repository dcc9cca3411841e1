//! Total order: what clients are told is one sequence.
//!
//! Positions reported by one member never fall within a life; no two commands share a position; a numbered command is
//! executed once, whoever carried it and however often it was handed in; of two competing heads one wins, and the
//! winners of one volume rise with the order, as do the fencing numbers of its leases.

use super::{Ending, Property};
use crate::observation::Observation;
use crate::oracle::Ended;
use barfs_replication::{Command, Effect, Event, Issuer, MemberId, Outcome, Refusal, VolumeId};
use std::collections::BTreeMap;

/// A command: its issuer and the issuer's number for it.
type Name = (Issuer, u64);

/// The sequence as far as it was reported.
#[derive(Debug, Default)]
pub(super) struct Order {
    last: BTreeMap<MemberId, u64>,
    positions: BTreeMap<u64, (MemberId, Name, Outcome)>,
    executed: BTreeMap<(Issuer, u64), u64>,
    heads: BTreeMap<VolumeId, BTreeMap<u64, (u64, Vec<u8>)>>,
    leases: BTreeMap<VolumeId, BTreeMap<u64, u64>>,
}

impl Order {
    fn ended(&mut self, ended: &Ended) -> Result<(), String> {
        let (issuer, number, index) = (ended.issuer, ended.number, ended.index);
        // Whoever was away got the state and not the outcome.
        if ended.outcome == Outcome::Refused(Refusal::Unseen) {
            return Ok(());
        }
        if ended.outcome == Outcome::Refused(Refusal::DuplicateNumber) {
            if ended.attempts <= 1 {
                return Err(format!(
                    "{issuer:?} number {number} is called a duplicate at its first attempt"
                ));
            }
            return Ok(());
        }
        if ended.ticket.is_some() {
            let last = self.last.entry(ended.member).or_insert(0);
            // A command that was handed in twice there comes to both its ends at one position.
            if index < *last {
                return Err(format!(
                    "{} reports position {index} after {last}",
                    ended.member
                ));
            }
            *last = index;
        }
        self.holds(ended.member, index, (issuer, number), &ended.outcome)?;
        if takes_number(&ended.outcome) {
            let first = *self.executed.entry((issuer, number)).or_insert(index);
            if first != index {
                return Err(format!(
                    "{issuer:?} number {number} was executed at {first} and at {index}"
                ));
            }
        }
        match (&ended.command, &ended.outcome) {
            (
                Command::SetHead {
                    volume,
                    sequence,
                    bytes,
                    ..
                },
                Outcome::Applied(_),
            ) => self.head(*volume, *sequence, index, bytes),
            (
                Command::AcquireLease { volume, .. },
                Outcome::Applied(Effect::Lease { fencing, .. }),
            ) => rises(
                self.leases.entry(*volume).or_default(),
                index,
                u64::from(*fencing),
                "fencing number",
            ),
            _ => Ok(()),
        }
    }

    /// Every member that speaks of a position must say the same of it.
    fn holds(
        &mut self,
        member: MemberId,
        index: u64,
        name: Name,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let known = self
            .positions
            .entry(index)
            .or_insert_with(|| (member, name, outcome.clone()));
        if (known.1, &known.2) == (name, outcome) {
            return Ok(());
        }
        let (first, other, ended) = known;
        Err(format!(
            "position {index} holds {name:?} with {outcome:?} at {member}, {other:?} with {ended:?} at {first}"
        ))
    }

    fn head(
        &mut self,
        volume: VolumeId,
        sequence: u64,
        index: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let heads = self.heads.entry(volume).or_default();
        if let Some((first, known)) = heads.get(&sequence) {
            if known != bytes {
                return Err(format!(
                    "two heads of one volume won sequence {sequence}, at {first} and {index}"
                ));
            }
            return Ok(());
        }
        heads.insert(sequence, (index, bytes.to_vec()));
        let mut by_index: Vec<(u64, u64)> = heads
            .iter()
            .map(|(sequence, (index, _))| (*index, *sequence))
            .collect();
        by_index.sort_unstable();
        if by_index
            .windows(2)
            .any(|pair| matches!(pair, [(_, low), (_, high)] if low >= high))
        {
            return Err(format!(
                "heads of one volume do not rise with the order: {by_index:?}"
            ));
        }
        Ok(())
    }
}

/// Whether an outcome uses up the number of its command.
fn takes_number(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Refused(
            Refusal::DuplicateNumber
                | Refusal::UnknownDevice
                | Refusal::DeviceRevoked
                | Refusal::Allowance
                | Refusal::Suspended
                | Refusal::NumberTooFar { .. }
        )
    )
}

/// Adds `value` at `index` and checks that values rise with indices.
fn rises(known: &mut BTreeMap<u64, u64>, index: u64, value: u64, what: &str) -> Result<(), String> {
    let below = known.range(..index).next_back().map(|(_, value)| *value);
    let above = known.range(index + 1..).next().map(|(_, value)| *value);
    if below.is_some_and(|below| below >= value) || above.is_some_and(|above| above <= value) {
        return Err(format!(
            "{what} {value} at {index} does not rise: {below:?} before, {above:?} after"
        ));
    }
    known.insert(index, value);
    Ok(())
}

impl Property for Order {
    fn name(&self) -> &'static str {
        "total order"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Ended(ended) => self.ended(ended),
            Observation::Event {
                member,
                event:
                    Event::Executed {
                        index,
                        issuer,
                        number,
                        outcome,
                    },
            } => self.holds(*member, *index, (*issuer, *number), outcome),
            Observation::Crashed { member, .. } => {
                self.last.remove(member);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, _ending: &Ending<'_>) -> Result<(), String> {
        Ok(())
    }
}
