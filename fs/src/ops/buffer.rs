//! Bytes written to one file that are not sealed yet: runs in memory by file offset. Pure, but for the memory that is kept.
//!
//! Invariant: runs do not overlap; none is empty.

use std::collections::BTreeMap;
use std::ops::Range;

use parking_lot::Mutex;

/// A run this long is handed to the sealers.
pub(crate) const RUN_BYTES: usize = 8 << 20;

/// Room of long runs that are done with, at most this many: fresh memory costs the kernel as much as the copy into it.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
const SPARE_MAX: usize = 4;
/// Long runs begin with room for one request more than they are handed on with.
const RUN_ROOM: usize = RUN_BYTES + (1 << 20);

/// Gives kept rooms back: nobody writes now.
pub(crate) fn let_rooms_go() {
    let rooms = std::mem::take(&mut *SPARE.lock());
    drop(rooms);
}

/// An empty run with room for `first` bytes, or for a long run if those look like the beginning of one.
fn room(first: usize) -> Vec<u8> {
    if first < 128 * 1024 {
        return Vec::with_capacity(first);
    }
    let spare = SPARE.lock().pop();
    spare.unwrap_or_else(|| Vec::with_capacity(RUN_ROOM))
}

/// A run that was taken out of a buffer. Its room is kept for the next one.
pub(crate) struct Run(Vec<u8>);

impl Run {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Run {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut room = std::mem::take(&mut self.0);
        let mut spare = SPARE.lock();
        if room.capacity() == RUN_ROOM && spare.len() < SPARE_MAX {
            room.clear();
            spare.push(room);
        }
    }
}

#[derive(Default)]
pub(crate) struct Buffer {
    runs: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes in all runs.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The lowest offset buffered.
    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.keys().next().copied()
    }

    fn run_reaching(&mut self, offset: u64) -> Option<(u64, &mut Vec<u8>)> {
        let (start, run) = self.runs.range_mut(..=offset).next_back()?;
        (start + run.len() as u64 >= offset).then_some((*start, run))
    }

    fn next_start(&self, offset: u64) -> u64 {
        self.runs
            .range(offset + 1..)
            .next()
            .map_or(u64::MAX, |(start, _)| *start)
    }

    /// Takes bytes; returns how many more bytes are buffered than before.
    pub(crate) fn write(&mut self, mut offset: u64, mut data: &[u8]) -> usize {
        let mut added = 0;
        while !data.is_empty() {
            let next = self.next_start(offset);
            let room = usize::try_from(next - offset)
                .unwrap_or(usize::MAX)
                .min(data.len());
            let Some((start, run)) = self.run_reaching(offset) else {
                let (now, rest) = data.split_at(room);
                let mut run = self::room(now.len());
                run.extend_from_slice(now);
                self.runs.insert(offset, run);
                added += room;
                offset += room as u64;
                data = rest;
                self.join(next);
                continue;
            };
            let at = (offset - start) as usize;
            let over = (run.len() - at).min(data.len());
            let (now, rest) = data.split_at(over);
            if let Some(slot) = run.get_mut(at..at + over) {
                slot.copy_from_slice(now);
            }
            let (now, rest) = rest.split_at(room.saturating_sub(over).min(rest.len()));
            run.extend_from_slice(now);
            added += now.len();
            offset += (over + now.len()) as u64;
            data = rest;
            self.join(next);
        }
        self.bytes += added;
        added
    }

    /// Joins the run that begins at `start` to one that ends there, while they stay short.
    fn join(&mut self, start: u64) {
        let Some((before_start, before)) = self.runs.range(..start).next_back() else {
            return;
        };
        let touches = before_start + before.len() as u64 == start;
        let short = self
            .runs
            .get(&start)
            .is_some_and(|run| before.len() + run.len() <= RUN_BYTES);
        if touches && short {
            let key = *before_start;
            if let Some(tail) = self.runs.remove(&start)
                && let Some(run) = self.runs.get_mut(&key)
            {
                run.extend_from_slice(&tail);
            }
        }
    }

    /// Removes a run of at least [`RUN_BYTES`], or with `any` whichever comes first.
    pub(crate) fn take(&mut self, any: bool) -> Option<(u64, Vec<u8>)> {
        let start = *self
            .runs
            .iter()
            .find(|(_, run)| any || run.len() >= RUN_BYTES)?
            .0;
        let taken = self.runs.remove_entry(&start)?;
        self.bytes -= taken.1.len();
        Some(taken)
    }

    /// Puts back the tail of a run that was taken; nothing may have been written there meanwhile.
    pub(crate) fn put_back(&mut self, start: u64, tail: &[u8]) {
        if !tail.is_empty() {
            let mut run = room(RUN_BYTES);
            run.extend_from_slice(tail);
            self.bytes += tail.len();
            self.runs.insert(start, run);
        }
    }

    /// Forgets everything in `range`; returns how many bytes.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> usize {
        let mut removed = 0;
        let from = self
            .run_reaching(range.start)
            .map_or(range.start, |(start, _)| start);
        let starts: Vec<u64> = self
            .runs
            .range(from..range.end.max(from))
            .map(|(start, _)| *start)
            .collect();
        for start in starts {
            let Some(mut run) = self.runs.remove(&start) else {
                continue;
            };
            let end = start + run.len() as u64;
            if end > range.end {
                let keep_from = (range.end.max(start) - start) as usize;
                let tail = run.split_off(keep_from);
                self.runs.insert(start + keep_from as u64, tail);
            }
            let keep = (range.start.max(start) - start) as usize;
            removed += run.len().saturating_sub(keep);
            run.truncate(keep);
            if !run.is_empty() {
                self.runs.insert(start, run);
            }
        }
        self.bytes -= removed;
        removed
    }

    /// Copies of what is buffered within `range`.
    pub(crate) fn parts(&self, range: &Range<u64>) -> Vec<(u64, Vec<u8>)> {
        let before = self.runs.range(..range.start).next_back();
        let runs = before.into_iter().chain(self.runs.range(range.clone()));
        runs.filter_map(|(start, run)| {
            let from = range.start.max(*start);
            let to = range.end.min(start + run.len() as u64);
            let part = run.get((from - start) as usize..to.saturating_sub(*start) as usize)?;
            (!part.is_empty()).then(|| (from, part.to_vec()))
        })
        .collect()
    }

    /// Whether anything is buffered within `range`.
    pub(crate) fn touches(&self, range: &Range<u64>) -> bool {
        let run = self.runs.range(..range.end).next_back();
        run.is_some_and(|(start, run)| start + run.len() as u64 > range.start)
    }
}

/// Copies the part of `run`, which stands at `start`, that lies within `out`, which stands at `offset`.
pub(crate) fn copy_overlap(start: u64, run: &[u8], offset: u64, out: &mut [u8]) {
    let from = start.max(offset);
    let to = (start + run.len() as u64).min(offset + out.len() as u64);
    if from < to {
        let source = run.get((from - start) as usize..(to - start) as usize);
        let target = out.get_mut((from - offset) as usize..(to - offset) as usize);
        if let (Some(source), Some(target)) = (source, target) {
            target.copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Write(u16, u16, u8),
        Remove(u16, u16),
        Take,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => (0u16..2000, 1u16..400, 1u8..).prop_map(|(at, len, fill)| Op::Write(at, len, fill)),
            2 => (0u16..2000, 0u16..800).prop_map(|(at, len)| Op::Remove(at, len)),
            1 => Just(Op::Take),
        ]
    }

    proptest! {
        #[test]
        fn a_buffer_holds_what_a_sparse_array_holds(ops in proptest::collection::vec(op(), 1..60)) {
            let mut buffer = Buffer::default();
            let mut model = vec![0u8; 4000];
            for op in ops {
                match op {
                    Op::Write(at, len, fill) => {
                        let held = model.iter().filter(|byte| **byte != 0).count();
                        let data = vec![fill; usize::from(len)];
                        let added = buffer.write(u64::from(at), &data);
                        model[usize::from(at)..][..data.len()].copy_from_slice(&data);
                        let now = model.iter().filter(|byte| **byte != 0).count();
                        prop_assert_eq!(added, now - held);
                        prop_assert_eq!(buffer.bytes(), now);
                    }
                    Op::Remove(at, len) => {
                        let range = usize::from(at)..usize::from(at) + usize::from(len);
                        let held = model[range.clone()].iter().filter(|byte| **byte != 0).count();
                        prop_assert_eq!(buffer.remove(range.start as u64..range.end as u64), held);
                        model[range].fill(0);
                    }
                    Op::Take => {
                        if let Some((start, run)) = buffer.take(true) {
                            prop_assert_eq!(&model[start as usize..][..run.len()], &run[..]);
                            model[start as usize..][..run.len()].fill(0);
                        }
                    }
                }
                let mut out = vec![0; 4000];
                for (start, bytes) in buffer.parts(&(0..4000)) {
                    copy_overlap(start, &bytes, 0, &mut out);
                }
                prop_assert_eq!(&out, &model);
                let mut part = vec![0; 100];
                for (start, bytes) in buffer.parts(&(777..877)) {
                    prop_assert!(start >= 777 && start + bytes.len() as u64 <= 877);
                    copy_overlap(start, &bytes, 777, &mut part);
                }
                prop_assert_eq!(&part[..], &model[777..877]);
                prop_assert_eq!(buffer.touches(&(777..877)), model[777..877].iter().any(|b| *b != 0));
            }
        }
    }

    #[test]
    fn a_stream_becomes_one_run_even_when_pairs_arrive_swapped() {
        let mut buffer = Buffer::default();
        for at in [1u64, 0, 3, 2] {
            buffer.write(at << 20, &vec![at as u8; 1 << 20]);
        }
        let (start, run) = buffer.take(true).unwrap();
        assert_eq!((start, run.len()), (0, 4 << 20));
        assert!(buffer.is_empty());
    }
}
