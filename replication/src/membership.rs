//! Who is in a group: the members' self-signed cards and the genesis that binds them together and names the group.
//!
//! A [`Genesis`] in hand is valid: every card verified, every key distinct, every parameter in range. It never
//! changes; a member's number is its place in the list.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::ops::Deref;

use barfs_crypto::{NodeId, derive};
use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

pub use crate::card::{CardError, MemberCard};
use crate::checkpoint::certificate::CertificateError;
use crate::committee::{draw, ranked};
use crate::consensus::rules::ROUND_MAX;
use crate::consensus::tally::Schedule;
pub use crate::ids::{GroupId, MemberId};
use crate::params::{Params, ParamsError, Thresholds};
use crate::roster::{Handover, ReplacedKey, Roster};
use crate::wire::{self, WireError};

/// The most members of one group.
pub const MEMBERS_MAX: usize = 1000;
pub(crate) const NAME_BYTES_MAX: usize = 64;
const GENESIS_BYTES_MAX: usize = 1 << 20;
/// Goes up with every change of what members of one group have to agree on: bytes of blocks, rules, rows of the state.
const GENESIS_VERSION: u16 = 5;
const GROUP_DOMAIN: &str = "barfs 2026 group id v1";
const CARRIER_DOMAIN: &str = "barfs 2026 carriers v1";

/// What a group is founded on. Read it through [`Genesis`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GenesisTerms {
    /// Version of this layout.
    pub version: u16,
    /// For people, at most 64 bytes.
    #[borsh(deserialize_with = "wire::text::<_, NAME_BYTES_MAX>")]
    pub name: String,
    /// When it was founded, milliseconds since 1970.
    pub created_ms: u64,
    /// The members, numbered by their place.
    #[borsh(deserialize_with = "wire::list::<_, _, MEMBERS_MAX>")]
    pub members: Vec<MemberCard>,
    /// The group's numbers.
    pub params: Params,
    /// Makes two groups of the same people different.
    pub nonce: [u8; 16],
}

/// A checked genesis and what follows from it; reads like its [`GenesisTerms`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    terms: GenesisTerms,
    group: GroupId,
    by_node: BTreeMap<NodeId, MemberId>,
    epoch: u32,
    first_round: u64,
    /// The members of this epoch.
    cards: BTreeMap<MemberId, MemberCard>,
    /// Who of them sits in the committee, ascending.
    committee: Vec<MemberId>,
    /// Recovery keys of whoever is no member any more and still has packs.
    former: BTreeMap<MemberId, NodeId>,
    /// Node keys that were replaced a short while ago, ascending by (member, last epoch).
    replaced: Vec<ReplacedKey>,
}

/// Why a genesis is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum GenesisError {
    /// Not the bytes of a genesis.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Founded by another version, which orders and executes by other rules.
    #[error(
        "the group was founded with format {0} and this version of barfs has format {GENESIS_VERSION}; run the version that founded it, or found a new group"
    )]
    Version(u16),
    /// No member, or too many.
    #[error("a group has 1 to 1000 members, not {0}")]
    Members(usize),
    /// The group's name is too long.
    #[error("the group's name is longer than 64 bytes")]
    Name,
    /// A card that does not verify.
    #[error("the card of {member}: {error}")]
    Card {
        /// Whose.
        member: MemberId,
        /// Why.
        error: CardError,
    },
    /// A key that stands for two members, or twice in one card.
    #[error("{0} uses a key that is already in the group")]
    DuplicateKey(MemberId),
    /// A parameter out of range.
    #[error(transparent)]
    Params(#[from] ParamsError),
}

impl Deref for Genesis {
    type Target = GenesisTerms;
    fn deref(&self) -> &GenesisTerms {
        &self.terms
    }
}

impl Genesis {
    /// Founds a group.
    ///
    /// # Errors
    /// If a card does not verify, a key appears twice, or a bound is broken.
    pub fn new(
        name: &str,
        created_ms: u64,
        members: Vec<MemberCard>,
        params: Params,
        nonce: [u8; 16],
    ) -> Result<Self, GenesisError> {
        Self::from_terms(GenesisTerms {
            version: GENESIS_VERSION,
            name: name.into(),
            created_ms,
            members,
            params,
            nonce,
        })
    }

    /// Checks terms and numbers the members.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_terms(terms: GenesisTerms) -> Result<Self, GenesisError> {
        if terms.version != GENESIS_VERSION {
            return Err(GenesisError::Version(terms.version));
        }
        if terms.name.len() > NAME_BYTES_MAX {
            return Err(GenesisError::Name);
        }
        if !(1..=MEMBERS_MAX).contains(&terms.members.len()) {
            return Err(GenesisError::Members(terms.members.len()));
        }
        terms.params.validate()?;
        let cards: BTreeMap<MemberId, MemberCard> =
            numbers().zip(terms.members.iter().cloned()).collect();
        let by_node = check_cards(&cards)?;
        let group = GroupId(derive(GROUP_DOMAIN, &wire::encode(&terms)));
        let committee = draw(
            cards.keys().copied(),
            terms.params.committee_max,
            &group.0,
            0,
        );
        Ok(Self {
            terms,
            group,
            by_node,
            epoch: 0,
            first_round: 1,
            cards,
            committee,
            former: BTreeMap::new(),
            replaced: Vec::new(),
        })
    }

    /// The same group under the roster of the next epoch.
    ///
    /// # Errors
    /// If the roster is not of the next epoch, nobody is in it, its committee is not of its members, a card does not
    /// verify, or a key appears twice.
    pub fn successor(&self, roster: &Roster) -> Result<Self, GenesisError> {
        let cards: BTreeMap<MemberId, MemberCard> = roster.members.iter().cloned().collect();
        let count = roster.members.len();
        let follows = self.epoch.checked_add(1) == Some(roster.epoch)
            && roster.first_round > self.first_round
            && roster.first_round < ROUND_MAX
            && cards.len() == count
            && is_committee(&roster.committee, &cards);
        if !follows || !(1..=MEMBERS_MAX).contains(&count) {
            return Err(GenesisError::Members(count));
        }
        Ok(Self {
            terms: self.terms.clone(),
            group: self.group,
            by_node: check_cards(&cards)?,
            epoch: roster.epoch,
            first_round: roster.first_round,
            cards,
            committee: roster.committee.clone(),
            former: roster.former.iter().copied().collect(),
            replaced: roster.replaced.clone(),
        })
    }

    /// The group under a roster that the own, certified state describes.
    pub(crate) fn seated(&self, roster: &Roster) -> Self {
        let cards: BTreeMap<MemberId, MemberCard> = roster.members.iter().cloned().collect();
        Self {
            terms: self.terms.clone(),
            group: self.group,
            by_node: cards.iter().map(|(id, card)| (card.node, *id)).collect(),
            epoch: roster.epoch,
            first_round: roster.first_round,
            cards,
            committee: roster.committee.clone(),
            former: roster.former.iter().copied().collect(),
            replaced: roster.replaced.clone(),
        }
    }

    /// The group under the newest roster that a chain of hand-overs leads to.
    ///
    /// # Errors
    /// If one of them does not follow.
    pub fn after<H: Borrow<Handover>>(&self, handovers: &[H]) -> Result<Self, CertificateError> {
        let follow = |genesis: Self, handover: &H| handover.borrow().follow(&genesis);
        handovers.iter().try_fold(self.clone(), follow)
    }

    /// The members of this epoch, and who of them sits in the committee.
    #[must_use]
    pub fn roster(&self) -> Roster {
        Roster {
            epoch: self.epoch,
            first_round: self.first_round,
            members: self
                .cards
                .iter()
                .map(|(member, card)| (*member, card.clone()))
                .collect(),
            committee: self.committee.clone(),
            former: self.former.iter().map(|(id, key)| (*id, *key)).collect(),
            replaced: self.replaced.clone(),
        }
    }

    /// Who sits in the committee, ascending: those make blocks and certify.
    #[must_use]
    pub fn committee(&self) -> &[MemberId] {
        &self.committee
    }

    /// The card of a member that sits in the committee.
    #[must_use]
    pub fn seated_card(&self, member: MemberId) -> Option<&MemberCard> {
        self.committee.binary_search(&member).ok()?;
        self.cards.get(&member)
    }

    /// Who carries the commands of a member without a seat in this epoch, the first to be asked first: r + 2 of the
    /// committee, so that at least two of them do not lie.
    #[must_use]
    pub fn carriers(&self, member: MemberId) -> Vec<MemberId> {
        let seed = derive(
            CARRIER_DOMAIN,
            &wire::encode(&(self.group, self.first_round, member)),
        );
        let others = self.committee.iter().copied().filter(|it| *it != member);
        ranked(others, &seed, self.epoch)
            .take(self.thresholds().r.saturating_add(2))
            .collect()
    }

    /// A member's recovery key; that of a former one as long as it has packs.
    #[must_use]
    pub fn recovery_key(&self, member: MemberId) -> Option<NodeId> {
        let card = self.cards.get(&member).map(|card| card.recovery);
        card.or_else(|| self.former.get(&member).copied())
    }

    /// Those that are no members any more and still have packs, with their recovery keys.
    pub fn former(&self) -> impl Iterator<Item = (MemberId, NodeId)> {
        self.former.iter().map(|(member, key)| (*member, *key))
    }

    /// What a quorum of the whole membership is, whoever sits.
    #[must_use]
    pub fn membership_thresholds(&self) -> Thresholds {
        Thresholds::of(self.cards.len())
    }

    /// The epoch of this roster, from 0.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The first round of this epoch.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.first_round
    }

    /// The members of this epoch with their cards, ascending, with a seat or without.
    pub fn cards(&self) -> impl Iterator<Item = (MemberId, &MemberCard)> {
        self.cards.iter().map(|(member, card)| (*member, card))
    }

    /// The group's name among all groups.
    #[must_use]
    pub fn group_id(&self) -> GroupId {
        self.group
    }

    /// The bytes that [`decode`](Self::decode) reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(&self.terms)
    }

    /// Reads and checks a genesis.
    ///
    /// # Errors
    /// If the bytes are no genesis, or as [`new`](Self::new).
    pub fn decode(bytes: &[u8]) -> Result<Self, GenesisError> {
        Self::from_terms(wire::decode(bytes, GENESIS_BYTES_MAX)?)
    }

    /// A member's card.
    #[must_use]
    pub fn member(&self, member: MemberId) -> Option<&MemberCard> {
        self.cards.get(&member)
    }

    /// The key that signed a member's blocks in `epoch`, as far as this roster knows: one that was replaced a short
    /// while ago, if it was in force then, else the present one.
    pub(crate) fn key_in(&self, member: MemberId, epoch: u32) -> Option<NodeId> {
        let of = |key: &&ReplacedKey| key.member == member && epoch <= key.last_epoch;
        let present = self.cards.get(&member)?.node;
        Some(
            self.replaced
                .iter()
                .find(of)
                .map_or(present, |key| key.node),
        )
    }

    /// Whose node key this is.
    #[must_use]
    pub fn member_of(&self, node: NodeId) -> Option<MemberId> {
        self.by_node.get(&node).copied()
    }

    /// Whose recovery key this is.
    #[must_use]
    pub fn member_of_recovery(&self, recovery: NodeId) -> Option<MemberId> {
        let former = self.former.iter().map(|(member, key)| (*member, *key));
        self.cards()
            .map(|(member, card)| (member, card.recovery))
            .chain(former)
            .find_map(|(member, key)| (key == recovery).then_some(member))
    }

    /// All members, ascending, with a seat or without.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = MemberId> + ExactSizeIterator + use<> {
        let ids: Vec<MemberId> = self.cards.keys().copied().collect();
        ids.into_iter()
    }

    /// The leaders of a round, in the order of their slots.
    #[must_use]
    pub fn leaders(&self, round: u64) -> Vec<MemberId> {
        let schedule = self.schedule();
        schedule
            .slots(round)
            .map(|slot| schedule.leader(slot))
            .collect()
    }

    /// The faults that the committee tolerates.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        Thresholds::of(self.committee.len())
    }

    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::new(
            self.committee.as_slice().into(),
            self.terms.params.leaders_per_round,
        )
    }
}

/// Whether these are some of the members, each once, ascending.
fn is_committee(committee: &[MemberId], cards: &BTreeMap<MemberId, MemberCard>) -> bool {
    let ascending = committee.iter().zip(committee.iter().skip(1));
    !committee.is_empty()
        && committee.iter().all(|member| cards.contains_key(member))
        && ascending.into_iter().all(|(a, b)| a < b)
}

/// Every card verifies and no key stands for two; whose node key is whose.
fn check_cards(
    cards: &BTreeMap<MemberId, MemberCard>,
) -> Result<BTreeMap<NodeId, MemberId>, GenesisError> {
    let mut by_key = BTreeMap::new();
    let mut by_node = BTreeMap::new();
    for (member, card) in cards {
        let member = *member;
        card.verify()
            .map_err(|error| GenesisError::Card { member, error })?;
        for key in [card.node, card.recovery] {
            if by_key.insert(key, member).is_some() {
                return Err(GenesisError::DuplicateKey(member));
            }
        }
        by_node.insert(card.node, member);
    }
    Ok(by_node)
}

fn numbers() -> impl Iterator<Item = MemberId> {
    (0..=u16::MAX).map(MemberId)
}
