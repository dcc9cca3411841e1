//! From the buffer into packs: chunk id, compression, sealing, append, and the extent that names it.
//!
//! Runs on the sealers, or on the caller's thread for small files. Invariant: the append and the change that names
//! its bytes fall on the same side of a freeze (the gate), and the gate is taken before the inode's lock. Nobody within
//! the gate waits for the group.

use std::ops::Range;
use std::sync::atomic::Ordering;

use barfs_crypto::Digest;

use super::Volume;
use crate::dedup::DEDUP_MIN;
use crate::error::{Result, VolumeError};
use crate::format::blob::{self, BlobKind, Sealed};
use crate::format::key;
use crate::format::record::{Extent, InodeNo, LocalBlob};
use crate::haste::{Awaited, give_up, hastily, is_hasty};
use crate::live::{LiveRef, State};
use crate::tree::overlay::Changes;

/// Up to this many bytes, who asks for a drain seals by himself.
const INLINE_BYTES: usize = 512 * 1024;
/// What was fetched may be gone again when it is looked at; so often it is fetched again.
const FETCHES_MAX: u32 = 8;

impl Volume {
    /// Seals one flight and makes it part of the file. Where this thread must not wait for the group and would have to, a sealer
    /// does it: until then the flight stays, so that nobody who waits for it goes on without it.
    pub(crate) fn land(&self, live: &LiveRef, number: u64) {
        match (self.try_to_land(live, number), self.weak.upgrade()) {
            (Ok(()), _) => {}
            (Err(VolumeError::WouldWait), Some(volume)) => {
                let live = live.clone();
                return self.sealers.run(move || volume.land(&live, number));
            }
            (Err(VolumeError::WouldWait), None) => {
                self.crash_landing(live, number, VolumeError::Closed);
            }
            (Err(error), _) => self.crash_landing(live, number, error),
        }
        live.landed.notify_all();
        if self.dirty_active.load(Ordering::Relaxed) > self.options.commit_dirty_bytes {
            self.committer.signal.kick();
        }
    }

    fn try_to_land(&self, live: &LiveRef, number: u64) -> Result<()> {
        let taken = {
            let state = live.state.lock();
            let flight = state.flights.iter().find(|flight| flight.number == number);
            flight.map(|flight| (flight.data.clone(), flight.range.clone(), flight.offset))
        };
        let Some((data, range, offset)) = taken else {
            return Ok(());
        };
        let place = offset..offset + range.len() as u64;
        let plain = data.get(range).unwrap_or_default();
        let chunk = self.keys.chunk_id(plain);
        if plain.len() >= DEDUP_MIN && self.land_shared(live, number, (chunk, plain.len()))? {
            return Ok(());
        }
        let sealed = blob::seal(&self.keys, self.id, BlobKind::Chunk, plain);
        let mut landed = self.land_sealed(live, number, (chunk, &sealed));
        if matches!(landed, Err(VolumeError::WouldWait)) {
            landed = self.fetch_and_land(live, (number, &place), (chunk, &sealed));
        }
        sealed.recycle();
        landed
    }

    /// Lands once what the file has there is on this machine. What was appended before belongs to nobody.
    fn fetch_and_land(
        &self,
        live: &LiveRef,
        (number, place): (u64, &Range<u64>),
        sealed: (Digest, &Sealed),
    ) -> Result<()> {
        for _ in 0..FETCHES_MAX {
            self.fetch_extents(live.ino, place)?;
            // What lands in vain has appended its bytes in vain.
            if hastily(|| self.fetch_extents(live.ino, place)).is_err() {
                continue;
            }
            match self.land_sealed(live, number, sealed) {
                Err(VolumeError::WouldWait) => {}
                landed => return landed,
            }
        }
        Err(VolumeError::Invalid(
            "a place in a file that cannot be kept in the cache",
        ))
    }

    /// Appends a sealed flight and makes it part of the file, or says that the group would have to be asked.
    fn land_sealed(
        &self,
        live: &LiveRef,
        number: u64,
        (chunk, sealed): (Digest, &Sealed),
    ) -> Result<()> {
        let _gate = self.space.overlay.gate.read();
        let addr = self.open_pack.append(sealed, || self.mint_pack())?;
        self.dirty_active
            .fetch_add(u64::from(addr.len), Ordering::Relaxed);
        let handle = self.space.overlay.mint_handle();
        let location = crate::format::encode("a local location", &LocalBlob { addr, chunk })?;
        let location = (key::location(handle), Some(location));
        let mut state = live.state.lock();
        hastily(|| self.install(live.ino, &mut state, number, handle, vec![location]))?;
        if addr.raw_len as usize >= DEDUP_MIN {
            self.dedup.remember(chunk, handle);
        }
        Ok(())
    }

    /// Makes a flight part of the file by naming a chunk that the volume has; `false` if it has none, or that cannot be
    /// told now.
    ///
    /// # Errors
    /// `WouldWait` alone.
    fn land_shared(
        &self,
        live: &LiveRef,
        number: u64,
        (chunk, len): (Digest, usize),
    ) -> Result<bool> {
        let Ok(Some(handle)) = self.known_chunk(&chunk) else {
            return Ok(false);
        };
        // Without the gate first, as it may have to ask the group.
        match self.is_shareable(handle, len) {
            Ok(true) => {}
            Err(error @ VolumeError::WouldWait) => return Err(error),
            _ => return Ok(false),
        }
        let _gate = self.space.overlay.gate.read();
        if !matches!(hastily(|| self.is_shareable(handle, len)), Ok(true)) {
            return Ok(false);
        }
        let mut state = live.state.lock();
        match hastily(|| self.install(live.ino, &mut state, number, handle, Changes::new())) {
            Ok(()) => {
                self.dedup.count_saved(len as u64);
                Ok(true)
            }
            Err(_) => Ok(false),
        }
    }

    /// Turns a flight into an extent; `changes` make the handle known, if it is new.
    fn install(
        &self,
        ino: u64,
        state: &mut State,
        number: u64,
        handle: u64,
        mut changes: Changes,
    ) -> Result<()> {
        let Some(at) = state
            .flights
            .iter()
            .position(|flight| flight.number == number)
        else {
            return Ok(());
        };
        let (offset, len) = state
            .flights
            .get(at)
            .map_or((0, 0), |f| (f.offset, f.range.len()));
        if state.gone {
            self.end_flight(state, at);
            return Ok(());
        }
        let len = u32::try_from(len).map_err(|_| VolumeError::damaged("a chunk"))?;
        let extent = Extent {
            len,
            handle,
            start: 0,
        };
        let end = offset + u64::from(len);
        if offset > 0 || state.dirty.as_ref().is_some_and(|inode| inode.size > end) {
            self.ragged.note(ino, len);
        }
        self.carve(ino, state, &(offset..end), &mut changes)?;
        self.put_extent(ino, state, (offset, extent), &mut changes)?;
        self.end_flight(state, at);
        if let Some(inode) = state.dirty.clone() {
            self.save(ino, state, inode, &mut changes)?;
        }
        self.apply(changes);
        Ok(())
    }

    fn end_flight(&self, state: &mut State, at: usize) {
        let flight = state.flights.swap_remove(at);
        self.budget.give(flight.range.len());
    }

    /// Sealing failed: the bytes go back into the buffer, the error to whoever asks next.
    fn crash_landing(&self, live: &LiveRef, number: u64, error: VolumeError) {
        let mut state = live.state.lock();
        if let Some(at) = state
            .flights
            .iter()
            .position(|flight| flight.number == number)
        {
            let flight = state.flights.swap_remove(at);
            state.buffer.write(
                flight.offset,
                flight.data.get(flight.range).unwrap_or_default(),
            );
        }
        tracing::error!(ino = live.ino, %error, "written data could not be sealed");
        self.committer.note_error(error.to_string());
        state.error = Some(error);
    }

    /// Brings everything written to a file so far into the key space (not yet to disk).
    ///
    /// # Errors
    /// What sealing met.
    pub fn drain(&self, ino: InodeNo) -> Result<(), VolumeError> {
        self.drain_live(&self.live.get(ino.0))
    }

    pub(crate) fn drain_live(&self, live: &LiveRef) -> Result<()> {
        let mut state = live.state.lock();
        if state.dirty.is_none() && state.buffer.is_empty() && state.flights.is_empty() {
            return state.error.take().map_or(Ok(()), Err);
        }
        let begun = self.take_off(&mut state, true);
        let last = state.flights_begun;
        let small: usize = state.flights.iter().map(|flight| flight.range.len()).sum();
        drop(state);
        if small <= INLINE_BYTES {
            begun.iter().for_each(|number| self.land(live, *number));
        } else {
            for number in begun {
                let (Some(volume), live) = (self.weak.upgrade(), live.clone()) else {
                    continue;
                };
                self.sealers.run(move || volume.land(&live, number));
            }
        }
        let mut state = live.state.lock();
        if is_hasty() && state.first_pending().is_some() {
            return Err(give_up(Awaited::Landing(live.ino)));
        }
        while state.flights.iter().any(|flight| flight.number <= last) {
            live.landed.wait(&mut state);
        }
        if state.error.is_none()
            && let Some(inode) = state.dirty.clone()
            && !state.gone
        {
            let mut changes = Changes::new();
            self.save(live.ino, &mut state, inode, &mut changes)?;
            self.apply(changes);
        }
        state.error.take().map_or(Ok(()), Err)
    }

    /// Drains every file.
    pub(crate) fn drain_all(&self) -> Result<()> {
        let all = self.live.all();
        for live in &all {
            let mut state = live.state.lock();
            self.launch(live, &mut state, true);
        }
        let mut result = Ok(());
        for live in &all {
            let drained = self.drain_live(live);
            result = result.and(drained);
        }
        result
    }

    /// The plaintext of a chunk.
    pub(crate) fn chunk(&self, handle: u64) -> Result<std::sync::Arc<Vec<u8>>> {
        self.chunks.get_or(handle, || self.read_chunk(handle))
    }

    fn read_chunk(&self, handle: u64) -> Result<Vec<u8>> {
        let mut place = self.space.locate(handle)?;
        loop {
            let read = self.reader.read(BlobKind::Chunk, &place.addr);
            let Err(error) = read else { return read };
            // A commit may have moved it meanwhile.
            let again = self.space.locate(handle)?;
            if again == place {
                return Err(error);
            }
            place = again;
        }
    }
}
