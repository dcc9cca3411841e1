//! No variant is without golden bytes: each list below is matched exhaustively, so a new variant does not compile before
//! it stands in its list, and is not green before its bytes stand in `golden.txt` or `golden_outcomes.txt`.

use std::collections::{BTreeMap, BTreeSet};

use barfs_replication::*;
use borsh::BorshSerialize;

use crate::golden_bytes;
use crate::world::{key, m};

/// The tag of each variant of a type, and all of them.
macro_rules! tags {
    ($name:ident, $all:ident, $kind:ident { $($variant:ident = $tag:literal),* $(,)? }) => {
        const $all: &[u8] = &[$($tag),*];
        fn $name(value: &$kind) -> u8 {
            match value {
                $($kind::$variant { .. } => $tag),*
            }
        }
    };
}

tags!(command_tag, COMMANDS, Command {
    AddDevice = 1, RevokeDevice = 2, SetHome = 3, CreateVolume = 4, AcquireLease = 5, RenewLease = 6,
    ReleaseLease = 7, Place = 8, SetHead = 9, Release = 10, VetoRelease = 11, Note = 12, Accuse = 13,
    Join = 14, Leave = 15, Vote = 16, RotateIdentity = 17, Vacation = 18, Ask = 19, Respond = 20,
    RegisterVrf = 21, Reveal = 22, ReplaceHeader = 23, ReadMark = 24,
});
tags!(control_tag, CONTROLS, Control {
    Vote = 5, Certificate = 6, Pruned = 7, WantHead = 8, Head = 9, WantBuckets = 10, Buckets = 11,
    WantNewest = 12, Newest = 13, WantHandovers = 14, Handovers = 15, Carry = 16,
});
tags!(evidence_tag, EVIDENCE, Evidence {
    Equivocation = 1, MalformedBlock = 2, ContradictingTags = 3,
    ReceiptAgainstDeny = 5, ReceiptAgainstSlice = 6,
});
tags!(effect_tag, EFFECTS, Effect {
    Done = 1, Lease = 2, Head = 3, Packs = 4, Joined = 5, Votes = 6, Question = 7,
});
tags!(refusal_tag, REFUSALS, Refusal {
    DuplicateNumber = 1, NumberTooFar = 2, UnknownDevice = 3, DeviceRevoked = 4, NotAllowed = 5,
    UnknownMember = 6, UnknownVolume = 7, VolumeExists = 8, StaleHome = 9, LeaseHeld = 10,
    WrongFencing = 11, LeaseDuration = 12, HeadConflict = 13, OverQuota = 14, BadPlacement = 15,
    UnknownPack = 16, TooMany = 17, Busy = 18, TooLarge = 19, Unseen = 20, NoProof = 21,
    Convicted = 22, InviteUsed = 23, InviteExpired = 24, KeyTaken = 25, TooFewMembers = 26,
    NoSuchVote = 27, Vacation = 28, Deadline = 29, QuestionKnown = 30, NoSuchQuestion = 31,
    BadReveal = 32, WrongPeriod = 33, Outdated = 34, Allowance = 35, HeaderConflict = 36,
    HeaderReplaced = 37, Suspended = 38,
});
tags!(fault_tag, FAULTS, PlacementFault {
    Owner = 1, Shape = 2, NumberTaken = 3, Receipt = 4, TooFewReceipts = 5, Holders = 6, Rejection = 7,
});
tags!(reject_tag, REJECTS, RejectReason { Full = 1, NotYours = 2, BadProof = 3, Busy = 4, Malformed = 5 });
tags!(deny_tag, DENIALS, DenyReason { NeverHad = 1, Released = 2 });

/// Every sample begins with its tag, and every tag has a sample.
fn assert_complete<T: BorshSerialize>(samples: &[T], tag: impl Fn(&T) -> u8, all: &[u8]) {
    let mut seen = BTreeSet::new();
    for sample in samples {
        let bytes = borsh::to_vec(sample).unwrap();
        assert_eq!(bytes.first(), Some(&tag(sample)));
        seen.insert(tag(sample));
    }
    assert_eq!(seen, all.iter().copied().collect());
}

fn effects() -> Vec<Effect> {
    vec![
        Effect::Done,
        Effect::Lease {
            fencing: 3,
            until: LiveTime(5),
        },
        Effect::Head { sequence: 7 },
        Effect::Packs { changed: 2 },
        Effect::Joined { member: m(4) },
        Effect::Votes { have: 1, need: 2 },
        Effect::Question {
            deadline: LiveTime(9),
        },
    ]
}

fn faults() -> Vec<PlacementFault> {
    use PlacementFault::*;
    vec![
        Owner,
        Shape,
        NumberTaken,
        Receipt,
        TooFewReceipts,
        Holders,
        Rejection,
    ]
}

fn refusals() -> Vec<Refusal> {
    let (member, newest) = (m(2), 6);
    let digest = barfs_crypto::hash(b"header");
    vec![
        Refusal::DuplicateNumber,
        Refusal::NumberTooFar { next: 8 },
        Refusal::UnknownDevice,
        Refusal::DeviceRevoked,
        Refusal::NotAllowed,
        Refusal::UnknownMember(member),
        Refusal::UnknownVolume,
        Refusal::VolumeExists,
        Refusal::StaleHome { newest },
        Refusal::LeaseHeld {
            device: key(3, 1).id(),
            until: LiveTime(4),
        },
        Refusal::WrongFencing { newest: 6 },
        Refusal::LeaseDuration { max_ms: 10 },
        Refusal::HeadConflict { newest },
        Refusal::OverQuota { member, excess: 3 },
        Refusal::BadPlacement {
            number: 1,
            fault: PlacementFault::Shape,
        },
        Refusal::UnknownPack { number: 1 },
        Refusal::TooMany,
        Refusal::Busy,
        Refusal::TooLarge,
        Refusal::Unseen,
        Refusal::NoProof,
        Refusal::Convicted(member),
        Refusal::InviteUsed,
        Refusal::InviteExpired,
        Refusal::KeyTaken,
        Refusal::TooFewMembers { remaining: 3 },
        Refusal::NoSuchVote,
        Refusal::Vacation { max_ms: 11 },
        Refusal::Deadline { max_ms: 12 },
        Refusal::QuestionKnown,
        Refusal::NoSuchQuestion,
        Refusal::BadReveal,
        Refusal::WrongPeriod { now: 2 },
        Refusal::Outdated,
        Refusal::Allowance,
        Refusal::HeaderConflict { newest: digest },
        Refusal::HeaderReplaced,
        Refusal::Suspended,
    ]
}

#[test]
fn every_variant_has_its_bytes() {
    let commands: Vec<Command> = golden_bytes::commands()
        .into_iter()
        .map(|it| it.1)
        .collect();
    // `Accuse` stands in the golden block that accuses.
    let twins = golden_bytes::twins();
    let accuse = Command::Accuse {
        evidence: Box::new(twins.clone()),
    };
    let commands: Vec<Command> = commands.into_iter().chain([accuse]).collect();
    assert_complete(&commands, command_tag, COMMANDS);
    let controls: Vec<Control> = golden_bytes::controls(golden_bytes::reference())
        .map(|(_, message)| match message {
            Message::Control(control) => control,
            Message::Block(_)
            | Message::Blocks(_)
            | Message::Want { .. }
            | Message::WantFrom { .. } => panic!("not a control frame"),
        })
        .collect();
    assert_complete(&controls, control_tag, CONTROLS);
    assert_complete(&golden_bytes::evidence(&twins), evidence_tag, EVIDENCE);
    assert_complete(&effects(), effect_tag, EFFECTS);
    assert_complete(&refusals(), refusal_tag, REFUSALS);
    assert_complete(&faults(), fault_tag, FAULTS);
    let rejects = [
        RejectReason::Full,
        RejectReason::NotYours,
        RejectReason::BadProof,
        RejectReason::Busy,
        RejectReason::Malformed,
    ];
    assert_complete(&rejects, reject_tag, REJECTS);
    let denials = [DenyReason::NeverHad, DenyReason::Released];
    assert_complete(&denials, deny_tag, DENIALS);
}

#[test]
fn outcomes_are_encoded_as_they_were() {
    let outcomes = effects()
        .into_iter()
        .map(Outcome::Applied)
        .chain(refusals().into_iter().map(Outcome::Refused));
    let current: BTreeMap<String, String> = outcomes
        .map(|outcome| {
            let bytes = borsh::to_vec(&outcome).unwrap();
            let name = format!("{outcome:?}");
            let name: String = name.split([' ', '{']).next().unwrap().into();
            (name, hex::encode(bytes))
        })
        .collect();
    assert_eq!(current.len(), EFFECTS.len() + REFUSALS.len());
    if std::env::var("BARFS_GOLDEN").is_ok() {
        for (name, bytes) in &current {
            println!("{name} {bytes}");
        }
    }
    let golden: BTreeMap<String, String> = include_str!("golden_outcomes.txt")
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, bytes)| (name.to_string(), bytes.to_string()))
        .collect();
    assert_eq!(current, golden);
}
