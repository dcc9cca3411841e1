//! Places finished packs on the group, several at a time, while the next ones are being built.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::courtesy::read_politely;
use crate::error::{Result, VolumeError};
use crate::format::pack::{self, TableEntry};
use crate::store::PackNo;
use crate::volume::Volume;

/// How long a pack lets programs go first.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of packs that are being sent at the same time: three of the largest. The group's side of each takes
/// memory of its own.
const SENDING_BYTES: u64 = 48 << 20;

/// What is to be sent.
pub(crate) enum Pack {
    /// These bytes.
    Whole(Vec<u8>),
    /// The first bytes of a local pack, up to here, and this table.
    Local(u64, Vec<TableEntry>),
}

impl Pack {
    /// How much memory it takes while it is sent: the length of the class that it is padded to.
    fn weight(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Local(end, table) => {
                let bytes = usize::try_from(*end).unwrap_or(usize::MAX);
                pack::class_for(bytes, table.len()).unwrap_or(pack::PACK_MAX) as u64
            }
        }
    }

    /// Done by the thread that sends it, so that no more packs are in memory than are being sent. `spare` is room of the
    /// pack before: fresh memory costs the kernel as much as a copy.
    fn bytes(self, volume: &Volume, number: PackNo, spare: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Local(end, table) => {
                let bytes = volume.files.read_into(spare, number, &(0..end))?;
                let bytes = bytes.ok_or_else(|| lost(number))?;
                let era = pack::era_of_local(&volume.keys, volume.id, &bytes, &table);
                pack::finish(era, (volume.id, number), bytes, &table)
            }
        }
    }
}

/// A local pack that should be there.
pub(super) fn lost(number: PackNo) -> VolumeError {
    VolumeError::damaged(format!(
        "local pack {:016x}: bytes that were written are missing",
        number.0
    ))
}

#[derive(Default)]
struct Queue {
    packs: VecDeque<(PackNo, Pack)>,
    /// Packs that are being sent, and their bytes.
    sending: usize,
    sending_bytes: u64,
    closed: bool,
    failed: Option<VolumeError>,
}

impl Queue {
    /// The next pack, if there is room for it. One is always sent.
    fn next(&mut self) -> Option<(PackNo, Pack)> {
        let (_, pack) = self.packs.front()?;
        let fits = self.sending == 0 || self.sending_bytes + pack.weight() <= SENDING_BYTES;
        fits.then(|| self.packs.pop_front()).flatten()
    }
}

/// Packs that are sent or wait for it: one more than there are uploaders, as each may take the memory of a whole pack.
pub(crate) struct Uploads {
    queue: Mutex<Queue>,
    moved: Condvar,
    limit: usize,
}

impl Uploads {
    /// Runs `build` with uploaders beside it; returns once every pack it gave is placed, or with the first error.
    pub(crate) fn run<T>(volume: &Volume, build: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let threads = volume.options.upload_threads.max(1);
        let uploads = Self {
            queue: Mutex::default(),
            moved: Condvar::new(),
            limit: threads,
        };
        let built = std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| uploads.work(volume));
            }
            let built = build(&uploads);
            let mut queue = uploads.queue.lock();
            queue.closed = true;
            if built.is_err() {
                queue.packs.clear();
            }
            uploads.moved.notify_all();
            drop(queue);
            built
        });
        match uploads.queue.into_inner().failed {
            Some(error) => Err(error),
            None => built,
        }
    }

    /// Queues a pack; waits while the queue is full.
    pub(crate) fn put(&self, number: PackNo, pack: Pack) -> Result<()> {
        let mut queue = self.queue.lock();
        while queue.packs.len() + queue.sending > self.limit && queue.failed.is_none() {
            self.moved.wait(&mut queue);
        }
        match &queue.failed {
            Some(error) => Err(error.clone()),
            None => {
                queue.packs.push_back((number, pack));
                self.moved.notify_all();
                Ok(())
            }
        }
    }

    /// Gives back the room of what was sent, unless the store still holds it.
    fn place(volume: &Volume, number: PackNo, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let bytes = Arc::new(bytes);
        volume.until_reachable(|| volume.store.put(number, bytes.clone()))?;
        volume.committer.placed(bytes.len() as u64);
        Ok(Arc::try_unwrap(bytes).unwrap_or_default())
    }

    fn work(&self, volume: &Volume) {
        let mut spare = Vec::new();
        loop {
            let (number, pack, weight) = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some((number, pack)) = queue.next() {
                        let weight = pack.weight();
                        queue.sending += 1;
                        queue.sending_bytes += weight;
                        break (number, pack, weight);
                    }
                    let ended = queue.closed && queue.packs.is_empty();
                    if ended || queue.failed.is_some() {
                        return;
                    }
                    self.moved.wait(&mut queue);
                }
            };
            volume.courtesy.give_way(PATIENCE, || {
                volume.may_give_way() && !volume.committer.signal.stopped()
            });
            read_politely(!volume.courtesy.in_hurry());
            let sent = pack
                .bytes(volume, number, std::mem::take(&mut spare))
                .and_then(|bytes| Self::place(volume, number, bytes));
            let mut queue = self.queue.lock();
            queue.sending -= 1;
            queue.sending_bytes -= weight;
            self.moved.notify_all();
            match sent {
                Ok(room) => spare = room,
                Err(error) => {
                    queue.packs.clear();
                    queue.failed.get_or_insert(error);
                    self.moved.notify_all();
                    return;
                }
            }
        }
    }
}
