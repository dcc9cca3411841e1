//! Checking a volume: that every kept tree is whole, that what it names is on the group, and, as far as asked, that the
//! bytes there open. Changes nothing; tells every problem rather than the first.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringTreemap;

use crate::error::{Result, VolumeError};
use crate::format::blob::BlobAddr;
use crate::format::head::{Head, TreeRoot};
use crate::format::node::Node;
use crate::format::record::{Bucket, Inode, Kind, ROOT};
use crate::format::{decode, key};
use crate::ops::extents::parse;
use crate::store::{PackInfo, PackNo};
use crate::tree::NodeSource;
use crate::tree::nodes::{MapView, TreeView};
use crate::volume::Volume;

/// How thoroughly to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Read packs whole: part `.0` of `.1` parts (from 1), so that all of them are read by and by. `None`: no data.
    pub read_data: Option<(u32, u32)>,
}

/// Told while a check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckProgress {
    /// So many tree nodes were looked at.
    Nodes(u64),
    /// Packs read, of how many.
    Packs(usize, usize),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Heads looked at: the newest and every snapshot.
    pub snapshots: u64,
    /// Tree nodes that opened.
    pub nodes: u64,
    /// Chunks that are where the map says, on a pack that the group has.
    pub chunks: u64,
    /// Packs on the group.
    pub packs: u64,
    /// Packs read whole, everything in them opened.
    pub packs_read: u64,
    /// Bytes of those.
    pub bytes_read: u64,
    /// Packs that nothing mentions: the next prune frees them.
    pub packs_unused: u64,
    /// What is wrong, for a person to read. Empty: the volume is sound as far as it was checked.
    pub problems: Vec<String>,
}

/// More problems than these are counted, not told.
const PROBLEMS_MAX: usize = 1000;

struct Check<'a> {
    volume: &'a Volume,
    head: Head,
    packs: HashMap<PackNo, u64>,
    used: RoaringTreemap,
    seen: RoaringTreemap,
    report: CheckReport,
    progress: &'a mut dyn FnMut(CheckProgress) -> bool,
}

/// What the names of one tree come to.
#[derive(Default)]
struct Tally {
    inodes: RoaringTreemap,
    named: RoaringTreemap,
    orphans: RoaringTreemap,
    /// Inodes that have extents or attributes.
    owners: RoaringTreemap,
    /// Entries and subdirectories that directories should have, where those are not as counted.
    counts: BTreeMap<u64, i64>,
}

impl Volume {
    /// Checks the newest head and every snapshot. `progress` ends it by answering `false`. Runs beside everything else;
    /// what is not committed is not looked at.
    ///
    /// # Errors
    /// `Invalid` for a part that is none; when the group or the newest head cannot be had at all; `Cancelled`. What is
    /// wrong with the volume is in the report.
    pub fn check(
        &self,
        options: &CheckOptions,
        progress: &mut dyn FnMut(CheckProgress) -> bool,
    ) -> Result<CheckReport, VolumeError> {
        if options
            .read_data
            .is_some_and(|(part, parts)| part == 0 || part > parts)
        {
            return Err(VolumeError::Invalid(
                "a part to read must be between 1 and the number of parts",
            ));
        }
        // In this order: a commit places its packs before its head, so the list has all that this head names.
        let (head, packs) = self.head_and_packs()?;
        let mut check = Check {
            volume: self,
            packs: packs.iter().map(|pack| (pack.number, pack.len)).collect(),
            used: RoaringTreemap::new(),
            seen: RoaringTreemap::new(),
            report: CheckReport {
                packs: packs.iter().filter(|pack| !pack.released).count() as u64,
                ..CheckReport::default()
            },
            progress,
            head,
        };
        check.lists()?;
        check.trees()?;
        if let Some(part) = options.read_data {
            check.data(&packs, part)?;
        }
        let (mut unused, mut doomed) = (0, Vec::new());
        for pack in &packs {
            match (check.used.contains(pack.number.0), pack.released) {
                (true, true) => doomed.push(pack.number.0),
                (false, false) => unused += 1,
                _ => {}
            }
        }
        check.report.packs_unused = unused;
        for number in doomed {
            check.problem(format!(
                "pack {number} is in use and was given up: it will be destroyed, unless `barfs volume veto` keeps it"
            ));
        }
        Ok(check.report)
    }

    /// The newest head and the packs of the moment when it was the newest: a prune that comes between would have given up
    /// what an older one mentions.
    fn head_and_packs(&self) -> Result<(Head, Vec<PackInfo>)> {
        loop {
            let head = self.space.overlay.view().base.head.clone();
            let packs = self.store.list()?;
            if self.space.overlay.view().base.head.sequence == head.sequence {
                return Ok((head, packs));
            }
            self.check_open()?;
        }
    }
}

impl Check<'_> {
    fn problem(&mut self, what: String) {
        if self.report.problems.len() < PROBLEMS_MAX {
            self.report.problems.push(what);
        }
    }

    fn tell(&mut self, told: CheckProgress) -> Result<()> {
        match (self.progress)(told) && !self.volume.journal.stopped() {
            true => Ok(()),
            false => Err(VolumeError::Cancelled { bytes: 0 }),
        }
    }

    /// Notes a damaged thing; what ends the check altogether is handed on.
    fn judge<T>(&mut self, what: &str, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ (VolumeError::Cancelled { .. } | VolumeError::Closed)) => Err(error),
            Err(error) => {
                self.problem(format!("{what}: {error}"));
                Ok(None)
            }
        }
    }

    fn placed(&mut self, what: &str, addr: &BlobAddr) {
        self.used.insert(addr.pack.0);
        match self.packs.get(&addr.pack) {
            None => self.problem(format!(
                "{what} should be in pack {:016x}, which the group does not have",
                addr.pack.0
            )),
            Some(len) if u64::from(addr.offset) + u64::from(addr.len) > *len => {
                self.problem(format!(
                    "{what} should be beyond the end of pack {:016x}",
                    addr.pack.0
                ));
            }
            Some(_) => {}
        }
    }

    /// The location map and the list of snapshots: that their nodes open and name what is there.
    fn lists(&mut self) -> Result<()> {
        let view = MapView {
            nodes: &self.volume.space.nodes,
        };
        for (root, is_map) in [(self.head.map, true), (self.head.snapshots, false)] {
            let mut todo: Vec<BlobAddr> = root.into_iter().collect();
            while let Some(addr) = todo.pop() {
                self.placed("a node of the location map", &addr);
                let Some(node) = self.judge("a node of the location map", view.load(&addr))? else {
                    continue;
                };
                match &*node {
                    Node::Inner(children) => todo.extend(children.iter().map(|(_, child)| *child)),
                    Node::Leaf(pairs) if is_map => {
                        for (_, value) in pairs {
                            if let Some(addr) =
                                self.judge("a location", decode::<BlobAddr>("a location", value))?
                            {
                                self.placed("a chunk or node", &addr);
                            }
                        }
                    }
                    Node::Leaf(_) => {}
                }
            }
        }
        Ok(())
    }

    fn trees(&mut self) -> Result<()> {
        let newest = self.head.tree;
        let list = crate::snapshot::list::records(self.volume, &self.head);
        let list = self
            .judge("the list of snapshots", list)?
            .unwrap_or_default();
        self.report.snapshots = 1;
        if let Some(root) = newest {
            let mut tally = Tally::default();
            self.tree("the newest head", root.handle, Some(&mut tally))?;
            self.settle(tally);
        }
        for record in list.into_values() {
            self.report.snapshots += 1;
            if let Some(root) = record.tree {
                self.tree(&format!("snapshot {}", record.name), root, None)?;
            }
        }
        Ok(())
    }

    /// Looks at every node of a tree that was not looked at before.
    fn tree(&mut self, name: &str, root: u64, mut tally: Option<&mut Tally>) -> Result<()> {
        let addr = self.volume.space.nodes.map_get(&self.head, root);
        let Some(Some(addr)) = self.judge(name, addr)? else {
            self.problem(format!("{name}: its root is not in the location map"));
            return Ok(());
        };
        let head = Head {
            tree: Some(TreeRoot { handle: root, addr }),
            map: self.head.map,
            ..Head::default()
        };
        let view = TreeView {
            nodes: &self.volume.space.nodes,
            head: &head,
        };
        let mut todo = vec![root];
        while let Some(handle) = todo.pop() {
            if !self.seen.insert(handle) {
                continue;
            }
            let Some(node) = self.judge(name, view.load(&handle))? else {
                continue;
            };
            self.report.nodes += 1;
            if self.report.nodes.is_multiple_of(256) {
                self.tell(CheckProgress::Nodes(self.report.nodes))?;
            }
            match &*node {
                Node::Inner(children) => {
                    todo.extend(children.iter().rev().map(|(_, child)| *child))
                }
                Node::Leaf(pairs) => {
                    for (key, value) in pairs {
                        let looked = self.pair(key, value, tally.as_deref_mut());
                        self.judge(name, looked)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pair(&mut self, key: &[u8], value: &[u8], tally: Option<&mut Tally>) -> Result<()> {
        let number = key
            .get(1..9)
            .and_then(|bytes| bytes.try_into().ok())
            .map(u64::from_be_bytes);
        let number = number.ok_or_else(|| VolumeError::damaged("a key of the tree"))?;
        let mut tally = tally;
        if let Some(tally) = tally.as_deref_mut()
            && (key::is_extent(key) || key::is_xattr(key))
        {
            tally.owners.insert(number);
        }
        if key::is_extent(key) {
            let handle = parse(key, value)?.1.handle;
            if self.seen.insert(handle) {
                if self
                    .volume
                    .space
                    .nodes
                    .map_get(&self.head, handle)?
                    .is_none()
                {
                    return Err(VolumeError::damaged(format!(
                        "file {number} (its chunk {handle} is nowhere)"
                    )));
                }
                self.report.chunks += 1;
            }
            return Ok(());
        }
        let Some(tally) = tally else { return Ok(()) };
        if key::is_inode(key) {
            let inode: Inode = decode("an inode", value)?;
            tally.inodes.insert(number);
            if inode.kind == Kind::Directory {
                *tally.counts.entry(number).or_default() -= i64::try_from(inode.size).unwrap_or(0);
            }
        } else if key::is_entry(key) {
            let bucket: Bucket = decode("a directory entry", value)?;
            *tally.counts.entry(number).or_default() += bucket.len() as i64;
            tally.named.extend(bucket.iter().map(|entry| entry.ino));
        } else if let Some(orphan) = key::as_orphan(key) {
            tally.orphans.insert(orphan);
        }
        Ok(())
    }

    /// Compares what the names of the newest head lead to with what is there.
    fn settle(&mut self, tally: Tally) {
        for ino in (&tally.named - &tally.inodes).iter().take(PROBLEMS_MAX) {
            self.problem(format!("a name leads to inode {ino}, which is not there"));
        }
        for ino in (&tally.owners - &tally.inodes).iter().take(PROBLEMS_MAX) {
            self.problem(format!("inode {ino} is gone, and something of it is left"));
        }
        let mut lost = &tally.inodes - &tally.named;
        lost -= &tally.orphans;
        lost.remove(ROOT.0);
        for ino in lost.iter().take(PROBLEMS_MAX) {
            self.problem(format!("inode {ino} has no name"));
        }
        for (ino, differs) in tally
            .counts
            .into_iter()
            .filter(|(_, differs)| *differs != 0)
        {
            self.problem(format!("directory {ino} counts {} names too few", differs));
        }
    }

    fn data(&mut self, packs: &[PackInfo], (part, parts): (u32, u32)) -> Result<()> {
        let mut chosen: Vec<PackInfo> = packs.to_vec();
        chosen.sort_unstable_by_key(|pack| pack.number);
        let mine = |(at, _): &(usize, PackInfo)| at % parts as usize + 1 == part as usize;
        let chosen: Vec<PackInfo> = chosen
            .into_iter()
            .enumerate()
            .filter(mine)
            .map(|(_, pack)| pack)
            .collect();
        for (done, pack) in chosen.iter().enumerate() {
            self.tell(CheckProgress::Packs(done, chosen.len()))?;
            let scrubbed = self.volume.scrub_pack(*pack);
            if self
                .judge(&format!("pack {:016x}", pack.number.0), scrubbed)?
                .is_some()
            {
                self.report.packs_read += 1;
                self.report.bytes_read += pack.len;
            }
        }
        self.tell(CheckProgress::Packs(chosen.len(), chosen.len()))
    }
}
