//! The list of snapshots: a small tree under the head, by the sequence of the head that each was.
//!
//! A commit adds the head that it replaces, and takes out what has thinned or was forgotten. The newest head is not in
//! the list unless it was pinned; readers are shown it all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::names::{free_name, time_name};
use super::retention::{Retention, Verdict, judge, thin};
use crate::commit::branch;
use crate::commit::orders::Orders;
use crate::commit::place::Placer;
use crate::commit::sinks::MapSink;
use crate::error::{Result, VolumeError};
use crate::format::blob::BlobAddr;
use crate::format::head::Head;
use crate::format::key::{self, SPACE_SNAPSHOTS};
use crate::format::record::{SnapshotRecord, Stamp};
use crate::format::{decode, encode};
use crate::options::SyncProgress;
use crate::tree::nodes::MapView;
use crate::tree::overlay::Base;
use crate::tree::scan;
use crate::tree::update::apply;
use crate::volume::Volume;

/// One state of the volume that can be looked at and restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The sequence of the head that it was: identifies it, grows with time.
    pub sequence: u64,
    /// Its name under `.snapshots`: given, or the time.
    pub name: String,
    /// When it was committed, seconds since 1970.
    pub seconds: i64,
    /// Asked for by name: it stays until it is forgotten.
    pub pinned: bool,
    /// Whether it is the newest committed state.
    pub newest: bool,
    /// Saved beside what another device wrote: nobody may have looked at it yet, so no rule forgets it.
    pub conflict: bool,
    /// Inodes in it.
    pub files: u64,
    /// Handle of its root.
    pub(crate) tree: Option<u64>,
}

pub(crate) type Records = BTreeMap<u64, SnapshotRecord>;

/// The list under one head, kept until the head changes.
#[derive(Default)]
pub(crate) struct ListCache {
    kept: Mutex<Option<(u64, Arc<Vec<Snapshot>>)>>,
    /// Held while a snapshot is being pinned, so that no two meet in one commit.
    pinning: Mutex<()>,
}

fn own_record(head: &Head, until: i64) -> SnapshotRecord {
    SnapshotRecord {
        name: time_name(head.seconds),
        seconds: head.seconds,
        until,
        pinned: false,
        tree: head.tree.map(|root| root.handle),
        files: head.files,
        fencing: head.fencing,
    }
}

/// Everything in the list under `head`.
pub(crate) fn records(volume: &Volume, head: &Head) -> Result<Records> {
    let Some(root) = &head.snapshots else {
        return Ok(Records::new());
    };
    let view = MapView {
        nodes: &volume.space.nodes,
    };
    let pairs = scan(&view, root, &key::space(SPACE_SNAPSHOTS), usize::MAX)?;
    let parse = |(key, value): (Vec<u8>, Vec<u8>)| {
        let sequence =
            key::last_number(&key).ok_or_else(|| VolumeError::damaged("the list of snapshots"))?;
        Ok((sequence, decode("a snapshot", &value)?))
    };
    pairs.into_iter().map(parse).collect()
}

/// What a commit makes of the list.
pub(crate) struct ListUpdate<'a> {
    pub base: &'a Base,
    pub orders: &'a Orders,
    /// The head that is being built.
    pub new: &'a Head,
}

impl ListUpdate<'_> {
    fn changes(&self, volume: &Volume) -> Result<BTreeMap<u64, Option<SnapshotRecord>>> {
        let mut list = records(volume, &self.base.head)?;
        let before: BTreeSet<u64> = list.keys().copied().collect();
        let mut changed: BTreeSet<u64> = self.orders.forget.clone();
        if self.orders.rewrite_list {
            changed.extend(&before);
        }
        let old = &self.base.head;
        if self.base.group.is_some() && !list.contains_key(&old.sequence) {
            let mut record = own_record(old, self.new.seconds);
            record.name = free_name(
                &record.name,
                old.sequence,
                list.values().map(|r| r.name.as_str()),
            );
            list.insert(old.sequence, record);
            changed.insert(old.sequence);
        }
        let heads: Vec<(u64, i64)> = list
            .iter()
            .filter(|(_, record)| !record.pinned)
            .map(|(sequence, record)| (*sequence, record.until))
            .collect();
        let gone = thin(&volume.options.thinning, self.new.seconds, &heads);
        changed.extend(&gone);
        list.retain(|sequence, _| {
            !gone.contains(sequence) && !self.orders.forget.contains(sequence)
        });
        if let Some(name) = &self.orders.pin {
            let mut record = own_record(self.new, self.new.seconds);
            record.name = free_name(
                name,
                self.new.sequence,
                list.values().map(|r| r.name.as_str()),
            );
            record.pinned = true;
            list.insert(self.new.sequence, record);
            changed.insert(self.new.sequence);
        }
        let changed = changed
            .into_iter()
            .filter(|s| before.contains(s) || list.contains_key(s));
        Ok(changed
            .map(|sequence| (sequence, list.get(&sequence).cloned()))
            .collect())
    }

    /// Writes the new list; its root.
    pub(crate) fn place<'a>(
        &self,
        volume: &'a Volume,
        placer: &mut Placer<'a>,
    ) -> Result<Option<BlobAddr>> {
        let root = self.base.head.snapshots;
        let changes = self.changes(volume)?;
        if changes.is_empty() {
            return Ok(root);
        }
        let source = MapView {
            nodes: &volume.space.nodes,
        };
        let mut sink = MapSink { volume, placer };
        let changes = changes.into_iter().map(|(sequence, record)| {
            let value = record
                .map(|record| encode("a snapshot", &record))
                .transpose()?;
            Ok((key::snapshot(sequence), value))
        });
        apply(&source, &mut sink, root.as_ref(), changes)
    }
}

fn listed(volume: &Volume, base: &Base) -> Result<Vec<Snapshot>> {
    let mut list = records(volume, &base.head)?;
    let newest = base.head.sequence;
    if base.group.is_some() && !list.contains_key(&newest) {
        let mut record = own_record(&base.head, i64::MAX);
        record.name = free_name(&record.name, newest, list.values().map(|r| r.name.as_str()));
        list.insert(newest, record);
    }
    let snapshot = |(sequence, record): (u64, SnapshotRecord)| Snapshot {
        sequence,
        name: record.name,
        seconds: record.seconds,
        pinned: record.pinned,
        newest: base.group.is_some() && sequence == newest,
        conflict: sequence & branch::BRANCH != 0,
        files: record.files,
        tree: record.tree,
    };
    let mut list: Vec<Snapshot> = list.into_iter().map(snapshot).collect();
    // Branches were never the newest head, whenever they came.
    list.sort_by_key(|snapshot| (snapshot.newest, snapshot.seconds, snapshot.sequence));
    Ok(list)
}

/// Why a conflict snapshot stays.
const CONFLICT: &str = "conflict: forgotten by its name only";

fn check_label(name: &str) -> Result<()> {
    if name.starts_with('.') {
        return Err(VolumeError::Invalid(
            "the name of a snapshot must not begin with a dot",
        ));
    }
    crate::ops::check_name(name.as_bytes())
}

impl Volume {
    /// Every snapshot, oldest first, the newest committed state last.
    ///
    /// # Errors
    /// When the list cannot be had from the group.
    pub fn snapshots(&self) -> Result<Arc<Vec<Snapshot>>, VolumeError> {
        let view = self.space.overlay.view();
        let sequence = view.base.head.sequence;
        let kept = self.snapshot_list.kept.lock().clone();
        if let Some((_, list)) = kept.filter(|(at, _)| *at == sequence) {
            return Ok(list);
        }
        let list = Arc::new(listed(self, &view.base)?);
        *self.snapshot_list.kept.lock() = Some((sequence, list.clone()));
        Ok(list)
    }

    /// The snapshot of a name or, written in digits, of a sequence.
    ///
    /// # Errors
    /// `NotFound`; when the list cannot be had from the group.
    pub fn snapshot(&self, name: &str) -> Result<Snapshot, VolumeError> {
        let list = self.snapshots()?;
        let sequence = name.parse::<u64>().ok();
        let named = list.iter().find(|snapshot| snapshot.name == name);
        let found = named.or_else(|| {
            list.iter()
                .find(|snapshot| Some(snapshot.sequence) == sequence)
        });
        found.cloned().ok_or(VolumeError::NotFound)
    }

    /// Commits everything done before and keeps that state under a name (the time, if none is given) until it is
    /// forgotten by name or by rules that count it.
    ///
    /// # Errors
    /// `Exists` for a name that is taken, `Invalid` for one that cannot be; as [`Volume::sync`].
    pub fn snapshot_create(
        &self,
        name: Option<&str>,
        progress: &mut dyn FnMut(SyncProgress),
    ) -> Result<Snapshot, VolumeError> {
        self.check_writable()?;
        let _one_at_a_time = self.snapshot_list.pinning.lock();
        let name = match name {
            Some(name) => {
                check_label(name)?;
                if self
                    .snapshots()?
                    .iter()
                    .any(|snapshot| snapshot.name == name)
                {
                    return Err(VolumeError::Exists);
                }
                name.to_string()
            }
            None => time_name(Stamp::now().seconds),
        };
        let before = self.snapshots()?.last().map_or(0, |last| last.sequence);
        self.drain_all()?;
        self.commit_with(
            Orders {
                pin: Some(name.clone()),
                ..Orders::default()
            },
            progress,
        )?;
        let list = self.snapshots()?;
        let mut made = list
            .iter()
            .filter(|snapshot| snapshot.pinned && snapshot.sequence > before);
        made.find(|snapshot| snapshot.name.starts_with(&name))
            .cloned()
            .ok_or(VolumeError::NotFound)
    }

    /// Forgets snapshots by sequence: they are no longer listed, and the next prune frees what only they held. The
    /// newest state cannot be forgotten, only its name.
    ///
    /// # Errors
    /// `NotFound` if one is not there (nothing is forgotten then); as [`Volume::sync`].
    pub fn snapshot_forget(&self, sequences: &[u64]) -> Result<(), VolumeError> {
        self.check_writable()?;
        let list = self.snapshots()?;
        let known = |sequence: &u64| list.iter().any(|snapshot| snapshot.sequence == *sequence);
        if !sequences.iter().all(known) {
            return Err(VolumeError::NotFound);
        }
        if sequences.is_empty() {
            return Ok(());
        }
        let forget = sequences.iter().copied().collect();
        self.commit_with(
            Orders {
                forget,
                ..Orders::default()
            },
            &mut |_| (),
        )
    }

    /// Judges the pinned snapshots by rules, newest first, and forgets those that no rule keeps, unless `dry_run`.
    /// Heads that nobody pinned thin out by themselves and are not judged. Conflict snapshots stay, and do not count among those
    /// that rules count: only by name can they be forgotten.
    ///
    /// # Errors
    /// `Invalid` for rules that keep nothing; as [`Volume::snapshot_forget`].
    pub fn snapshot_apply(
        &self,
        rules: &Retention,
        dry_run: bool,
    ) -> Result<Vec<Verdict>, VolumeError> {
        if rules.is_empty() {
            return Err(VolumeError::Invalid("rules that keep no snapshot"));
        }
        let list = self.snapshots()?;
        let of = |conflict: bool| {
            let pinned = list
                .iter()
                .filter(move |one| one.pinned && one.conflict == conflict);
            pinned.map(|one| (one.sequence, one.seconds))
        };
        let pinned: Vec<(u64, i64)> = of(false).collect();
        let mut verdicts = judge(rules, Stamp::now().seconds, &pinned);
        verdicts.extend(of(true).map(|(sequence, _)| Verdict {
            sequence,
            reasons: vec![CONFLICT],
        }));
        let gone: Vec<u64> = verdicts
            .iter()
            .filter(|v| !v.keeps())
            .map(|v| v.sequence)
            .collect();
        if !dry_run {
            self.snapshot_forget(&gone)?;
        }
        Ok(verdicts)
    }
}
