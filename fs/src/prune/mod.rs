//! Freeing room on the group: forgets what no kept head refers to, gives up packs that hold nothing else, and copies
//! what lives in mostly dead packs together.
//!
//! Two phases: *mark* walks the trees of every kept head and notes the handles they refer to; *sweep* has a commit take
//! the others out of the location map, and gives up every pack that the map of that head does not mention. What lives
//! in mostly dead packs is then copied to new ones, verified there, committed, and only after that the old ones go.
//! Each step leaves a whole volume behind, so an interrupted prune is simply begun again.
//! Invariants: a pack is given up only when the newest committed map does not mention it, no commit under way can, and
//! it was made before the prune began. Memory: a compressed set of handles and one number for each pack.

mod mark;
mod rewrite;
mod survey;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::commit::orders::Orders;
use crate::error::{Result, VolumeError};
use crate::format::pack::PACK_MAX;
use crate::format::record::Stamp;
use crate::store::{PackInfo, PackNo};
use crate::tree::overlay::Base;
use crate::volume::{Signal, Volume};

/// How to prune.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Packs of which less than this many hundredths live are copied together.
    pub rewrite_below: u64,
    /// Packs smaller than the largest class that may stay; when there are more they are copied together.
    pub small_packs: usize,
    /// Only tell what would be freed.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            rewrite_below: 50,
            small_packs: 16,
            dry_run: false,
        }
    }
}

/// Told while a prune runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneProgress {
    /// So many tree nodes were looked at.
    Marking {
        /// Nodes.
        nodes: u64,
    },
    /// The map is being read, and written without what is dead.
    Sweeping,
    /// Mostly dead packs are being copied together.
    Rewriting {
        /// Packs done.
        done: usize,
        /// Packs in all.
        total: usize,
    },
    /// Packs are being given up.
    Releasing {
        /// Packs.
        packs: usize,
    },
}

/// What a prune did, or with `dry_run` would do at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Chunks and tree nodes that are kept.
    pub handles_live: u64,
    /// Packs given up.
    pub packs_released: u64,
    /// Bytes of those packs.
    pub bytes_released: u64,
    /// Packs whose living content was copied.
    pub packs_rewritten: u64,
    /// Bytes copied.
    pub bytes_rewritten: u64,
    /// Packs left.
    pub packs_left: u64,
    /// Bytes of the packs left.
    pub bytes_left: u64,
}

/// State of the pruner.
#[derive(Default)]
pub(crate) struct Pruner {
    pub signal: Arc<Signal>,
    one_at_a_time: Mutex<()>,
    /// Sequence of the head that the last prune of this run ended with.
    last: Mutex<u64>,
}

type Told<'a> = &'a mut dyn FnMut(PruneProgress);

/// Between two looks whether a prune is due.
const LOOK: Duration = Duration::from_secs(60);
/// A full quota, in hundredths, makes a prune due earlier.
const QUOTA_TIGHT: u64 = 90;
const TIGHT_INTERVAL: i64 = 600;
/// So many commits leave small packs worth copying together, after an hour at the earliest.
const MANY_COMMITS: u64 = 256;
const MANY_INTERVAL: i64 = 3600;
/// How long readers that still look through an older head are waited for.
const READERS_WAIT: Duration = Duration::from_secs(30);

/// The pruner's thread.
pub(crate) fn run(signal: &Signal, volume: &Weak<Volume>) {
    let mut begun = false;
    while signal.wait(LOOK) {
        let Some(volume) = volume.upgrade() else {
            return;
        };
        if !begun {
            *volume.pruner.last.lock() = volume.space.overlay.view().base.head.sequence;
            begun = true;
        }
        if !volume.prune_is_due(Stamp::now().seconds) {
            continue;
        }
        match volume.prune(&PruneOptions::default(), &mut |_| ()) {
            Ok(report) => tracing::info!(?report, "pruned"),
            Err(error) => tracing::warn!(%error, "the prune is begun again later"),
        }
    }
}

impl Volume {
    fn prune_is_due(&self, now: i64) -> bool {
        let Some(interval) = self.options.prune_interval else {
            return false;
        };
        let view = self.space.overlay.view();
        let head = &view.base.head;
        if head.sequence == 0 || self.check_writable().is_err() {
            return false;
        }
        let age = now.saturating_sub(head.pruned);
        let space = self.store.space();
        let tight = space.used.saturating_mul(100) > space.total.saturating_mul(QUOTA_TIGHT);
        let commits = head.sequence.saturating_sub(*self.pruner.last.lock());
        age > i64::try_from(interval.as_secs()).unwrap_or(i64::MAX)
            || (tight && age > TIGHT_INTERVAL)
            || (commits > MANY_COMMITS && age > MANY_INTERVAL)
    }

    /// Frees room on the group; see [`PruneReport`] for what comes of it. Reading, writing and committing go on
    /// meanwhile. One runs at a time; a second call waits for the first.
    ///
    /// # Errors
    /// `ReadOnly`, `Closed`; failures of the group; as [`Volume::sync`]. Nothing that is needed is lost then, and the
    /// next prune goes on where this one ended.
    pub fn prune(
        &self,
        options: &PruneOptions,
        progress: &mut dyn FnMut(PruneProgress),
    ) -> Result<PruneReport, VolumeError> {
        self.check_writable()?;
        let _one = self.pruner.one_at_a_time.lock();
        // Nothing that only old heads hold may come back to life while it is judged.
        let sharing = self.suspend_sharing();
        // Packs made from now on are not judged.
        let floor = self.space.overlay.counters().pack;
        if !options.dry_run {
            self.sync(crate::options::Rung::Group, &mut |_| ())?;
        }
        let base = self.space.overlay.view().base.clone();
        let mut report = PruneReport::default();
        if base.group.is_none() {
            return Ok(report);
        }
        let sweep = Arc::new(self.mark(&base, progress)?);
        report.handles_live = sweep.live.len();
        progress(PruneProgress::Sweeping);
        if options.dry_run {
            let used = self.survey(&base.head, Some(&sweep))?;
            let gone = self
                .judged(floor)?
                .into_iter()
                .filter(|pack| !used.contains_key(&pack.number));
            gone.for_each(|pack| report.count(&pack));
            return self.finish_report(report);
        }
        self.prune_commit(
            base,
            Orders {
                sweep: Some(sweep),
                ..Orders::default()
            },
        )?;
        // What was found dead is in no map any more: nobody can share it.
        drop(sharing);
        self.release_unused(floor, &mut report, progress)?;
        self.rewrite(options, floor, &mut report, progress)?;
        self.release_unused(floor, &mut report, progress)?;
        self.finish_report(report)
    }

    fn finish_report(&self, mut report: PruneReport) -> Result<PruneReport> {
        let mut left = self.store.list()?;
        left.retain(|pack| !pack.released);
        report.packs_left = left.len() as u64;
        report.bytes_left = left.iter().map(|pack| pack.len).sum();
        *self.pruner.last.lock() = self.space.overlay.view().base.head.sequence;
        Ok(report)
    }

    pub(crate) fn check_pruning(&self) -> Result<()> {
        if self.pruner.signal.stopped() {
            return Err(VolumeError::Closed);
        }
        Ok(())
    }

    /// Has a commit follow `orders`, and waits until nobody reads through the head before it.
    fn prune_commit(&self, base: Arc<Base>, mut orders: Orders) -> Result<()> {
        orders.pruned = Some(Stamp::now().seconds);
        let before = Arc::downgrade(&base);
        drop(base);
        self.commit_with(orders, &mut |_| ())?;
        let until = Instant::now() + READERS_WAIT;
        while before.strong_count() > 0 && Instant::now() < until {
            self.pruner.signal.wait(Duration::from_millis(10));
            self.check_pruning()?;
        }
        Ok(())
    }

    /// Packs that this prune may judge: made before it began, under this lease or an older one, and whole on the group.
    fn judged(&self, floor: u64) -> Result<Vec<PackInfo>> {
        let ours = u64::from(self.options.fencing);
        let old = |number: PackNo| {
            let (fencing, counter) = (number.0 >> 40, number.0 & ((1 << 40) - 1));
            fencing < ours || (fencing == ours && counter < floor)
        };
        let mut packs = self.store.list()?;
        packs.retain(|pack| {
            !pack.released && old(pack.number) && !self.files.is_pinned(pack.number)
        });
        Ok(packs)
    }

    /// Gives up every judged pack that the newest committed map does not mention.
    fn release_unused(
        &self,
        floor: u64,
        report: &mut PruneReport,
        progress: Told<'_>,
    ) -> Result<()> {
        // The list first: what a later commit adds is in the map but not in the list, never the reverse.
        let packs = self.judged(floor)?;
        let base = self.space.overlay.view().base.clone();
        let used = self.survey(&base.head, None)?;
        let gone: Vec<PackInfo> = packs
            .into_iter()
            .filter(|pack| !used.contains_key(&pack.number))
            .collect();
        progress(PruneProgress::Releasing { packs: gone.len() });
        for some in gone.chunks(256) {
            self.check_pruning()?;
            let numbers: Vec<PackNo> = some.iter().map(|pack| pack.number).collect();
            self.store.release(&numbers)?;
            for pack in some {
                report.count(pack);
                self.files.forget(pack.number)?;
            }
        }
        Ok(())
    }

    /// Judged packs worth copying together, given how many bytes live in each.
    fn worth_rewriting(
        &self,
        options: &PruneOptions,
        packs: Vec<PackInfo>,
        used: &HashMap<PackNo, u64>,
    ) -> Vec<PackInfo> {
        let small = |pack: &PackInfo| pack.len < PACK_MAX as u64;
        let many_small = packs.iter().filter(|pack| small(pack)).count() > options.small_packs;
        let mostly_dead = |pack: &PackInfo| {
            let live = used.get(&pack.number).copied().unwrap_or(0);
            live.saturating_mul(100) < pack.len.saturating_mul(options.rewrite_below)
        };
        let mut worth: Vec<PackInfo> = packs
            .into_iter()
            .filter(|pack| {
                if small(pack) {
                    many_small
                } else {
                    mostly_dead(pack)
                }
            })
            .collect();
        worth.sort_unstable_by_key(|pack| pack.number);
        worth
    }
}

impl PruneReport {
    fn count(&mut self, pack: &PackInfo) {
        self.packs_released += 1;
        self.bytes_released += pack.len;
    }
}
