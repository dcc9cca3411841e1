//! The ledger's state and how it is read. The rules are in the files beside it: devices and homes, volumes with
//! their leases and heads, packs with their quotas.
//!
//! Invariants: nothing is placed past `used <= allowance` (the pledge, less penance, more credit) and `held <= pledge`
//! of any account; `apply` and `advance` are total and depend on
//! nothing but the state and their arguments.
//!
//! All that commands change lies in the [`Tables`]; `held` and `releasing` are found again from them.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::{Digest, NodeId, hash};
use borsh::{BorshDeserialize, BorshSerialize};

use super::beacon::BeaconPart;
use super::command::{
    BlockCommand, Command, DEVICE_LABEL_BYTES_MAX, HEAD_BYTES_MAX, HEADER_BYTES_MAX, Issuer,
    VOLUME_NAME_BYTES_MAX, VolumeId,
};
use super::numbers::NUMBER_MAX;
use super::outcome::{Effect, LedgerEvent, Outcome, Refusal};
use super::pack::PackRecord;
use super::pages::PageName;
use super::rows::Tables;
use super::suspension::Suspension;
use super::tree::StateTree;
use super::witness::QuestionId;
use crate::membership::{Genesis, MemberId};
use crate::time::{LiveTime, WallTime};
use crate::wire;

/// A certified device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Device {
    /// Whose it is.
    pub member: MemberId,
    /// For people.
    #[borsh(deserialize_with = "wire::text::<_, DEVICE_LABEL_BYTES_MAX>")]
    pub label: String,
    /// Its rights have ended.
    pub revoked: bool,
}

/// The newest state of a volume, opaque to the group.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// Grows by one with each head, from 1.
    pub sequence: u64,
    /// The head, sealed by the volume.
    #[borsh(deserialize_with = "wire::bytes::<_, HEAD_BYTES_MAX>")]
    pub bytes: Vec<u8>,
    /// Fencing number of the lease under which it was set.
    pub fencing: u32,
    /// Who set it.
    pub device: NodeId,
}

/// The right to write a volume.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Lease {
    /// Who has it.
    pub device: NodeId,
    /// Its number; grows with every grant.
    pub fencing: u32,
    /// When others may take it without stealing.
    pub until: LiveTime,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Volume {
    /// Whose it is.
    pub member: MemberId,
    /// For people.
    #[borsh(deserialize_with = "wire::text::<_, VOLUME_NAME_BYTES_MAX>")]
    pub name: String,
    /// The wrapped master keys.
    #[borsh(deserialize_with = "wire::bytes::<_, HEADER_BYTES_MAX>")]
    pub header: Vec<u8>,
    /// The newest head, if there is one.
    pub head: Option<Head>,
    /// The writer, if there is one.
    pub lease: Option<Lease>,
    /// The newest fencing number; 0 before the first lease.
    pub fencing: u32,
}

impl Volume {
    /// The digest of its header: what [`Command::ReplaceHeader`] names.
    #[must_use]
    pub fn header_digest(&self) -> Digest {
        hash(&self.header)
    }
}

/// Whether a pack stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum PackState {
    /// It stays.
    Active = 1,
    /// It is dropped at that live time unless somebody objects.
    Releasing {
        /// When.
        until: LiveTime,
        /// Who released it.
        by: Issuer,
    } = 2,
}

/// A pack on record.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PackEntry {
    /// The pack.
    pub record: PackRecord,
    /// Whether it stays.
    pub state: PackState,
    /// Live time of its placement.
    pub placed: LiveTime,
}

/// What a member lends and uses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// What it lends.
    pub pledge: u64,
    /// What its packs cost, redundancy included, each at least 1 MiB.
    pub used: u64,
    /// Shards that it holds for others.
    pub held: u64,
    /// Its packs.
    pub packs: u64,
    /// The first lie that was proven of it.
    pub convicted: Option<Conviction>,
    /// Duties that it did not do in time.
    pub silences: u32,
    /// It has not done anything of the kind since the last of them.
    pub unresponsive: bool,
    /// Its part in the beacon.
    pub beacon: BeaconPart,
    /// The audit epoch in which it last put questions, and how many.
    pub asked_epoch: u64,
    /// See `asked_epoch`.
    pub asked: u32,
    /// What it may use less, for blocks that came late.
    pub penance: u64,
    /// The audit epoch in which others last carried commands for it, and how many bytes.
    pub carried_epoch: u64,
    /// See `carried_epoch`.
    pub carried: u64,
    /// What it may use more: others owe it to those that did not leave their late blocks out.
    pub credit: u64,
    /// Its seat is suspended: its blocks do not show that it executed.
    pub suspended: Option<Suspension>,
    /// How often that was because they contradicted the state.
    pub contradictions: u32,
}

/// A proven lie on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Conviction {
    /// The tag of the evidence's kind.
    pub kind: u8,
    /// When, in live time.
    pub live: LiveTime,
}

/// Who acts, resolved against the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) issuer: Issuer,
    pub(super) member: MemberId,
    pub(super) access: Access,
}

/// What somebody may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// A member: anything that is its own.
    Member,
    /// No member any more, with packs yet: what it takes to get them back, or to give them up.
    Former,
    /// Nothing.
    Gone,
}

/// The state.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) genesis: Arc<Genesis>,
    pub(super) tables: Tables,
    pub(super) tree: StateTree,
    /// The pages with packs of which a member holds shards, and how many.
    pub(super) held: BTreeMap<MemberId, BTreeMap<PageName, u16>>,
    pub(super) releasing: BTreeSet<(LiveTime, VolumeId, u64)>,
    pub(super) live: LiveTime,
    pub(super) wall: WallTime,
    pub(super) index: u64,
    pub(super) round: u64,
    /// When the packs of those that are no members any more are due to be dropped.
    pub(super) departing: BTreeSet<(LiveTime, MemberId)>,
    /// When the questions on record are due.
    pub(super) due: BTreeSet<(LiveTime, QuestionId)>,
    /// Everything executed, and what came of it.
    pub(super) history: Digest,
    pub(super) root: Digest,
    pub(super) events: VecDeque<LedgerEvent>,
}

impl Ledger {
    /// Moves the group's clocks, which never go back, and does what is due.
    pub fn advance(&mut self, live: LiveTime, wall: WallTime) {
        self.live = self.live.max(live);
        self.wall = self.wall.max(wall);
        self.drop_released();
        self.drop_departed();
        self.expire_questions();
        self.step_beacon();
        self.step_penance();
        self.step_term();
    }

    /// A leader of this round was committed.
    pub(crate) fn at_round(&mut self, round: u64) {
        self.round = self.round.max(round);
    }

    /// Executes one command of a block of `author`, whose signatures are verified, at a live time.
    pub fn apply(&mut self, live: LiveTime, author: MemberId, command: &BlockCommand) -> Outcome {
        if live > self.live {
            self.advance(live, self.wall);
        }
        self.index += 1;
        match self.execute(author, command) {
            Ok(effect) => Outcome::Applied(effect),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn execute(&mut self, author: MemberId, command: &BlockCommand) -> Result<Effect, Refusal> {
        if let BlockCommand::Unnumbered(command) = command {
            return match command {
                Command::Accuse { evidence } => self.accuse(evidence),
                Command::Join { token, card } => self.join(token, card),
                _ => Err(Refusal::NotAllowed),
            };
        }
        let issuer = command.issuer(author);
        let actor = self.actor(issuer)?;
        self.check_seat(author, (issuer, actor.member))?;
        let number = command.number();
        if number >= NUMBER_MAX {
            let next = self.next_number(&issuer);
            return Err(Refusal::NumberTooFar { next });
        }
        if let BlockCommand::Signed(signed) = command
            && author != actor.member
        {
            self.charge_carried(actor.member, signed)?;
        }
        if !self.tables.numbers.or_default(issuer).take(number) {
            return Err(Refusal::DuplicateNumber);
        }
        match may(actor.access, command.command()) {
            true => self.dispatch(actor, command.command()),
            false => Err(Refusal::UnknownMember(actor.member)),
        }
    }

    fn actor(&self, issuer: Issuer) -> Result<Actor, Refusal> {
        let member = match issuer {
            Issuer::Member(member) | Issuer::Recovery(member) => member,
            Issuer::Device(key) => match self.tables.devices.get(&key) {
                None => return Err(Refusal::UnknownDevice),
                Some(device) if device.revoked => return Err(Refusal::DeviceRevoked),
                Some(device) => device.member,
            },
        };
        if self.tables.seats.get(&member).is_none() {
            return Err(Refusal::UnknownMember(member));
        }
        let access = match self.genesis.member(member) {
            Some(_) => Access::Member,
            None if self.genesis.recovery_key(member).is_some() => Access::Former,
            None => Access::Gone,
        };
        Ok(Actor {
            issuer,
            member,
            access,
        })
    }

    fn dispatch(&mut self, actor: Actor, command: &Command) -> Result<Effect, Refusal> {
        match command {
            Command::AddDevice {
                member,
                device,
                label,
            } => self.add_device(actor, *member, *device, label),
            Command::RevokeDevice { member, device } => self.revoke_device(actor, *member, *device),
            Command::SetHome { home } => self.set_home(actor, home),
            Command::CreateVolume {
                member,
                volume,
                name,
                header,
            } => self.create_volume(actor, *member, *volume, (name, header)),
            Command::AcquireLease {
                volume,
                duration_ms,
                steal,
            } => self.acquire_lease(actor, *volume, *duration_ms, *steal),
            Command::RenewLease {
                volume,
                fencing,
                duration_ms,
            } => self.renew_lease(actor, *volume, *fencing, *duration_ms),
            Command::ReleaseLease { volume, fencing } => {
                self.release_lease(actor, *volume, *fencing)
            }
            Command::Place { packs } => self.place(actor, packs),
            Command::SetHead {
                volume,
                sequence,
                fencing,
                bytes,
            } => self.set_head(actor, *volume, (*sequence, *fencing), bytes),
            Command::Release { volume, packs } => self.release(actor, *volume, packs),
            Command::VetoRelease { volume, packs } => self.veto_release(actor, *volume, packs),
            Command::Note { .. } => Ok(Effect::Done),
            Command::ReadMark { nonce } => self.read_mark(actor, *nonce),
            Command::Accuse { evidence } => self.accuse(evidence),
            Command::Ask {
                id,
                to,
                question,
                deadline_ms,
            } => self.ask(actor, *id, (*to, question), *deadline_ms),
            Command::Respond { id, .. } => self.respond(actor, *id),
            Command::RegisterVrf { public, possession } => {
                self.register_vrf(actor, public, possession)
            }
            Command::Reveal { epoch, reveal } => self.reveal(actor, *epoch, reveal),
            Command::Join { token, card } => self.join(token, card),
            Command::Leave { member } => self.leave(actor, *member),
            Command::Vote { subject, approve } => self.vote(actor, *subject, *approve),
            Command::RotateIdentity { member, card } => self.rotate(actor, *member, card),
            Command::Vacation {
                member,
                from,
                until,
            } => self.announce_vacation(actor, *member, (*from, *until)),
            Command::ReplaceHeader {
                volume,
                replaces,
                header,
            } => self.replace_header(actor, *volume, *replaces, header),
        }
    }

    fn read_mark(&mut self, actor: Actor, nonce: [u8; 16]) -> Result<Effect, Refusal> {
        if !matches!(actor.issuer, Issuer::Member(_)) {
            return Err(Refusal::NotAllowed);
        }
        self.events.push_back(LedgerEvent::Marked { nonce });
        Ok(Effect::Done)
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = LedgerEvent> {
        core::mem::take(&mut self.events).into_iter()
    }
}

/// Whoever has left keeps what it takes to get its data back: its recovery key certifies devices, devices ask holders on
/// the record, and both can give packs up.
fn may(access: Access, command: &Command) -> bool {
    match access {
        Access::Member => true,
        Access::Gone => false,
        Access::Former => matches!(
            command,
            Command::AddDevice { .. }
                | Command::RevokeDevice { .. }
                | Command::SetHome { .. }
                | Command::Release { .. }
                | Command::VetoRelease { .. }
                | Command::Ask { .. }
        ),
    }
}
