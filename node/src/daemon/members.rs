//! Who sits in the group, who did, and who waits for votes, as people and scripts are told.

use barfs_replication::{Genesis, MemberId, Replica, SeatState, committee_risk};
use serde::{Deserialize, Serialize};

/// The committee.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Members {
    /// The group's name.
    pub group: String,
    /// The epoch: how often the committee has changed.
    pub epoch: u32,
    /// How many of the members sit in the committee: all, in a group that is not too large for that.
    pub committee: usize,
    /// Where the committee is drawn: the probability that more of it lie than it stands, if as many of the members lie as
    /// the group's parameters take for granted.
    pub committee_risk: Option<f64>,
    /// Everybody who sits or did.
    pub members: Vec<MemberInfo>,
    /// Whoever was invited and waits for votes.
    pub applicants: Vec<ApplicantInfo>,
}

/// A member, as the ledger has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its number, never given twice.
    pub id: u16,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its node key, 64 hexadecimal digits.
    pub key: String,
    /// `seated`, `joining`, `leaving`, `being evicted`, `left` or `evicted`.
    pub seat: String,
    /// Whether it sits in the committee of this epoch.
    pub in_committee: bool,
    /// Whether it is this node.
    pub this_node: bool,
    /// Bytes lent.
    pub pledge: u64,
    /// Bytes of others' shards that it holds.
    pub held: u64,
    /// Bytes of its own shards on others.
    pub used: u64,
    /// Bytes that it may use less, for blocks that came late.
    pub penance: u64,
    /// Bytes that it may use more: others owe it to those that did not leave their late blocks out.
    pub credit: u64,
    /// Members that want it out.
    pub against: Vec<u16>,
    /// Duties that it did not do in time, ever.
    pub silences: u32,
    /// Whether it has not answered since the last of them.
    pub unresponsive: bool,
    /// The tag of the lie that it was shown to have told.
    pub convicted_of: Option<u8>,
    /// Whether an absence that it announced is going on.
    pub on_vacation: bool,
}

/// Somebody who waits for votes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApplicantInfo {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its node key, 64 hexadecimal digits.
    pub key: String,
    /// Bytes that it would lend.
    pub pledge: u64,
    /// Members that are for it.
    pub votes: Vec<u16>,
}

fn seat_name(state: SeatState) -> &'static str {
    match state {
        SeatState::Seated => "seated",
        SeatState::Joining => "joining",
        SeatState::Leaving => "leaving",
        SeatState::Evicting => "being evicted",
        SeatState::Left => "left",
        SeatState::Evicted => "evicted",
    }
}

fn numbers(members: &[MemberId]) -> Vec<u16> {
    members.iter().map(|member| member.0).collect()
}

pub(super) fn members_of(replica: &Replica, me: MemberId) -> Members {
    let (ledger, roster) = (replica.ledger(), replica.genesis());
    let live = ledger.live_time();
    let info = |(id, seat): (MemberId, &barfs_replication::Seat)| {
        let account = ledger.account(id);
        let resting = seat
            .vacation
            .is_some_and(|(from, until)| from <= live && live < until);
        MemberInfo {
            id: id.0,
            name: seat.card.name.clone(),
            address: seat.card.address.clone(),
            key: seat.card.node.to_hex(),
            seat: seat_name(seat.state).to_owned(),
            in_committee: roster.seated_card(id).is_some(),
            this_node: id == me,
            pledge: account.map_or(0, |account| account.pledge),
            held: account.map_or(0, |account| account.held),
            used: account.map_or(0, |account| account.used),
            penance: account.map_or(0, |account| account.penance),
            credit: account.map_or(0, |account| account.credit),
            against: numbers(&seat.against),
            silences: account.map_or(0, |account| account.silences),
            unresponsive: account.is_some_and(|account| account.unresponsive),
            convicted_of: account
                .and_then(|account| account.convicted)
                .map(|lie| lie.kind),
            on_vacation: resting,
        }
    };
    let applicant = |open: &barfs_replication::Applicant| ApplicantInfo {
        name: open.card.name.clone(),
        address: open.card.address.clone(),
        key: open.card.node.to_hex(),
        pledge: open.card.pledge,
        votes: numbers(&open.votes),
    };
    Members {
        group: roster.name.clone(),
        epoch: roster.epoch(),
        committee: roster.committee().len(),
        committee_risk: risk_of(roster),
        members: ledger.seats().map(info).collect(),
        applicants: ledger.applicants().map(applicant).collect(),
    }
}

/// The chance of drawing a committee with more liars than it tolerates; nothing where everybody sits.
pub(super) fn risk_of(roster: &Genesis) -> Option<f64> {
    let (all, seats) = (roster.ids().len(), roster.committee().len());
    let per_mille = roster.params.byzantine_per_mille;
    (seats < all).then(|| committee_risk(all, seats, per_mille))
}
