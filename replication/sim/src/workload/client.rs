//! One member's client: its devices, its volume, its open commands.

use super::Views;
use crate::group::Group;
use crate::oracle::{Ended, Submission};
use crate::plan::{Errand, Load, Plan, Scenario};
use crate::rng::{Rng, SECOND};
use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{
    BlockCommand, Command, Issuer, MemberId, QuestionId, Replica, SignedCommand, VolumeId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Micros without an answer after which a command is handed in again.
const PATIENCE: u64 = 4 * SECOND;
/// Open commands beyond which a client waits.
const OPEN_MAX: usize = 24;

/// A command that has no end yet.
#[derive(Debug)]
struct Open {
    command: BlockCommand,
    carrier: MemberId,
    since: u64,
    lost: bool,
    attempt: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) member: MemberId,
    stays: bool,
    pub(super) group: Arc<Group>,
    pub(super) rng: Rng,
    pub(super) devices: Vec<SigningKey>,
    pub(super) volume: VolumeId,
    numbers: BTreeMap<Issuer, u64>,
    open: BTreeMap<(Issuer, u64), Open>,
    pub(super) packs: u64,
    pub(super) homes: u64,
    load: Load,
    handed_in: u64,
    /// What it has to ask for yet, and when.
    pub(super) errands: Vec<(u64, Errand)>,
    /// Newcomers for which it gave its word.
    pub(super) voted: BTreeSet<NodeId>,
    /// Its key for the beacon, if it takes part; whether that was registered, and the newest period that it was used for.
    pub(super) beacon: Option<(bool, Option<u64>)>,
    /// Whether it asks others on the record, and what it has answered.
    asks: bool,
    pub(super) answered: BTreeSet<QuestionId>,
    /// It has asked to leave.
    pub(super) left: bool,
    probed: bool,
}

impl Client {
    pub(super) fn new(member: MemberId, plan: &Plan, group: Arc<Group>, mut rng: Rng) -> Self {
        let devices = (0..rng.between(1, 3))
            .map(|_| SigningKey::from_seed(rng.bytes()))
            .collect();
        let volume = VolumeId(rng.bytes());
        Client {
            member,
            stays: plan.stays(member.0),
            group,
            rng,
            devices,
            volume,
            numbers: BTreeMap::new(),
            open: BTreeMap::new(),
            packs: 0,
            homes: 0,
            load: plan.load,
            handed_in: 0,
            errands: errands(plan, member),
            voted: BTreeSet::new(),
            beacon: plan.beacon.then_some((false, None)),
            asks: plan.scenario == Scenario::Questions,
            answered: BTreeSet::new(),
            left: false,
            probed: false,
        }
    }

    pub(super) fn probed(&self) -> bool {
        self.probed || !self.stays && !self.has_to_leave()
    }

    /// Whether it is to leave and has not asked to: it may have been down when it was time.
    fn has_to_leave(&self) -> bool {
        let mut errands = self.errands.iter();
        errands.any(|(_, errand)| *errand == Errand::Leave)
    }

    pub(super) fn probe_again(&mut self) {
        self.probed = false;
    }

    pub(super) fn skip_probe(&mut self) {
        self.probed = true;
    }

    pub(super) fn power_lost(&mut self, carrier: MemberId) {
        for open in self.open.values_mut() {
            open.lost |= open.carrier == carrier;
        }
    }

    pub(super) fn forget(&mut self, name: &(Issuer, u64)) {
        self.open.remove(name);
    }

    pub(super) fn ended(&mut self, ended: &Ended) {
        self.open.remove(&(ended.issuer, ended.number));
    }

    pub(super) fn step(
        &mut self,
        at: u64,
        views: &Views<'_>,
        calm: bool,
        tickets: &mut u64,
    ) -> Vec<Submission> {
        if calm && !self.stays {
            // Its own commands end with its seat, or with its silence; that it leaves is for the others to know.
            let own = Issuer::Member(self.member);
            let leave = |open: &Open| matches!(open.command.command(), Command::Leave { .. });
            self.open
                .retain(|(issuer, _), open| *issuer != own || leave(open));
        }
        let mut submissions = self.again(at, views, tickets);
        let home_is_up = views.get(self.member.index()).is_some_and(Option::is_some);
        if calm {
            if let Some(home) = views.get(self.member.index()).copied().flatten()
                && (self.stays || self.has_to_leave())
            {
                submissions.extend(self.run_errands(at, home, tickets));
                submissions.extend(self.answer(at, home, tickets));
            }
            if home_is_up && self.stays && !self.probed {
                self.probed = true;
                let note = Command::Note {
                    bytes: b"probe".to_vec(),
                };
                submissions.extend(self.hand_in_own(at, note, tickets));
            }
            return submissions;
        }
        if !self.stays && self.left {
            return submissions;
        }
        if let Some(home) = views.get(self.member.index()).copied().flatten() {
            submissions.extend(self.run_errands(at, home, tickets));
            submissions.extend(self.reveal(at, home, tickets));
            submissions.extend(self.answer(at, home, tickets));
            if self.asks {
                submissions.extend(self.ask(at, home, tickets));
            }
            if self.left {
                return submissions;
            }
        }
        if home_is_up {
            submissions.extend(self.fill_up(at, tickets));
        }
        if self.load.only || self.open.len() >= OPEN_MAX + self.load.notes {
            return submissions;
        }
        // A client reads at home if it can, else wherever somebody is up: that view may be old.
        let up: Vec<_> = views.iter().flatten().collect();
        let view = views
            .get(self.member.index())
            .copied()
            .flatten()
            .or_else(|| self.rng.pick(&up).map(|view| **view));
        if let Some(view) = view {
            submissions.extend(self.act(at, view.ledger(), views, home_is_up, tickets));
        }
        submissions
    }

    /// Keeps as many notes on their way as the plan wants.
    fn fill_up(&mut self, at: u64, tickets: &mut u64) -> Vec<Submission> {
        let on_their_way = if self.load.open_loop {
            0
        } else {
            self.open.len()
        };
        let lacking = self.load.notes.saturating_sub(on_their_way);
        let notes = (0..lacking).filter_map(|_| {
            self.handed_in += 1;
            let bytes = vec![self.rng.below(256) as u8; self.load.bytes];
            match self.load.carried && self.handed_in.is_multiple_of(3) {
                true => self.hand_to_another(at, Command::Note { bytes }, tickets),
                false => self.hand_in_own(at, Command::Note { bytes }, tickets),
            }
        });
        notes.collect()
    }

    /// A command with the recovery key's signature, through another member, each in turn.
    fn hand_to_another(
        &mut self,
        at: u64,
        command: Command,
        tickets: &mut u64,
    ) -> Option<Submission> {
        let group = Arc::clone(&self.group);
        let members = group.genesis().ids().len() as u64;
        let step = 1 + self.handed_in / 3 % (members - 1);
        let carrier = MemberId(((u64::from(self.member.0) + step) % members) as u16);
        let issuer = Issuer::Recovery(self.member);
        let number = self.next_number(issuer);
        let key = group.recovery_key(self.member).ok()?;
        let signed = SignedCommand::sign(group.id(), key, issuer, number, command);
        Some(self.open(at, issuer, carrier, BlockCommand::Signed(signed), tickets))
    }

    /// Hands in again what has lost its carrier or waited for long.
    fn again(&mut self, at: u64, views: &Views<'_>, tickets: &mut u64) -> Vec<Submission> {
        let due: Vec<(Issuer, u64)> = self
            .open
            .iter()
            .filter(|(_, open)| open.lost || at >= open.since + PATIENCE)
            .map(|(name, _)| *name)
            .collect();
        let mut submissions = Vec::new();
        for (issuer, number) in due {
            let own = issuer == Issuer::Member(self.member);
            let attempt = self
                .open
                .get(&(issuer, number))
                .map_or(0, |open| open.attempt);
            let Some(carrier) = self.carrier(views, own, attempt) else {
                continue;
            };
            let Some(open) = self.open.get_mut(&(issuer, number)) else {
                continue;
            };
            (open.carrier, open.since, open.lost) = (carrier, at, false);
            open.attempt += 1;
            *tickets += 1;
            let (command, attempt) = (open.command.clone(), open.attempt);
            submissions.push(Submission {
                via: carrier,
                ticket: *tickets,
                issuer,
                number,
                attempt,
                command,
            });
        }
        submissions
    }

    /// Who carries a command: mostly the client's own member, unless that came to nothing, and only that one for its own.
    fn carrier(&mut self, views: &Views<'_>, own: bool, attempt: u32) -> Option<MemberId> {
        let is_up = |view: &Option<&Replica>| view.is_some();
        let home = views.get(self.member.index()).is_some_and(is_up);
        // Whoever gives up its seat, or speaks to nobody, carries nothing.
        let at_home = home && (own || self.stays);
        if own || (at_home && attempt < 3 && self.rng.per_mille(700)) {
            return at_home.then_some(self.member);
        }
        let up = views.iter().enumerate().filter(|(_, view)| view.is_some());
        let up = up.map(|(id, _)| MemberId(id as u16));
        let up: Vec<MemberId> = up.filter(|id| at_home || *id != self.member).collect();
        self.rng.pick(&up).copied()
    }

    fn next_number(&mut self, issuer: Issuer) -> u64 {
        let number = self.numbers.entry(issuer).or_insert(0);
        *number += 1;
        *number
    }

    fn open(
        &mut self,
        at: u64,
        issuer: Issuer,
        carrier: MemberId,
        command: BlockCommand,
        tickets: &mut u64,
    ) -> Submission {
        *tickets += 1;
        let number = command.number();
        let open = Open {
            command: command.clone(),
            carrier,
            since: at,
            lost: false,
            attempt: 1,
        };
        self.open.insert((issuer, number), open);
        Submission {
            via: carrier,
            ticket: *tickets,
            issuer,
            number,
            attempt: 1,
            command,
        }
    }

    /// A command that the member itself vouches for.
    pub(super) fn hand_in_own(
        &mut self,
        at: u64,
        command: Command,
        tickets: &mut u64,
    ) -> Option<Submission> {
        let issuer = Issuer::Member(self.member);
        let number = self.next_number(issuer);
        Some(self.open(
            at,
            issuer,
            self.member,
            BlockCommand::Own { number, command },
            tickets,
        ))
    }

    /// A command signed by a device, or by the recovery key if there is none.
    pub(super) fn hand_in(
        &mut self,
        at: u64,
        device: Option<&SigningKey>,
        command: Command,
        views: &Views<'_>,
        tickets: &mut u64,
    ) -> Option<Submission> {
        let carrier = self.carrier(views, false, 0)?;
        let group = Arc::clone(&self.group);
        let (issuer, key) = match device {
            Some(device) => (Issuer::Device(device.id()), device),
            None => (
                Issuer::Recovery(self.member),
                group.recovery_key(self.member).ok()?,
            ),
        };
        let number = self.next_number(issuer);
        let signed = SignedCommand::sign(group.id(), key, issuer, number, command);
        Some(self.open(at, issuer, carrier, BlockCommand::Signed(signed), tickets))
    }
}

/// What the plan has a member ask for.
fn errands(plan: &Plan, member: MemberId) -> Vec<(u64, Errand)> {
    let leaves = plan.leaves.iter();
    let leaves = leaves.map(|(who, at)| (*who, *at, Errand::Leave));
    let errands = leaves.chain(plan.membership.errands.iter().copied());
    errands
        .filter(|(who, ..)| *who == member.0)
        .map(|(_, at, errand)| (at, errand))
        .collect()
}
