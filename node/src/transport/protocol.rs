//! The requests that members and devices send each other over QUIC, and their answers: one request opens a stream.
//!
//! Who may ask what is decided in `serve`; this file only names the messages. Tags are stable; retired ones stay
//! reserved.

use barfs_crypto::{Digest, NodeId, ShardProof, Signature};
use barfs_replication::{
    GroupId, Handover, InviteToken, Issuer, LiveTime, MemberCard, MemberId,
    Outcome as LedgerOutcome, PackRecord, Receipt, Reject, SignedCommand, SignedHome, VolumeId,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::question::SignedReply;
use crate::store::ShardKey;

/// What opens a stream.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// From here on this stream carries consensus messages of a member, one frame each, and is never answered.
    Consensus,
    /// The genesis of the group. Anybody may ask.
    Group,
    /// The signed home of the member with this recovery key. Anybody may ask.
    Home {
        /// The recovery key.
        recovery: NodeId,
    },
    /// Shows that the holder of a recovery key stands behind this connection's key; afterwards the connection may
    /// submit commands of that recovery key and ask for the member's state.
    ProveRecovery {
        /// The recovery key.
        recovery: NodeId,
        /// Over [`recovery_proof`].
        signature: Signature,
    },
    /// Carry a command; answered with [`Answer::Executed`] once it has executed.
    Submit(Box<SignedCommand>),
    /// Ask for a piece of the ledger; answered with [`Answer::State`].
    Query {
        /// Fresh, so that the answer cannot be an old one.
        nonce: [u8; 16],
        /// What is asked.
        query: Query,
        /// Given where the answer must hold all that was committed before it was asked: the question is ordered among the
        /// commands by its nonce, and answered after it. So many milliseconds later the member is to have it ordered
        /// itself, if nobody else has.
        order_after_ms: Option<u16>,
    },
    /// Store the shard in the payload; answered with a receipt or a signed rejection.
    PutShard(PutShard),
    /// Read a range of a shard; answered with [`Answer::Slice`].
    GetRange {
        /// The shard.
        key: ShardKey,
        /// First byte.
        start: u64,
        /// After the last byte.
        end: u64,
    },
    /// How this node does; answered with [`Answer::Health`]. Members and their devices may ask.
    Health,
    /// The hand-overs from this epoch on; answered with [`Answer::Handovers`]. Anybody may ask.
    Handovers {
        /// The first epoch whose end is not known.
        epoch: u32,
    },
    /// Take an invitation up; answered with [`Answer::Executed`]. Anybody may ask.
    Join {
        /// The invitation.
        token: InviteToken,
        /// Who joins.
        card: Box<MemberCard>,
    },
    /// Something that the member has to answer, else it is asked on the record; answered with [`Answer::Said`].
    Ask {
        /// Fresh.
        nonce: [u8; 16],
        /// As on the ledger: a [`Question`](crate::question::Question), encoded.
        question: Vec<u8>,
    },
}

/// The most hand-overs in one answer.
pub const HANDOVERS_PER_ANSWER: usize = 64;

/// The description that goes with a shard.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct PutShard {
    /// Its name.
    pub key: ShardKey,
    /// Merkle root of the stripe.
    pub root: Digest,
    /// Data shards of the stripe.
    pub k: u8,
    /// Parity shards of the stripe.
    pub m: u8,
    /// BLAKE3 of the shard.
    pub hash: Digest,
    /// Path from `hash` to `root`.
    pub proof: ShardProof,
}

/// A piece of the ledger that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Query {
    /// The head, lease and header of a volume: [`State::Volume`].
    Volume(VolumeId),
    /// The volumes of a member: [`State::Volumes`].
    Volumes(MemberId),
    /// Up to [`PACKS_PER_QUERY`] packs from this number on: [`State::Packs`].
    Packs {
        /// The volume.
        volume: VolumeId,
        /// The first number wanted.
        from: u64,
        /// At most so many.
        limit: u16,
    },
    /// The account of a member: [`State::Account`].
    Account(MemberId),
    /// The highest command number of an issuer that was executed: [`State::Number`].
    Number(Issuer),
    /// Which member a device belongs to: [`State::Device`].
    Device(NodeId),
    /// Members that have been shown to lie, and so are not drawn to hold anything new: [`State::Convicted`].
    Convicted,
    /// Packs of a volume that were given up and are not destroyed yet, from this number on: [`State::Releasing`].
    Releasing {
        /// The volume.
        volume: VolumeId,
        /// The first number wanted.
        from: u64,
    },
}

/// The most packs in one answer.
pub const PACKS_PER_QUERY: u16 = 256;

/// A piece of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum State {
    /// See [`Query::Volume`]; `None` if there is no such volume.
    Volume(Option<VolumeState>),
    /// Ids of a member's volumes, with their names.
    Volumes(Vec<(VolumeId, String)>),
    /// Records of packs in order of number.
    Packs(Vec<PackRecord>),
    /// See [`AccountState`].
    Account(AccountState),
    /// The next number that an issuer may use.
    Number(u64),
    /// The member that a device is certified for.
    Device(Option<MemberId>),
    /// See [`Query::Convicted`]; ascending.
    Convicted(Vec<MemberId>),
    /// See [`Releasing`].
    Releasing(Releasing),
}

/// Packs that were given up, in order of number.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Releasing {
    /// At most [`PACKS_PER_QUERY`].
    pub packs: Vec<ReleasingPack>,
    /// Where to go on; `None` after the last pack of the volume.
    pub next: Option<u64>,
    /// Live time now, cut to ten seconds: those who answer a moment later say the same.
    pub now: LiveTime,
}

/// A pack that was given up.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ReleasingPack {
    /// Its number.
    pub number: u64,
    /// Its length in bytes, before redundancy.
    pub len: u64,
    /// When it is destroyed.
    pub until: LiveTime,
    /// Who gave it up.
    pub by: Issuer,
}

/// What the ledger says of a volume.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct VolumeState {
    /// Its owner.
    pub owner: MemberId,
    /// Its name.
    pub name: String,
    /// Its master key, wrapped for the recovery key.
    pub header: Vec<u8>,
    /// Sequence and bytes of the newest head.
    pub head: Option<(u64, Vec<u8>)>,
    /// Who holds the writer lease, and its fencing number.
    pub lease: Option<(NodeId, u32)>,
}

/// What the ledger says of a member's space, in bytes of shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AccountState {
    /// Lent to the group.
    pub pledge: u64,
    /// Held for others.
    pub held: u64,
    /// Used of others.
    pub used: u64,
}

/// What comes back on a stream.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub enum Answer {
    /// The genesis, encoded.
    Group(Vec<u8>),
    /// The home, if this node has one for that key.
    Home(Option<SignedHome>),
    /// The request was carried out and has no other answer.
    Done,
    /// A command executed, with this outcome, as command number `index` of the ledger.
    Executed {
        /// Its index.
        index: u64,
        /// How it went.
        outcome: LedgerOutcome,
    },
    /// A piece of the ledger, signed.
    State(SignedState),
    /// The shard is durable.
    Stored(Receipt),
    /// The shard is not taken.
    Rejected(Reject),
    /// A verified slice in the payload.
    Slice {
        /// BLAKE3 of the whole shard.
        hash: Digest,
        /// Path to the stripe's root.
        proof: ShardProof,
    },
    /// This node does not have the shard.
    NotHere,
    /// This node's copy is damaged; the damage has been counted.
    Damaged,
    /// The key of this connection may not ask that, or the request makes no sense.
    Refused(String),
    /// See [`Health`].
    Health(Health),
    /// Hand-overs, one after the other, at most [`HANDOVERS_PER_ANSWER`]; none if there is no newer one.
    Handovers(Vec<Handover>),
    /// What a member answers to a question that it could have been asked on the record.
    Said(SignedReply),
}

/// How a node does, in its own words: not evidence of anything.
#[derive(Clone, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Health {
    /// Shards held.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// Damaged shards met since the node started.
    pub damaged: u64,
    /// Commands executed.
    pub ledger_index: u64,
    /// Newest round committed.
    pub committed_round: u64,
}

/// A [`State`] under a member's signature.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub struct SignedState {
    /// Commands that the member had executed when it answered.
    pub index: u64,
    /// The answer.
    pub state: State,
    /// Over [`state_message`].
    pub signature: Signature,
}

/// The domain of signatures over answers.
pub const STATE_DOMAIN: &str = "barfs 2026 ledger answer v1";
/// The domain of recovery proofs.
pub const RECOVERY_DOMAIN: &str = "barfs 2026 recovery proof v1";

/// What a member signs under its answer.
pub fn state_message(
    group: &GroupId,
    nonce: &[u8; 16],
    index: u64,
    query: &Query,
    state: &State,
) -> std::io::Result<Vec<u8>> {
    borsh::to_vec(&(group, nonce, index, query, state))
}

/// What a recovery key signs to stand behind the key of a connection to one member.
pub fn recovery_proof(
    group: &GroupId,
    server: &NodeId,
    client: &NodeId,
) -> std::io::Result<Vec<u8>> {
    borsh::to_vec(&(group, server, client))
}

#[cfg(test)]
mod golden;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::question::Reply;
    use barfs_crypto::SigningKey;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_read_whole(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            // What decodes must encode to the very same bytes: nothing is ignored.
            if let Ok(request) = Request::try_from_slice(&bytes) {
                prop_assert_eq!(&borsh::to_vec(&request).unwrap(), &bytes);
            }
            if let Ok(answer) = Answer::try_from_slice(&bytes) {
                prop_assert_eq!(&borsh::to_vec(&answer).unwrap(), &bytes);
            }
        }

        #[test]
        fn a_length_that_is_not_there_is_refused(tag in 0u8..14, len in any::<u32>()) {
            let bytes = [&[tag][..], &len.to_le_bytes()[..]].concat();
            if let Ok(answer) = Answer::try_from_slice(&bytes) {
                prop_assert_eq!(&borsh::to_vec(&answer).unwrap(), &bytes);
            }
        }
    }

    /// What answering at once costs is what the ledger compares with answering on the record.
    #[test]
    fn an_answer_is_as_long_as_the_ledger_reckons() {
        for reply in [
            Reply::NotUnderstood,
            Reply::Progress {
                ledger_index: 1,
                committed_round: 2,
            },
        ] {
            let len = borsh::to_vec(&reply).unwrap().len();
            let said = Answer::Said(SignedReply {
                reply,
                signature: SigningKey::from_seed([1; 32]).sign(STATE_DOMAIN, b"any"),
            });
            let frame = crate::transport::frame::encode_prefix(&said, 0).unwrap();
            assert_eq!(frame.len(), barfs_replication::direct_bytes(len));
        }
    }

    #[test]
    fn an_answer_is_bound_to_its_question() {
        let key = SigningKey::from_seed([1; 32]);
        let group = GroupId(Digest([2; 32]));
        let (query, state) = (Query::Volume(VolumeId([3; 16])), State::Volume(None));
        let message = state_message(&group, &[4; 16], 5, &query, &state).unwrap();
        let signature = key.sign(STATE_DOMAIN, &message);
        assert!(key.id().verify(STATE_DOMAIN, &message, &signature).is_ok());
        for other in [
            state_message(&group, &[9; 16], 5, &query, &state).unwrap(),
            state_message(&group, &[4; 16], 6, &query, &state).unwrap(),
            state_message(
                &group,
                &[4; 16],
                5,
                &Query::Volume(VolumeId([9; 16])),
                &state,
            )
            .unwrap(),
            state_message(&GroupId(Digest([9; 32])), &[4; 16], 5, &query, &state).unwrap(),
        ] {
            assert!(key.id().verify(STATE_DOMAIN, &other, &signature).is_err());
        }
    }
}
