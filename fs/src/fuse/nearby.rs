//! Answering where the question is asked: on the processor of the program that waits.
//!
//! A program that works on small files asks one thing after the other and sleeps until it has the answer. Where the thread
//! that answers runs on another processor, each question wakes that from its sleep and each answer the program's; on
//! the same processor the kernel only switches between the two. So while one program thread asks and nobody else, the
//! threads of the session stay on its processor, and look from time to time where it has gone. Whoever moves much data is
//! left to the kernel, which spreads it.
//!
//! Decides nothing but where threads run. Where the system does not say or allow it, they run anywhere.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fuser::Request;

use crate::courtesy::Courtesy;

/// So many questions of one thread in a row, with none of others between, make it the only one.
const ALONE: u32 = 8;
/// It is looked for with every so many: the kernel moves programs a hundred times a second.
const LOOK_EVERY: u32 = 16;
/// Later than this after the one before, a question begins a new row.
const CLOSE: Duration = Duration::from_millis(20);
/// Requests that move so many bytes are better spread.
const MUCH_BYTES: usize = 64 * 1024;

/// What the threads of a session know of who asks.
pub(super) struct Nearby {
    begun: Instant,
    /// The thread that asked last.
    asker: AtomicU32,
    /// Its questions in a row.
    row: AtomicU32,
    /// When the last came, in microseconds since `begun`.
    asked: AtomicU64,
    /// Where it ran when it was looked for last; [`ANYWHERE`] if nobody is alone.
    processor: AtomicUsize,
    /// Is told that programs use the mount.
    courtesy: Arc<Courtesy>,
}

/// No processor.
const ANYWHERE: usize = usize::MAX;

thread_local! {
    /// The processor that the calling thread stays on.
    static STAYS: Cell<usize> = const { Cell::new(ANYWHERE) };
}

impl Nearby {
    pub(super) fn new(courtesy: Arc<Courtesy>) -> Self {
        Self {
            begun: Instant::now(),
            asker: AtomicU32::new(0),
            row: AtomicU32::new(0),
            asked: AtomicU64::new(0),
            processor: AtomicUsize::new(ANYWHERE),
            courtesy,
        }
    }

    /// A question that moves little data has come.
    pub(super) fn asked_by(&self, request: &Request) {
        self.asked_for(request, 0);
    }

    /// A question has come that moves so many bytes.
    pub(super) fn asked_for(&self, request: &Request, bytes: usize) {
        self.courtesy.note_use();
        let asker = request.pid();
        // What the kernel asks for itself says nothing of any program.
        if asker == 0 {
            return;
        }
        let row = if bytes < MUCH_BYTES {
            self.row_of(asker)
        } else {
            self.row.store(0, Ordering::Relaxed);
            0
        };
        if row == 0 {
            self.processor.store(ANYWHERE, Ordering::Relaxed);
        } else if row >= ALONE && row % LOOK_EVERY == ALONE {
            let processor = processor_of(asker).unwrap_or(ANYWHERE);
            self.processor.store(processor, Ordering::Relaxed);
        }
        stay_on(self.processor.load(Ordering::Relaxed));
    }

    /// Questions of that thread in a row, this one not counted.
    fn row_of(&self, asker: u32) -> u32 {
        let now = self.begun.elapsed().as_micros() as u64;
        let gap = now.saturating_sub(self.asked.swap(now, Ordering::Relaxed));
        let same = self.asker.swap(asker, Ordering::Relaxed) == asker;
        if same && gap < CLOSE.as_micros() as u64 {
            self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        } else {
            self.row.store(0, Ordering::Relaxed);
            0
        }
    }
}

/// Has the calling thread stay on a processor, or run anywhere.
fn stay_on(processor: usize) {
    let stays = STAYS.get();
    if stays == processor {
        return;
    }
    if processor != ANYWHERE && system::stay_on(processor) {
        STAYS.set(processor);
    } else if stays != ANYWHERE {
        system::run_anywhere();
        STAYS.set(ANYWHERE);
    }
}

/// The processor on which a thread runs or ran last (proc_pid_stat(5), field 39).
fn processor_of(thread: u32) -> Option<usize> {
    let stat = std::fs::read_to_string(format!("/proc/{thread}/task/{thread}/stat")).ok()?;
    // The name, second and in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::OnceLock;

    /// Where the process may run.
    fn allowed() -> Option<&'static libc::cpu_set_t> {
        static ALLOWED: OnceLock<Option<libc::cpu_set_t>> = OnceLock::new();
        let of_the_process = || {
            let mut set = empty();
            let room = size_of::<libc::cpu_set_t>();
            // SAFETY: the pointer is to a set that lives through the call, of the size told. The first thread of the
            // process, which never stays anywhere, is asked.
            let got = unsafe { libc::sched_getaffinity(libc::getpid(), room, &raw mut set) };
            (got == 0).then_some(set)
        };
        ALLOWED.get_or_init(of_the_process).as_ref()
    }

    fn empty() -> libc::cpu_set_t {
        // SAFETY: a set of bits, for which zeros are a value.
        unsafe { std::mem::zeroed() }
    }

    fn run_on(set: &libc::cpu_set_t) -> bool {
        let room = size_of::<libc::cpu_set_t>();
        // SAFETY: the pointer is to a set that lives through the call, of the size told; 0 is the calling thread.
        unsafe { libc::sched_setaffinity(0, room, &raw const *set) == 0 }
    }

    pub(super) fn stay_on(processor: usize) -> bool {
        let Some(allowed) = allowed().filter(|_| processor < libc::CPU_SETSIZE as usize) else {
            return false;
        };
        let mut set = empty();
        // SAFETY: the number lies within both sets.
        let may = unsafe {
            libc::CPU_SET(processor, &mut set);
            libc::CPU_ISSET(processor, allowed)
        };
        may && run_on(&set)
    }

    pub(super) fn run_anywhere() {
        if let Some(allowed) = allowed()
            && !run_on(allowed)
        {
            tracing::debug!("a thread stays on one processor");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn stay_on(_: usize) -> bool {
        false
    }

    pub(super) fn run_anywhere() {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn nearby() -> Nearby {
        Nearby::new(Courtesy::new().unwrap())
    }

    #[test]
    fn only_questions_of_one_thread_that_follow_closely_make_a_row() {
        let nearby = nearby();
        // Other work may keep this thread from asking closely: only what was counted is judged.
        let row = |asker, times: u32| (0..times).map(|_| nearby.row_of(asker)).max().unwrap();
        assert!(
            row(7, 1000) >= ALONE,
            "a thousand in a row, however busy the machine"
        );
        assert_eq!(nearby.row_of(8), 0, "somebody else");
        assert_eq!(nearby.row_of(7), 0, "it again, after somebody else");
        nearby.asked.store(0, Ordering::Relaxed);
        std::thread::sleep(CLOSE + Duration::from_millis(1));
        assert_eq!(nearby.row_of(7), 0, "the same, late");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_found_and_one_that_stays_there_runs_anywhere_again() {
        let processors = || std::thread::available_parallelism().unwrap().get();
        let stayed = std::thread::spawn(move || {
            let before = processors();
            stay_on(processor_of(std::process::id()).unwrap());
            let on_one = processors();
            stay_on(ANYWHERE);
            (before, on_one, processors(), STAYS.get())
        });
        let (before, on_one, after, stays) = stayed.join().unwrap();
        assert_eq!((on_one, after, stays), (1, before, ANYWHERE));
        assert_eq!(processor_of(u32::MAX), None, "nobody has that number");
    }
}
