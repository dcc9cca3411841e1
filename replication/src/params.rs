//! The numbers of a group: how many faults it tolerates ([`Thresholds`], from its size alone) and what its genesis
//! fixes ([`Params`]). Both are the same at every member.

use borsh::{BorshDeserialize, BorshSerialize};
use thiserror::Error;

use crate::checkpoint::snapshot::DELIVERED_MAX;

const YEAR_MS: u64 = 366 * 24 * 3_600_000;

/// How many failures a group of `n` members tolerates, and what it takes for a quorum.
///
/// `n >= 2u + r + 2` and `quorum = n - u`, so two quorums meet in at least `r + 2` members. Below four members the
/// group tolerates nothing: every member is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Members.
    pub n: usize,
    /// Members that may deviate arbitrarily.
    pub r: usize,
    /// Members that may fail in any way, those that deviate included.
    pub u: usize,
    /// Members whose agreement decides.
    pub quorum: usize,
}

impl Thresholds {
    /// The thresholds of a group of `n` members.
    #[must_use]
    pub fn of(n: usize) -> Self {
        let (r, u) = match n {
            0..4 => (0, 0),
            _ => {
                let r = (n - 2) / 3;
                (r, (n - r - 2) / 2)
            }
        };
        Self {
            n,
            r,
            u,
            quorum: n - u,
        }
    }
}

/// What a group's genesis fixes. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// Leader slots in each round, 1 to 16; more than the members has no effect.
    pub leaders_per_round: u8,
    /// Rounds behind a committed leader after which an undelivered block is given up, 8 to 1024.
    pub gc_depth: u64,
    /// A checkpoint is taken at the first leader committed in each so many rounds, 8 to 65536.
    pub checkpoint_rounds: u64,
    /// How long an idle member waits before it sends a block nobody asked for.
    pub idle_interval_ms: u32,
    /// The shortest time that a member waits for the blocks it would like to have before its next one.
    pub min_timeout_ms: u32,
    /// The longest such time.
    pub max_timeout_ms: u32,
    /// The most by which live time advances at one commit.
    pub max_step_ms: u64,
    /// How long a released pack can still be vetoed, in live time.
    pub release_grace_ms: u64,
    /// The same for packs under 1 MiB released within this time of their placement.
    pub small_release_grace_ms: u64,
    /// The longest lease on a volume that can be asked for, in live time.
    pub lease_max_ms: u64,
    /// Room for commands in one block, in bytes, 4 KiB to 4 MiB.
    pub block_bytes_max: u32,
    /// Members that must be for somebody who wants to join, the inviter included; never fewer than r + 1.
    pub join_votes: u16,
    /// How long an audit epoch is, in live time; one beacon comes with each.
    pub audit_epoch_ms: u64,
    /// Members that sit in the committee at most, 4 to 1000; they are drawn anew each term.
    pub committee_max: u16,
    /// How long a term is at most, in live time.
    pub term_ms: u64,
    /// How many of a thousand members the founders believe to lie.
    pub byzantine_per_mille: u16,
    /// How long the packs of a member that has left stay, in live time.
    pub absence_grace_ms: u64,
    /// The same for one that was voted out or lied.
    pub eviction_grace_ms: u64,
    /// A block counts as late only if the rounds that went on without it took so long, in live time.
    pub late_after_ms: u64,
    /// Late blocks in a thousand rounds of an audit epoch that cost nothing.
    pub late_per_mille: u16,
    /// Bytes of commands that others carry for one member in an audit epoch, at least 1 MiB; as much again for its
    /// recovery key.
    pub carried_bytes_max: u64,
}

impl Default for Params {
    fn default() -> Self {
        const HOUR_MS: u64 = 3_600_000;
        Self {
            leaders_per_round: 2,
            gc_depth: 256,
            checkpoint_rounds: 64,
            idle_interval_ms: 10_000,
            min_timeout_ms: 200,
            max_timeout_ms: 10_000,
            max_step_ms: 60_000,
            release_grace_ms: 7 * 24 * HOUR_MS,
            small_release_grace_ms: HOUR_MS,
            lease_max_ms: 90 * 24 * HOUR_MS,
            block_bytes_max: 1 << 20,
            join_votes: 0,
            audit_epoch_ms: HOUR_MS,
            committee_max: 25,
            term_ms: 30 * 24 * HOUR_MS,
            byzantine_per_mille: 50,
            absence_grace_ms: 180 * 24 * HOUR_MS,
            eviction_grace_ms: 30 * 24 * HOUR_MS,
            late_after_ms: 2_000,
            late_per_mille: 100,
            carried_bytes_max: 1 << 30,
        }
    }
}

/// A parameter outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the parameter {0} is out of range")]
pub struct ParamsError(pub &'static str);

impl Params {
    /// Checks every range.
    ///
    /// # Errors
    /// Names the first parameter that is out of range.
    pub fn validate(&self) -> Result<(), ParamsError> {
        let mut checks = self.order_checks().into_iter().chain(self.ledger_checks());
        match checks.find(|(_, holds)| !holds) {
            Some((name, _)) => Err(ParamsError(name)),
            None => Ok(()),
        }
    }

    fn order_checks(&self) -> [(&'static str, bool); 9] {
        // A snapshot names every delivered block above the floor; half of the room is for twins.
        let blocks = self.gc_depth.saturating_mul(u64::from(self.committee_max));
        let named = usize::try_from(blocks).is_ok_and(|blocks| blocks <= DELIVERED_MAX / 2);
        [
            (
                "leaders_per_round",
                (1..=16).contains(&self.leaders_per_round),
            ),
            ("gc_depth", (8..=1024).contains(&self.gc_depth)),
            (
                "checkpoint_rounds",
                (8..=65_536).contains(&self.checkpoint_rounds),
            ),
            (
                "idle_interval_ms",
                (100..=3_600_000).contains(&self.idle_interval_ms),
            ),
            (
                "min_timeout_ms",
                (1..=60_000).contains(&self.min_timeout_ms),
            ),
            (
                "max_timeout_ms",
                (self.min_timeout_ms..=600_000).contains(&self.max_timeout_ms),
            ),
            (
                "block_bytes_max",
                (4096..=4 << 20).contains(&self.block_bytes_max),
            ),
            ("committee_max", (4..=1000).contains(&self.committee_max)),
            ("gc_depth times committee_max", named),
        ]
    }

    fn ledger_checks(&self) -> [(&'static str, bool); 12] {
        let year = |ms: u64| ms <= YEAR_MS;
        [
            (
                "audit_epoch_ms",
                (1_000..=YEAR_MS).contains(&self.audit_epoch_ms),
            ),
            ("max_step_ms", (1..=YEAR_MS).contains(&self.max_step_ms)),
            ("release_grace_ms", year(self.release_grace_ms)),
            (
                "small_release_grace_ms",
                self.small_release_grace_ms <= self.release_grace_ms,
            ),
            ("lease_max_ms", (1..=YEAR_MS).contains(&self.lease_max_ms)),
            ("term_ms", (1_000..=YEAR_MS).contains(&self.term_ms)),
            ("byzantine_per_mille", self.byzantine_per_mille <= 1000),
            ("absence_grace_ms", year(self.absence_grace_ms)),
            ("eviction_grace_ms", year(self.eviction_grace_ms)),
            ("late_after_ms", (1..=YEAR_MS).contains(&self.late_after_ms)),
            ("late_per_mille", self.late_per_mille <= 1000),
            (
                "carried_bytes_max",
                (1 << 20..=1 << 48).contains(&self.carried_bytes_max),
            ),
        ]
    }
}
