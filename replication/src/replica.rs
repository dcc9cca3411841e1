//! One member's replica: owns the state, takes inputs, hands out effects. Every rule lives in the modules it calls.
//!
//! Invariants: the own block of a round is signed once and enters the own graph only when it is durable; a durable
//! own block implies that everything this member knew when it made it is durable (same batch or earlier); after
//! `restore` the replica is where its records say, and never signs again for a round that they hold.

mod accusing;
mod carry;
mod checkpoints;
mod committing;
mod epochs;
mod install;
mod intake;
mod keys;
mod propose;
mod recovering;
mod revealing;
mod serve;
mod status;

pub use status::{ReplicaStatus, Taken};

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use barfs_crypto::SigningKey;

use crate::checkpoint::keep::Checkpoints;
use crate::checkpoint::snapshot::Snapshot;
use crate::checkpoint::sync::SnapshotSync;
use crate::consensus::block::{BlockRef, VerifiedBlock};
use crate::consensus::catchup::{Fetch, Peers, RangeSync};
use crate::consensus::commit::Committer;
use crate::consensus::dag::Dag;
use crate::consensus::delivery;
use crate::consensus::own::Own;
use crate::consensus::pace::Pace;
use crate::consensus::suspended::Suspended;
use crate::execution::Execution;
use crate::input::Input;
use crate::ledger::command::{BlockCommand, Issuer};
use crate::ledger::outcome::{Outcome, Refusal};
use crate::ledger::state::Ledger;
use crate::membership::{Genesis, MemberId};
use crate::output::{Output, Record};
use crate::recovery::Recovery;
use crate::roster::Handover;
use crate::time::Now;

/// Received blocks are made durable with the next own block, or when there are this many bytes of them.
const UNPERSISTED_BYTES_MAX: usize = 2 << 20;
/// A snapshot goes to disk when the log has grown by this many bytes since the last, or by as many as the state has.
const LOG_BYTES_MIN: u64 = 256 << 20;

/// One member of a group, without its network, disk and clock.
pub struct Replica {
    /// The group as it was founded.
    founding: Arc<Genesis>,
    /// Under the roster of the present epoch.
    genesis: Arc<Genesis>,
    /// The newest rosters, the present one among them.
    rosters: VecDeque<Arc<Genesis>>,
    /// From the genesis on.
    handovers: Vec<Arc<Handover>>,
    /// Not before then is somebody asked again for hand-overs that it spoke of.
    asked_micros: u64,
    /// Members that were asked for hand-overs because they spoke of an epoch: not before then again.
    spoke_micros: BTreeMap<MemberId, u64>,
    /// How often the newest own block was repeated, and who was asked last for rounds that are not committed here.
    repeated: u32,
    asked_peer: MemberId,
    /// When this member last asked for a round that does not fill.
    pulled_micros: Option<u64>,
    vrf: Option<revealing::Shares>,
    /// Members that were asked for hand-overs and have not answered.
    handovers_asked: BTreeSet<MemberId>,
    following: carry::Following,
    /// Members without a seat, the round of the newest certificate that each was told of, and when.
    told: BTreeMap<MemberId, (u64, u64)>,
    me: MemberId,
    keys: keys::Keys,
    peers: Peers,
    dag: Dag,
    committer: Committer,
    suspended: Suspended,
    /// While a batch of blocks is taken in: those that others of the same batch name as parents.
    named_in_batch: BTreeSet<BlockRef>,
    /// While a round does not fill: twins that are kept though nothing names them, with whoever sent each.
    twins_kept: BTreeMap<BlockRef, MemberId>,
    fetch: Fetch,
    range_sync: RangeSync,
    pace: Pace,
    own: Own,
    execution: Execution,
    checkpoints: Checkpoints,
    sync: SnapshotSync,
    offer: Option<checkpoints::Offer>,
    /// The round of the newest checkpoint that this member has reached.
    checkpoint_round: u64,
    /// The own state is known to be wrong and about to be replaced.
    diverged: bool,
    /// The own state was found to be wrong: up to this index own blocks may have spoken of it.
    wrong_up_to: Option<u64>,
    /// Own blocks say nothing of the state.
    doubts: bool,
    /// Lost its log and does not know yet how far it had been.
    recovery: Option<Recovery>,
    /// The round of a fetched snapshot that is not durable yet.
    installing: Option<u64>,
    /// Blocks in the graph that no `Persist` has carried yet, and their bytes.
    unpersisted: Vec<VerifiedBlock>,
    unpersisted_bytes: usize,
    taken: BTreeMap<MemberId, Taken>,
    seen: BTreeMap<MemberId, u64>,
    /// The first proof against each member that signed twice.
    equivocators: BTreeMap<MemberId, (VerifiedBlock, VerifiedBlock)>,
    next_token: u64,
    /// Taking in the own log: what comes is durable.
    replaying: bool,
    /// The first round of the own log.
    first_logged: Option<u64>,
    now: Now,
    out: Vec<Output>,
}

impl Replica {
    /// A member of a new group, with nothing on record. `key` is the node key of member `me`.
    #[must_use]
    pub fn new(genesis: Arc<Genesis>, me: MemberId, key: SigningKey, now: Now) -> Self {
        let params = &genesis.params;
        let dag = delivery::empty(&genesis);
        let peers = Peers::new(me, dag.schedule().seats());
        Self {
            dag,
            committer: Committer::new(genesis.first_round()),
            suspended: Suspended::default(),
            named_in_batch: BTreeSet::new(),
            twins_kept: BTreeMap::new(),
            fetch: Fetch::new(peers.clone()),
            range_sync: RangeSync::new(peers.clone()),
            pace: Pace::new(me, params, now.monotonic_micros),
            own: Own::new(me, params.block_bytes_max),
            execution: Execution::new(&genesis, me),
            checkpoints: Checkpoints::new(LOG_BYTES_MIN),
            sync: SnapshotSync::new(peers.clone()),
            peers,
            offer: None,
            checkpoint_round: 0,
            diverged: false,
            recovery: None,
            wrong_up_to: None,
            doubts: false,
            installing: None,
            unpersisted: Vec::new(),
            unpersisted_bytes: 0,
            taken: BTreeMap::new(),
            seen: BTreeMap::new(),
            equivocators: BTreeMap::new(),
            next_token: 1,
            replaying: false,
            first_logged: None,
            now,
            out: Vec::new(),
            founding: Arc::clone(&genesis),
            rosters: VecDeque::from([Arc::clone(&genesis)]),
            handovers: Vec::new(),
            asked_micros: now.monotonic_micros,
            spoke_micros: BTreeMap::new(),
            repeated: 0,
            asked_peer: me,
            pulled_micros: None,
            vrf: None,
            handovers_asked: BTreeSet::new(),
            following: carry::Following::new(me, now.monotonic_micros),
            told: BTreeMap::new(),
            genesis,
            me,
            keys: keys::Keys::new(key),
        }
    }

    /// The member as its disk shows it: the newest durable snapshot, if there is one, then the blocks of the log in
    /// ascending order of (round, author, digest).
    #[must_use]
    pub fn restore(
        genesis: Arc<Genesis>,
        me: MemberId,
        key: SigningKey,
        records: impl Iterator<Item = Record>,
        now: Now,
    ) -> Self {
        let mut replica = Self::new(genesis, me, key, now);
        replica.replaying = true;
        for record in records {
            match record {
                Record::Block(block) => replica.replay(block),
                Record::Snapshot(snapshot) => replica.replay_snapshot(snapshot),
                Record::OwnRound { round } => replica.own_round_found(round),
            }
        }
        replica.log_found();
        replica.replaying = false;
        replica.resume();
        replica
    }

    /// A member whose log is lost, or was never finished after such a loss: with what there is of it. It listens, asks
    /// the others, and makes no block before `Event::Recovered`. `nonce` is fresh and random.
    #[must_use]
    pub fn recover(
        genesis: Arc<Genesis>,
        me: MemberId,
        key: SigningKey,
        records: impl Iterator<Item = Record>,
        nonce: [u8; 32],
        now: Now,
    ) -> Self {
        let quorum = genesis.thresholds().quorum;
        let mut replica = Self::restore(genesis, me, key, records, now);
        let others = replica.peers.all().count();
        replica.recovery = Some(Recovery::new(nonce, quorum, others, now.monotonic_micros));
        replica
    }

    /// Takes one input and says what to do about it.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Blocks { from, blocks } => self.take_blocks(from, blocks),
            Input::Want { from, refs } => self.serve_refs(from, refs),
            Input::WantFrom { from, round } => self.serve_range(from, round),
            Input::Submit { ticket, command } => self.submit_under(0, ticket, command),
            Input::SubmitUnder {
                epoch,
                ticket,
                command,
            } => self.submit_under(epoch, ticket, command),
            Input::Persisted { token } => self.persisted(token),
            Input::Control { from, control } => self.take_control(from, control),
            Input::Handovers { handovers } => self.follow_handovers(handovers),
            Input::SnapshotPersisted { round } => self.snapshot_persisted(round),
            Input::PeerConnected { peer } => self.greet(peer),
            Input::Tick => {}
        }
        self.settle();
        core::mem::take(&mut self.out)
    }

    /// When to call [`handle`](Self::handle) with a tick if nothing else happens, in monotonic microseconds.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        // While a snapshot is being fetched, single blocks are not.
        let asking = match self.sync.is_active() {
            true => self.sync.due_micros(),
            false => {
                let (fetch, range) = (self.fetch.due_micros(), self.range_sync.due_micros());
                fetch.into_iter().chain(range).min()
            }
        };
        let recovery = self.recovery.as_ref().and_then(Recovery::due_micros);
        [
            self.proposal_due_micros(),
            asking,
            self.offer_due_micros(),
            recovery,
            self.follow_due_micros(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// From now on own blocks say nothing of the state, until told otherwise: for a driver that has reason to doubt the
    /// memory or the store that it gave this member. The others suspend the seat if it lasts (`Suspension`).
    pub fn doubt_state(&mut self, doubts: bool) {
        self.doubts = doubts;
    }

    /// How much the log may grow before the next snapshot goes to disk, in bytes: 256 MiB unless set. A state that is
    /// larger than this sets the measure itself.
    pub fn keep_log_bytes(&mut self, bytes: u64) {
        self.checkpoints.keep_log_bytes(bytes);
    }

    /// The newest certified snapshot that this member can hand out.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.checkpoints.newest()
    }

    /// The state that the committed commands made.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        self.execution.ledger()
    }

    /// The number for this member's next own command: above all executed, sent and queued ones.
    #[must_use]
    pub fn next_own_number(&self) -> u64 {
        self.ledger()
            .next_number(&Issuer::Member(self.me))
            .max(self.own.number_high().saturating_add(1))
    }

    /// Queues a command that needs no verification.
    fn submit(&mut self, ticket: Option<u64>, command: BlockCommand) {
        let issuer = command.issuer(self.me);
        let payer = match issuer {
            Issuer::Member(member) | Issuer::Recovery(member) => Some(member),
            Issuer::Device(key) => self.ledger().device(key).map(|(member, _)| member),
        };
        let over = payer
            .is_some_and(|payer| payer != self.me && !self.ledger().may_be_carried(payer, &issuer));
        if over {
            return self.refuse(ticket, Refusal::Allowance);
        }
        if let Err(refusal) = self.own.submit(command, ticket, payer) {
            self.refuse(ticket, refusal);
        }
    }

    /// A command comes to its end here, without being ordered.
    fn refuse(&mut self, ticket: Option<u64>, refusal: Refusal) {
        if ticket.is_some() {
            self.out.push(Output::Executed {
                index: self.ledger().index(),
                ticket,
                author: self.me,
                outcome: Outcome::Refused(refusal),
            });
        }
    }

    fn persisted(&mut self, token: u64) {
        self.recovered(token);
        let Some(block) = self.own.persisted(token) else {
            return;
        };
        if block.block().epoch != self.genesis.epoch() {
            // Its epoch has ended: what it carried waits again, if it may.
            self.own.raise_floor(self.dag.floor());
            self.recheck_queue(true);
            return;
        }
        // A snapshot may have taken the place of its parents meanwhile.
        match self.dag.missing_parents(&block).is_empty() {
            true => self.insert(block, true),
            false => self.insert_or_suspend(block),
        }
    }

    /// Does whatever the state now calls for.
    fn settle(&mut self) {
        self.commit();
        self.decide_offer();
        self.recover_further();
        self.follow_without_seat();
        self.reveal();
        self.pace
            .at_round(self.dag.quorum_round(), self.now.monotonic_micros);
        self.ask();
        self.propose();
        if self.unpersisted_bytes > UNPERSISTED_BYTES_MAX {
            let records = self.take_unpersisted();
            self.out.push(Output::Persist {
                records,
                then: vec![],
            });
        }
    }

    fn take_unpersisted(&mut self) -> Vec<Record> {
        let bytes = u64::try_from(self.unpersisted_bytes).unwrap_or(u64::MAX);
        self.checkpoints.logged(bytes);
        self.unpersisted_bytes = 0;
        self.unpersisted.drain(..).map(Record::Block).collect()
    }
}
