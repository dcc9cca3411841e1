//! The bytes of every kind of command, of a block and of the messages, as they were first released. A change here is a
//! change of the wire format: it needs a new version, never a new file.
//!
//! `golden.txt` holds one `name hex` a line. To add a kind, run with `BARFS_GOLDEN=print` and append its line.

use std::collections::BTreeMap;

use barfs_crypto::{Digest, hash};
use barfs_replication::*;

use crate::script::{Script, refs};
use crate::world::{found, key, m};

const GOLDEN: &str = include_str!("golden.txt");
const VOLUME: VolumeId = VolumeId([0xab; 16]);

fn packs() -> Vec<Placement> {
    let shard = ShardName {
        volume: VOLUME,
        number: 9,
        root: hash(b"root"),
        index: 1,
    };
    let group = GroupId(hash(b"group"));
    let receipt = Receipt::sign(group, &key(1, 2), m(2), shard, 64);
    let reject = Reject::sign(group, &key(1, 3), m(3), shard, RejectReason::Full);
    let record = PackRecord {
        owner: m(0),
        volume: VOLUME,
        number: 9,
        root: hash(b"root"),
        len: 100,
        k: 2,
        m: 1,
        shard_len: 64,
        holders: vec![None, Some(m(2)), None],
    };
    vec![Placement {
        record,
        receipts: vec![receipt],
        passed_over: vec![
            (m(3), PassedOver::Rejected(Box::new(reject))),
            (m(1), PassedOver::Unreachable),
        ],
    }]
}

fn vrf() -> barfs_crypto::VrfSecret {
    barfs_crypto::VrfSecret::from_seed(&[4; 32]).unwrap()
}

fn card() -> MemberCard {
    MemberCard::sign(&key(1, 9), key(2, 9).id(), "nine", "127.0.0.1:9", 9, "").unwrap()
}

pub fn commands() -> Vec<(&'static str, Command)> {
    let (member, device) = (m(1), key(3, 1).id());
    let group = GroupId(hash(b"group"));
    let (volume, fencing, duration_ms) = (VOLUME, 3, 60_000);
    let home = SignedHome::sign(group, &key(2, 1), member, vec![VOLUME], 5);
    let (label, name) = ("laptop".into(), "home".into());
    vec![
        (
            "AddDevice",
            Command::AddDevice {
                member,
                device,
                label,
            },
        ),
        ("RevokeDevice", Command::RevokeDevice { member, device }),
        (
            "SetHome",
            Command::SetHome {
                home: Box::new(home),
            },
        ),
        (
            "CreateVolume",
            Command::CreateVolume {
                member,
                volume,
                name,
                header: vec![1, 2, 3],
            },
        ),
        (
            "AcquireLease",
            Command::AcquireLease {
                volume,
                duration_ms,
                steal: true,
            },
        ),
        (
            "RenewLease",
            Command::RenewLease {
                volume,
                fencing,
                duration_ms,
            },
        ),
        ("ReleaseLease", Command::ReleaseLease { volume, fencing }),
        ("Place", Command::Place { packs: packs() }),
        (
            "SetHead",
            Command::SetHead {
                volume,
                sequence: 7,
                fencing,
                bytes: vec![9; 5],
            },
        ),
        (
            "Release",
            Command::Release {
                volume,
                packs: vec![1, 2],
            },
        ),
        (
            "VetoRelease",
            Command::VetoRelease {
                volume,
                packs: vec![2],
            },
        ),
        ("Note", Command::Note { bytes: vec![4, 5] }),
        (
            "Join",
            Command::Join {
                token: Box::new(InviteToken::sign(
                    group,
                    &key(1, 1),
                    m(1),
                    [3; 16],
                    LiveTime(9),
                )),
                card: Box::new(card()),
            },
        ),
        ("Leave", Command::Leave { member }),
        (
            "Ask",
            Command::Ask {
                id: [2; 16],
                to: m(3),
                question: vec![1],
                deadline_ms: 5,
            },
        ),
        (
            "Respond",
            Command::Respond {
                id: [2; 16],
                answer: vec![1, 2],
            },
        ),
        (
            "RegisterVrf",
            Command::RegisterVrf {
                public: Box::new(vrf().public()),
                possession: vrf_possession(group, member, &vrf()),
            },
        ),
        (
            "Reveal",
            Command::Reveal {
                epoch: 4,
                reveal: vrf().prove("golden", b"reveal"),
            },
        ),
        (
            "VoteJoin",
            Command::Vote {
                subject: Subject::Join(key(1, 9).id()),
                approve: true,
            },
        ),
        (
            "VoteEvict",
            Command::Vote {
                subject: Subject::Evict(m(2)),
                approve: false,
            },
        ),
        (
            "RotateIdentity",
            Command::RotateIdentity {
                member,
                card: Box::new(card()),
            },
        ),
        (
            "ReplaceHeader",
            Command::ReplaceHeader {
                volume,
                replaces: hash(b"header"),
                header: vec![4, 5, 6],
            },
        ),
        ("ReadMark", Command::ReadMark { nonce: [9; 16] }),
        (
            "Vacation",
            Command::Vacation {
                member,
                from: LiveTime(1),
                until: LiveTime(2),
            },
        ),
    ]
}

fn current() -> BTreeMap<String, Vec<u8>> {
    let mut bytes = BTreeMap::new();
    for (name, command) in commands() {
        let issuer = Issuer::Device(key(3, 1).id());
        let group = GroupId(hash(b"group"));
        let signed = SignedCommand::sign(group, &key(3, 1), issuer, 11, command);
        let again = SignedCommand::decode(&signed.encode()).unwrap();
        assert_eq!(again, signed);
        bytes.insert(name.to_string(), signed.encode());
    }
    bytes.insert("Genesis".into(), found(4, Params::default()).encode());
    let mut script = Script::new(4);
    let first = script.round(&[0, 1, 2], 1, &[]);
    let command = Command::Note { bytes: vec![1] };
    let issuer = Issuer::Recovery(m(3));
    let group = script.genesis.group_id();
    let signed = SignedCommand::sign(group, &key(2, 3), issuer, 1, command.clone());
    let commands = vec![
        BlockCommand::Own { number: 2, command },
        BlockCommand::Signed(signed),
    ];
    let twins = Evidence::of_twins(&first[1], &script.block(1, 1, &[]));
    for evidence in evidence(&twins) {
        assert_eq!(Evidence::decode(&evidence.encode()).unwrap(), evidence);
        bytes.insert(format!("Evidence{}", evidence.kind()), evidence.encode());
    }
    let accuse = BlockCommand::Unnumbered(Command::Accuse {
        evidence: Box::new(twins),
    });
    let accusing = script.block_with(2, 2, &refs(&first), vec![accuse]);
    bytes.insert("BlockAccusing".into(), accusing.bytes().to_vec());
    let block = script.block_with(1, 2, &refs(&first), commands);
    bytes.insert("Block".into(), block.bytes().to_vec());
    let reference = reference();
    let messages = [
        ("MessageBlock", Message::Block(vec![1, 2, 3].into())),
        (
            "MessageBlocks",
            Message::Blocks(vec![vec![1].into(), vec![2, 3].into()]),
        ),
        (
            "MessageWant",
            Message::Want {
                refs: vec![reference],
            },
        ),
        ("MessageWantFrom", Message::WantFrom { round: 300 }),
    ];
    for (name, message) in messages.into_iter().chain(controls(reference)) {
        assert_eq!(Message::decode(&message.encode()).unwrap(), message);
        bytes.insert(name.into(), message.encode());
    }
    bytes
}

pub fn reference() -> BlockRef {
    BlockRef {
        round: 3,
        author: m(1),
        digest: Digest([0xcd; 32]),
    }
}

/// Two blocks of one member and round.
pub fn twins() -> Evidence {
    let mut script = Script::new(4);
    let (first, second) = (script.block(1, 1, &[]), script.block(1, 1, &[]));
    Evidence::of_twins(&first, &second)
}

pub fn evidence(twins: &Evidence) -> Vec<Evidence> {
    let Evidence::Equivocation(headers) = twins else {
        panic!("{twins:?}");
    };
    let group = GroupId(hash(b"group"));
    let shard = ShardName {
        volume: VOLUME,
        number: 9,
        root: hash(b"root"),
        index: 1,
    };
    let genesis = found(4, Params::default());
    let receipt = Receipt::sign(group, &key(1, 2), m(2), shard, 64);
    let hashes = [hash(b"a"), hash(b"b")];
    let slice = SignedSlice {
        shard,
        count: 2,
        hash: hashes[1],
        proof: barfs_crypto::prove(&hashes, 1).unwrap(),
        start: 0,
        end: 3,
        slice: vec![1, 2, 3],
        holder: m(2),
        signature: key(1, 2).sign("golden", b"slice"),
    };
    vec![
        twins.clone(),
        Evidence::MalformedBlock {
            bytes: vec![1, 2, 3],
        },
        Evidence::ContradictingTags(headers.clone()),
        Evidence::ReceiptAgainstDeny {
            receipt,
            deny: Deny::sign(&genesis, &key(1, 2), m(2), shard, DenyReason::NeverHad),
        },
        Evidence::ReceiptAgainstSlice {
            receipt,
            slice: Box::new(slice),
        },
    ]
}

pub fn controls(leader: BlockRef) -> impl Iterator<Item = (&'static str, Message)> {
    let checkpoint = Checkpoint {
        group: GroupId(hash(b"group")),
        epoch: 1,
        leader,
        index: 17,
        state: hash(b"state"),
        graph: hash(b"graph"),
        roster: hash(b"roster"),
    };
    let vote = CheckpointVote::sign(&key(1, 2), m(2), checkpoint);
    let certificate = Certificate {
        checkpoint,
        signatures: vec![(m(2), vote.signature)],
    };
    let digest = checkpoint.digest();
    let controls = vec![
        ("Vote", Control::Vote(vote)),
        ("Certificate", Control::Certificate(certificate.clone())),
        ("WantHandovers", Control::WantHandovers { epoch: 1 }),
        (
            "Handovers",
            Control::Handovers {
                handovers: vec![Handover {
                    certificate: certificate.clone(),
                    roster: found(4, Params::default()).roster(),
                }],
            },
        ),
        ("Pruned", Control::Pruned(certificate)),
        ("WantHead", Control::WantHead { checkpoint: digest }),
        ("Head", Control::Head { bytes: vec![1, 2] }),
        (
            "WantBuckets",
            Control::WantBuckets {
                checkpoint: digest,
                from: 3,
                until: 67,
            },
        ),
        (
            "Buckets",
            Control::Buckets {
                checkpoint: digest,
                from: 3,
                buckets: vec![vec![1], vec![]],
            },
        ),
        (
            "Carry",
            Control::Carry {
                command: vec![1, 2],
            },
        ),
        ("WantNewest", Control::WantNewest { nonce: [6; 32] }),
        (
            "Newest",
            Control::Newest {
                nonce: [6; 32],
                newest: Some(vec![1, 2]),
                yours: None,
            },
        ),
    ];
    controls
        .into_iter()
        .map(|(name, control)| (name, Message::Control(control)))
}

#[test]
fn the_bytes_are_what_they_were() {
    let current = current();
    if std::env::var("BARFS_GOLDEN").is_ok() {
        for (name, bytes) in &current {
            println!("{name} {}", hex::encode(bytes));
        }
    }
    let golden: BTreeMap<String, Vec<u8>> = GOLDEN
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, bytes)| (name.to_string(), hex::decode(bytes).unwrap()))
        .collect();
    assert!(golden.len() >= 18);
    for (name, bytes) in &golden {
        assert_eq!(current.get(name), Some(bytes), "{name} has changed");
    }
    let without: Vec<&String> = current
        .keys()
        .filter(|name| !golden.contains_key(*name))
        .collect();
    assert!(without.is_empty(), "not in golden.txt: {without:?}");
}
