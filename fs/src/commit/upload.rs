//! Places finished packs on the group, several at a time, while the next ones are being built.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::error::{Result, VolumeError};
use crate::store::PackNo;
use crate::volume::Volume;

#[derive(Default)]
struct Queue {
    packs: VecDeque<(PackNo, Arc<Vec<u8>>)>,
    closed: bool,
    failed: Option<VolumeError>,
}

/// Packs that wait for a free uploader; bounded.
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
    pub(crate) fn put(&self, number: PackNo, bytes: Arc<Vec<u8>>) -> Result<()> {
        let mut queue = self.queue.lock();
        while queue.packs.len() >= self.limit && queue.failed.is_none() {
            self.moved.wait(&mut queue);
        }
        match &queue.failed {
            Some(error) => Err(error.clone()),
            None => {
                queue.packs.push_back((number, bytes));
                self.moved.notify_all();
                Ok(())
            }
        }
    }

    fn work(&self, volume: &Volume) {
        loop {
            let (number, bytes) = {
                let mut queue = self.queue.lock();
                loop {
                    if let Some(pack) = queue.packs.pop_front() {
                        self.moved.notify_all();
                        break pack;
                    }
                    if queue.closed || queue.failed.is_some() {
                        return;
                    }
                    self.moved.wait(&mut queue);
                }
            };
            match volume.until_reachable(|| volume.store.put(number, bytes.clone())) {
                Ok(()) => volume.committer.placed(bytes.len() as u64),
                Err(error) => {
                    let mut queue = self.queue.lock();
                    queue.packs.clear();
                    queue.failed.get_or_insert(error);
                    self.moved.notify_all();
                    return;
                }
            }
        }
    }
}
