//! The bytes of every request and answer, written down: whoever changes them breaks the groups that are there. What is
//! inside and belongs to `replication` has its bytes written down there.
#![allow(clippy::unwrap_used)]

use barfs_crypto::{Digest, SigningKey};
use barfs_replication::{Command, RejectReason, ShardName};

use super::*;
use crate::question::Reply;

fn hex_of(value: &impl BorshSerialize) -> String {
    hex::encode(borsh::to_vec(value).unwrap())
}

/// The tag of a question; a new one does not compile until it has its bytes below.
fn tag(query: &Query) -> u8 {
    match query {
        Query::Volume(_) => 0,
        Query::Volumes(_) => 1,
        Query::Packs { .. } => 2,
        Query::Account(_) => 3,
        Query::Number(_) => 4,
        Query::Device(_) => 5,
        Query::Convicted => 6,
        Query::Releasing { .. } => 7,
    }
}

#[test]
fn every_question_has_the_bytes_that_it_always_had() {
    let volume = VolumeId([3; 16]);
    let v = "03".repeat(16);
    let all = [
        (Query::Volume(volume), format!("00{v}")),
        (Query::Volumes(MemberId(2)), "010200".into()),
        (
            Query::Packs {
                volume,
                from: 1,
                limit: 256,
            },
            format!("02{v}01000000000000000001"),
        ),
        (Query::Account(MemberId(2)), "030200".into()),
        (
            Query::Number(Issuer::Recovery(MemberId(2))),
            "04030200".into(),
        ),
        (
            Query::Device(SigningKey::from_seed([1; 32]).id()),
            format!("05{}", SigningKey::from_seed([1; 32]).id().to_hex()),
        ),
        (Query::Convicted, "06".into()),
        (
            Query::Releasing { volume, from: 1 },
            format!("07{v}0100000000000000"),
        ),
    ];
    for (at, (query, bytes)) in all.iter().enumerate() {
        assert_eq!((usize::from(tag(query)), &hex_of(query)), (at, bytes));
    }
}

/// The tag of a piece of the ledger.
fn tag_of_state(state: &State) -> u8 {
    match state {
        State::Volume(_) => 0,
        State::Volumes(_) => 1,
        State::Packs(_) => 2,
        State::Account(_) => 3,
        State::Number(_) => 4,
        State::Device(_) => 5,
        State::Convicted(_) => 6,
        State::Releasing(_) => 7,
    }
}

#[test]
fn every_state_has_the_bytes_that_it_always_had() {
    let account = AccountState {
        pledge: 1,
        held: 2,
        used: 3,
    };
    let releasing = Releasing {
        packs: vec![ReleasingPack {
            number: 1,
            len: 2,
            until: LiveTime(3),
            by: Issuer::Member(MemberId(4)),
        }],
        next: Some(5),
        now: LiveTime(6),
    };
    let all = [
        (State::Volume(None), "0000"),
        (State::Volumes(vec![]), "0100000000"),
        (State::Packs(vec![]), "0200000000"),
        (
            State::Account(account),
            "03010000000000000002000000000000000300000000000000",
        ),
        (State::Number(7), "040700000000000000"),
        (State::Device(Some(MemberId(2))), "05010200"),
        (State::Convicted(vec![MemberId(2)]), "06010000000200"),
        (
            State::Releasing(releasing),
            "070100000001000000000000000200000000000000030000000000000001040001050000000000000006\
             00000000000000",
        ),
    ];
    for (at, (state, bytes)) in all.iter().enumerate() {
        let bytes = bytes.replace(' ', "");
        assert_eq!(
            (usize::from(tag_of_state(state)), hex_of(state)),
            (at, bytes)
        );
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed([1; 32])
}

const GROUP: GroupId = GroupId(Digest([2; 32]));
const VOLUME: VolumeId = VolumeId([3; 16]);
const SHARD: ShardKey = ShardKey {
    volume: VOLUME,
    number: 4,
    index: 5,
};
const SHARD_HEX: &str = "03030303030303030303030303030303040000000000000005";
const HASH: Digest = Digest([6; 32]);
const HASH_HEX: &str = "0606060606060606060606060606060606060606060606060606060606060606";

/// A path of one digest, and its bytes.
fn proof() -> (ShardProof, String) {
    let proof = barfs_crypto::prove(&[HASH, HASH], 0).unwrap();
    let path = "01000000a7688313a26610d6fc04397dd73ba0dcc4d83d1399cd5c9c75109546a1e58168";
    (proof, path.to_owned())
}

fn name() -> ShardName {
    ShardName {
        volume: VOLUME,
        number: 4,
        root: HASH,
        index: 5,
    }
}

/// The tag of a request; a new one does not compile until it has its bytes below.
fn tag_of_request(request: &Request) -> u8 {
    match request {
        Request::Consensus => 0,
        Request::Group => 1,
        Request::Home { .. } => 2,
        Request::ProveRecovery { .. } => 3,
        Request::Submit(_) => 4,
        Request::Query { .. } => 5,
        Request::PutShard(_) => 6,
        Request::GetRange { .. } => 7,
        Request::Health => 8,
        Request::Handovers { .. } => 9,
        Request::Join { .. } => 10,
        Request::Ask { .. } => 11,
    }
}

#[test]
fn every_request_has_the_bytes_that_it_always_had() {
    let (id, signature) = (key().id(), key().sign(RECOVERY_DOMAIN, b"any"));
    let note = Command::Note { bytes: vec![1] };
    let command = SignedCommand::sign(GROUP, &key(), Issuer::Device(id), 7, note);
    let token = InviteToken::sign(GROUP, &key(), MemberId(1), [9; 16], LiveTime(8));
    let card = MemberCard::sign(&key(), id, "name", "127.0.0.1:1", 10, "").unwrap();
    let (proof, path) = proof();
    let put = PutShard {
        key: SHARD,
        root: HASH,
        k: 2,
        m: 1,
        hash: HASH,
        proof,
    };
    let nonce = [9; 16];
    let nonce_hex = "09".repeat(16);
    let all = [
        (Request::Consensus, "00".to_owned()),
        (Request::Group, "01".into()),
        (Request::Home { recovery: id }, format!("02{}", id.to_hex())),
        (
            Request::ProveRecovery {
                recovery: id,
                signature,
            },
            format!("03{}{}", id.to_hex(), hex_of(&signature)),
        ),
        (
            Request::Submit(Box::new(command.clone())),
            format!("04{}", hex_of(&command)),
        ),
        (
            Request::Query {
                nonce,
                query: Query::Convicted,
                order_after_ms: Some(700),
            },
            format!("05{nonce_hex}0601bc02"),
        ),
        (
            Request::PutShard(put),
            format!("06{SHARD_HEX}{HASH_HEX}0201{HASH_HEX}{path}"),
        ),
        (
            Request::GetRange {
                key: SHARD,
                start: 1,
                end: 2,
            },
            format!("07{SHARD_HEX}01000000000000000200000000000000"),
        ),
        (Request::Health, "08".into()),
        (Request::Handovers { epoch: 3 }, "0903000000".into()),
        (
            Request::Join {
                token,
                card: Box::new(card.clone()),
            },
            format!("0a{}{}", hex_of(&token), hex_of(&card)),
        ),
        (
            Request::Ask {
                nonce,
                question: vec![0],
            },
            format!("0b{nonce_hex}0100000000"),
        ),
    ];
    for (at, (request, bytes)) in all.iter().enumerate() {
        assert_eq!(
            (usize::from(tag_of_request(request)), &hex_of(request)),
            (at, bytes)
        );
    }
}

/// The tag of an answer.
fn tag_of_answer(answer: &Answer) -> u8 {
    match answer {
        Answer::Group(_) => 0,
        Answer::Home(_) => 1,
        Answer::Done => 2,
        Answer::Executed { .. } => 3,
        Answer::State(_) => 4,
        Answer::Stored(_) => 5,
        Answer::Rejected(_) => 6,
        Answer::Slice { .. } => 7,
        Answer::NotHere => 8,
        Answer::Damaged => 9,
        Answer::Refused(_) => 10,
        Answer::Health(_) => 11,
        Answer::Handovers(_) => 12,
        Answer::Said(_) => 13,
    }
}

#[test]
fn every_answer_has_the_bytes_that_it_always_had() {
    let signature = key().sign(STATE_DOMAIN, b"any");
    let signed = hex_of(&signature);
    let home = SignedHome::sign(GROUP, &key(), MemberId(1), vec![VOLUME], 2);
    let receipt = Receipt::sign(GROUP, &key(), MemberId(1), name(), 64);
    let reject = Reject::sign(GROUP, &key(), MemberId(1), name(), RejectReason::Full);
    let outcome = LedgerOutcome::Applied(barfs_replication::Effect::Done);
    let (proof, path) = proof();
    let health = Health {
        shards: 1,
        shard_bytes: 2,
        damaged: 3,
        ledger_index: 4,
        committed_round: 5,
    };
    let all = [
        (Answer::Group(vec![1]), "000100000001".to_owned()),
        (
            Answer::Home(Some(home.clone())),
            format!("0101{}", hex_of(&home)),
        ),
        (Answer::Done, "02".into()),
        (
            Answer::Executed {
                index: 1,
                outcome: outcome.clone(),
            },
            format!("030100000000000000{}", hex_of(&outcome)),
        ),
        (
            Answer::State(SignedState {
                index: 1,
                state: State::Number(7),
                signature,
            }),
            format!("040100000000000000040700000000000000{signed}"),
        ),
        (Answer::Stored(receipt), format!("05{}", hex_of(&receipt))),
        (Answer::Rejected(reject), format!("06{}", hex_of(&reject))),
        (
            Answer::Slice { hash: HASH, proof },
            format!("07{HASH_HEX}{path}"),
        ),
        (Answer::NotHere, "08".into()),
        (Answer::Damaged, "09".into()),
        (Answer::Refused("no".into()), "0a020000006e6f".into()),
        (
            Answer::Health(health),
            format!(
                "0b{}",
                (1..=5)
                    .map(|n| format!("0{n}00000000000000"))
                    .collect::<String>()
            ),
        ),
        (Answer::Handovers(vec![]), "0c00000000".into()),
        (
            Answer::Said(SignedReply {
                reply: Reply::NotUnderstood,
                signature,
            }),
            format!("0d00{signed}"),
        ),
    ];
    for (at, (answer, bytes)) in all.iter().enumerate() {
        assert_eq!(
            (usize::from(tag_of_answer(answer)), &hex_of(answer)),
            (at, bytes)
        );
    }
}
