//! The ledger's state and how it is read. The rules are in the files beside it: devices and homes, volumes with
//! their leases and heads, packs with their quotas.
//!
//! Invariants: `used <= pledge` and `held <= pledge` of every account; `apply` and `advance` are total and depend on
//! nothing but the state and their arguments.
//!
//! The root is a running digest over everything executed and its outcomes, not yet a tree over the state: it shows
//! that two members executed the same, and cannot prove a single value.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::{Digest, NodeId, derive_parts};

use super::command::{BlockCommand, Command, Issuer, SignedHome, VolumeId};
use super::numbers::{NUMBER_MAX, Numbers};
use super::outcome::{Effect, LedgerEvent, Outcome, Refusal};
use super::pack::PackRecord;
use crate::membership::{Genesis, MemberId};
use crate::time::{LiveTime, WallTime};
use crate::wire;

const GENESIS_ROOT_DOMAIN: &str = "barfs 2026 ledger genesis root v1";
const STEP_DOMAIN: &str = "barfs 2026 ledger step v1";

/// A certified device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Whose it is.
    pub member: MemberId,
    /// For people.
    pub label: String,
    /// Its rights have ended.
    pub revoked: bool,
}

/// The newest state of a volume, opaque to the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Grows by one with each head, from 1.
    pub sequence: u64,
    /// The head, sealed by the volume.
    pub bytes: Vec<u8>,
    /// Fencing number of the lease under which it was set.
    pub fencing: u32,
    /// Who set it.
    pub device: NodeId,
}

/// The right to write a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Who has it.
    pub device: NodeId,
    /// Its number; grows with every grant.
    pub fencing: u32,
    /// When others may take it without stealing.
    pub until: LiveTime,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Whose it is.
    pub member: MemberId,
    /// For people.
    pub name: String,
    /// The wrapped master key.
    pub header: Vec<u8>,
    /// The newest head, if there is one.
    pub head: Option<Head>,
    /// The writer, if there is one.
    pub lease: Option<Lease>,
    /// The newest fencing number; 0 before the first lease.
    pub fencing: u32,
}

/// Whether a pack stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackState {
    /// It stays.
    Active,
    /// It is dropped at that live time unless somebody objects.
    Releasing {
        /// When.
        until: LiveTime,
        /// Who released it.
        by: Issuer,
    },
}

/// A pack on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// The pack.
    pub record: PackRecord,
    /// Whether it stays.
    pub state: PackState,
    /// Live time of its placement.
    pub placed: LiveTime,
}

/// What a member lends and uses, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Account {
    /// What it lends.
    pub pledge: u64,
    /// What its packs cost, redundancy included, each at least 1 MiB.
    pub used: u64,
    /// Shards that it holds for others.
    pub held: u64,
    /// Its packs.
    pub packs: u64,
}

/// Who acts, resolved against the state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub(super) issuer: Issuer,
    pub(super) member: MemberId,
}

/// The state.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(super) genesis: Arc<Genesis>,
    pub(super) accounts: Vec<Account>,
    pub(super) devices: BTreeMap<NodeId, Device>,
    pub(super) homes: BTreeMap<MemberId, SignedHome>,
    pub(super) volumes: BTreeMap<VolumeId, Volume>,
    pub(super) packs: BTreeMap<(VolumeId, u64), PackEntry>,
    pub(super) held: BTreeMap<MemberId, BTreeSet<(VolumeId, u64)>>,
    pub(super) releasing: BTreeSet<(LiveTime, VolumeId, u64)>,
    pub(super) live: LiveTime,
    pub(super) events: VecDeque<LedgerEvent>,
    numbers: BTreeMap<Issuer, Numbers>,
    wall: WallTime,
    index: u64,
    root: Digest,
}

impl Ledger {
    /// The state before the first command.
    #[must_use]
    pub fn new(genesis: Arc<Genesis>) -> Self {
        let accounts = genesis
            .members
            .iter()
            .map(|card| Account {
                pledge: card.pledge,
                ..Account::default()
            })
            .collect();
        let root = derive_parts(GENESIS_ROOT_DOMAIN, &[genesis.group_id().0.as_bytes()]);
        Self {
            wall: WallTime(genesis.created_ms),
            accounts,
            genesis,
            devices: BTreeMap::new(),
            homes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            packs: BTreeMap::new(),
            held: BTreeMap::new(),
            releasing: BTreeSet::new(),
            live: LiveTime(0),
            events: VecDeque::new(),
            numbers: BTreeMap::new(),
            index: 0,
            root,
        }
    }

    /// Moves the group's clocks, which never go back, and does what is due.
    pub fn advance(&mut self, live: LiveTime, wall: WallTime) {
        self.live = self.live.max(live);
        self.wall = self.wall.max(wall);
        self.drop_released();
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

    /// Folds a block's commands (by its digest) and the encoding of their outcomes into the root.
    pub(crate) fn fold(&mut self, block: &Digest, outcomes: &[u8]) {
        self.root = derive_parts(
            STEP_DOMAIN,
            &[
                self.root.as_bytes(),
                &self.live.0.to_le_bytes(),
                &self.wall.0.to_le_bytes(),
                block.as_bytes(),
                outcomes,
            ],
        );
    }

    fn execute(&mut self, author: MemberId, command: &BlockCommand) -> Result<Effect, Refusal> {
        let issuer = command.issuer(author);
        let actor = self.actor(issuer)?;
        let number = command.number();
        if number >= NUMBER_MAX {
            let next = self.next_number(&issuer);
            return Err(Refusal::NumberTooFar { next });
        }
        if !self.numbers.entry(issuer).or_default().take(number) {
            return Err(Refusal::DuplicateNumber);
        }
        self.dispatch(actor, command.command())
    }

    fn actor(&self, issuer: Issuer) -> Result<Actor, Refusal> {
        let member = match issuer {
            Issuer::Member(member) | Issuer::Recovery(member) => member,
            Issuer::Device(key) => match self.devices.get(&key) {
                None => return Err(Refusal::UnknownDevice),
                Some(device) if device.revoked => return Err(Refusal::DeviceRevoked),
                Some(device) => device.member,
            },
        };
        match self.genesis.member(member) {
            Some(_) => Ok(Actor { issuer, member }),
            None => Err(Refusal::UnknownMember(member)),
        }
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
        }
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = LedgerEvent> {
        core::mem::take(&mut self.events).into_iter()
    }

    /// Encodes an outcome for [`fold`](Self::fold).
    pub(crate) fn append_outcome(bytes: &mut Vec<u8>, outcome: &Outcome) {
        wire::append(bytes, outcome);
    }

    /// The newest head of a volume.
    #[must_use]
    pub fn head(&self, volume: &VolumeId) -> Option<&Head> {
        self.volumes.get(volume)?.head.as_ref()
    }

    /// A volume.
    #[must_use]
    pub fn volume(&self, volume: &VolumeId) -> Option<&Volume> {
        self.volumes.get(volume)
    }

    /// The volumes of a member, by id.
    pub fn volumes_of(&self, member: MemberId) -> impl Iterator<Item = (VolumeId, &Volume)> {
        self.volumes
            .iter()
            .filter(move |(_, volume)| volume.member == member)
            .map(|(id, volume)| (*id, volume))
    }

    /// The devices of a member, revoked ones included, by key.
    pub fn devices_of(&self, member: MemberId) -> impl Iterator<Item = (NodeId, &Device)> {
        self.devices
            .iter()
            .filter(move |(_, device)| device.member == member)
            .map(|(key, device)| (*key, device))
    }

    /// A device and its member; `None` if it was never certified.
    #[must_use]
    pub fn device(&self, key: NodeId) -> Option<(MemberId, &Device)> {
        self.devices.get(&key).map(|device| (device.member, device))
    }

    /// A pack on record.
    #[must_use]
    pub fn pack(&self, volume: &VolumeId, number: u64) -> Option<&PackEntry> {
        self.packs.get(&(*volume, number))
    }

    /// Packs of a volume with numbers from `from` on, ascending, at most `limit`.
    pub fn packs_of(
        &self,
        volume: &VolumeId,
        from: u64,
        limit: usize,
    ) -> impl Iterator<Item = &PackEntry> {
        self.packs
            .range((*volume, from)..=(*volume, u64::MAX))
            .take(limit)
            .map(|(_, entry)| entry)
    }

    /// Packs of which a member holds a shard.
    pub fn packs_held_by(&self, member: MemberId) -> impl Iterator<Item = &PackEntry> {
        self.held
            .get(&member)
            .into_iter()
            .flatten()
            .filter_map(|name| self.packs.get(name))
    }

    /// A member's account.
    #[must_use]
    pub fn account(&self, member: MemberId) -> Option<&Account> {
        self.accounts.get(member.index())
    }

    /// The writer of a volume, expired or not.
    #[must_use]
    pub fn lease(&self, volume: &VolumeId) -> Option<&Lease> {
        self.volumes.get(volume)?.lease.as_ref()
    }

    /// A member's newest home.
    #[must_use]
    pub fn home(&self, member: MemberId) -> Option<&SignedHome> {
        self.homes.get(&member)
    }

    /// The newest home of the member with this recovery key.
    #[must_use]
    pub fn home_of_recovery_key(&self, recovery: &NodeId) -> Option<&SignedHome> {
        self.homes.get(&self.genesis.member_of_recovery(*recovery)?)
    }

    /// The number that an issuer should use next; numbers start at 1.
    #[must_use]
    pub fn next_number(&self, issuer: &Issuer) -> u64 {
        self.numbers.get(issuer).map_or(1, Numbers::next)
    }

    /// Commands executed.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Digest of everything executed so far. Moves with the index only, and is defined between blocks.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The group's live time.
    #[must_use]
    pub fn live_time(&self) -> LiveTime {
        self.live
    }

    /// The group's wall time.
    #[must_use]
    pub fn wall_time(&self) -> WallTime {
        self.wall
    }
}
