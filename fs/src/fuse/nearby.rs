//! Answering where the question is asked: on the processor of the program that waits.
//!
//! A program that works on small files asks one thing after the other and sleeps until it has the answer. Where the thread
//! that answers runs on another processor, each question wakes that from its sleep and each answer the program's; on
//! the same processor the kernel only switches between the two. So while one program thread asks and nobody else, one
//! thread of the session leads: it stays on that processor, and looks from time to time where the program has gone. The
//! others wait: two that answer on one processor make the kernel move the program away. They go on once somebody else
//! asks, nobody does, or the leading one takes long for an answer. Whoever moves much data is left to the kernel.
//!
//! A program that was moved goes back to where it ran before at the next answer, if that processor is idle (Linux:
//! `recent_used_cpu`); to run after it would have it run away for ever. So another thread takes the lead where it is, and the
//! one that led keeps its processor busy until answers were given from there.
//!
//! Decides nothing but where threads run, and which. Where the system does not say or allow it, they run anywhere.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fuser::Request;
use parking_lot::{Condvar, Mutex};

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
    /// The thread that leads, 0 for none.
    leader: AtomicU32,
    /// Since when it works on an answer, likewise; 0 when it does not.
    busy: AtomicU64,
    /// Answers given so far.
    answers: AtomicU64,
    /// Looks in a row that found the program elsewhere.
    moves: AtomicU32,
    /// Until when nobody is followed, likewise.
    rests: AtomicU64,
    /// Threads that wait because another leads.
    waiting: Mutex<usize>,
    go_on: Condvar,
    /// Is told that programs use the mount.
    courtesy: Arc<Courtesy>,
}

/// The others go on when an answer takes longer.
const LONG: Duration = Duration::from_millis(3);
/// The thread that led keeps its processor busy for so many answers (not each wakes a program), and no longer than this.
const KEEP_ANSWERS: u64 = 4;
const KEEP_BUSY: Duration = Duration::from_micros(300);
/// A program that has moved at so many looks one after the other is not followed for a while.
const RESTLESS: u32 = 8;
const REST: Duration = Duration::from_secs(1);
/// No processor.
const ANYWHERE: usize = usize::MAX;

/// Numbers the threads of sessions.
static THREADS: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static THREAD: u32 = THREADS.fetch_add(1, Ordering::Relaxed);
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
            leader: AtomicU32::new(0),
            busy: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            moves: AtomicU32::new(0),
            rests: AtomicU64::new(0),
            waiting: Mutex::new(0),
            go_on: Condvar::new(),
            courtesy,
        }
    }

    /// A question that moves little data has come. What is given is dropped once it is answered.
    pub(super) fn asked_by(&self, request: &Request) -> Answering<'_> {
        self.asked_for(request, 0)
    }

    /// A question has come that moves so many bytes.
    pub(super) fn asked_for(&self, request: &Request, bytes: usize) -> Answering<'_> {
        self.courtesy.note_use();
        let asker = request.pid();
        // What the kernel asks for itself says nothing of any program.
        if asker == 0 {
            return Answering(self, Part::Anybody);
        }
        let row = if bytes < MUCH_BYTES {
            self.row_of(asker)
        } else {
            self.row.store(0, Ordering::Relaxed);
            0
        };
        if row == 0 || self.now() < self.rests.load(Ordering::Relaxed) {
            self.spread();
        } else if row >= ALONE && row % LOOK_EVERY == ALONE && self.look_for(asker) {
            return Answering(self, Part::HandsOver);
        }
        let processor = self.processor.load(Ordering::Relaxed);
        let part = match processor {
            ANYWHERE => Part::Anybody,
            _ => self.part_of(THREAD.with(|thread| *thread)),
        };
        if part != Part::Follows {
            stay_on(processor);
        }
        Answering(self, part)
    }

    /// Looks where the program is; whether another thread is to lead there.
    fn look_for(&self, asker: u32) -> bool {
        let processor = processor_of(asker).unwrap_or(ANYWHERE);
        let before = self.processor.swap(processor, Ordering::Relaxed);
        if before == processor {
            self.moves.store(0, Ordering::Relaxed);
            return false;
        }
        if self.moves.fetch_add(1, Ordering::Relaxed) >= RESTLESS {
            self.moves.store(0, Ordering::Relaxed);
            let until = self.now() + micros(REST);
            self.rests.store(until, Ordering::Relaxed);
            self.spread();
            return false;
        }
        let leads = self.leader.load(Ordering::Relaxed) == THREAD.with(|thread| *thread);
        let both = before != ANYWHERE && processor != ANYWHERE;
        both && leads && STAYS.get() == before && *self.waiting.lock() > 0
    }

    /// Has another thread lead, and keeps this processor busy until that has answered some.
    fn hand_over(&self) {
        let answers = self.answers.load(Ordering::Acquire);
        self.busy.store(0, Ordering::Relaxed);
        self.leader.store(0, Ordering::Release);
        self.go_on.notify_one();
        let begun = Instant::now();
        let given = || self.answers.load(Ordering::Acquire) - answers;
        while given() < KEEP_ANSWERS && begun.elapsed() < KEEP_BUSY {
            std::hint::spin_loop();
        }
    }

    /// Lets every thread go on, anywhere.
    fn spread(&self) {
        if self.processor.swap(ANYWHERE, Ordering::Relaxed) == ANYWHERE {
            return;
        }
        self.leader.store(0, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        if *self.waiting.lock() > 0 {
            self.go_on.notify_all();
        }
    }

    fn part_of(&self, thread: u32) -> Part {
        let claimed = self
            .leader
            .compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed);
        if claimed.is_ok() || claimed == Err(thread) {
            self.busy.store(self.now().max(1), Ordering::Relaxed);
            Part::Leads
        } else {
            Part::Follows
        }
    }

    fn now(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    /// Whether one thread is enough.
    fn one_leads(&self) -> bool {
        let since = |then: u64| self.now().saturating_sub(then);
        let busy = self.busy.load(Ordering::Relaxed);
        let alone = self.processor.load(Ordering::Relaxed) != ANYWHERE;
        let prompt = busy == 0 || since(busy) < micros(LONG);
        alone && prompt && since(self.asked.load(Ordering::Relaxed)) < micros(CLOSE)
    }

    /// Waits while another thread is enough, or until it is this one's turn to lead. The time bounds how late it is noticed
    /// that the other takes long.
    fn follow(&self, thread: u32) {
        let mut waiting = self.waiting.lock();
        *waiting += 1;
        while self.one_leads() {
            let turn =
                self.leader
                    .compare_exchange(0, thread, Ordering::Acquire, Ordering::Relaxed);
            if turn.is_ok() {
                stay_on(self.processor.load(Ordering::Relaxed));
                break;
            }
            self.go_on.wait_for(&mut waiting, LONG);
        }
        *waiting -= 1;
    }

    /// Questions of that thread in a row, this one not counted.
    fn row_of(&self, asker: u32) -> u32 {
        let now = self.now();
        let gap = now.saturating_sub(self.asked.swap(now, Ordering::Relaxed));
        let same = self.asker.swap(asker, Ordering::Relaxed) == asker;
        if same && gap < micros(CLOSE) {
            self.row.fetch_add(1, Ordering::Relaxed).saturating_add(1)
        } else {
            self.row.store(0, Ordering::Relaxed);
            0
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What a thread does among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Anybody,
    Leads,
    Follows,
    /// Leads until this is answered.
    HandsOver,
}

/// A question that is being answered.
pub(super) struct Answering<'a>(&'a Nearby, Part);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let Self(nearby, part) = self;
        nearby.answers.fetch_add(1, Ordering::Release);
        match part {
            Part::Anybody => {}
            Part::Leads => nearby.busy.store(0, Ordering::Relaxed),
            Part::Follows => nearby.follow(THREAD.with(|thread| *thread)),
            Part::HandsOver => {
                nearby.hand_over();
                nearby.follow(THREAD.with(|thread| *thread));
            }
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
mod tests;
