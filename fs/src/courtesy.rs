//! Letting programs go first: when what they wrote goes on to the group.
//!
//! Where there are few processors, a pack on its way to the group takes from the program that writes the next one. So
//! whoever sends asks here before each step, and waits while programs use the mount and no processor is idle: for a
//! bounded time, and not at all while somebody waits for the group. It waits where it holds no lock, so nobody waits
//! behind it. Whether a processor is idle tells a thread in the kernel's idle class, which runs on nothing else.
//! Decides nothing about what is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Result, VolumeError};

/// Programs use the mount if a request came this lately.
const LATELY: Duration = Duration::from_millis(20);
/// How long the idle thread runs to find a processor idle, and how long that may take then.
const PROBE: Duration = Duration::from_millis(8);
const PROBE_WAIT: Duration = Duration::from_micros(9_500);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct Courtesy {
    begun: Instant,
    /// When a program's request came last, in microseconds since `begun`.
    used: AtomicU64,
    /// How many wait for the group.
    waiting: Mutex<usize>,
    changed: Condvar,
    idle: Option<Idle>,
}

impl Courtesy {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            begun: Instant::now(),
            used: AtomicU64::new(0),
            waiting: Mutex::new(0),
            changed: Condvar::new(),
            idle: Some(Idle::start()?),
        }))
    }

    /// A program asks the mount for something.
    pub(crate) fn note_use(&self) {
        let now = self.begun.elapsed().as_micros() as u64;
        self.used.store(now.max(1), Ordering::Relaxed);
    }

    /// Somebody waits for the group until what is given is dropped.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        *self.waiting.lock() += 1;
        self.changed.notify_all();
        Hurry(self)
    }

    /// Whether somebody waits for the group.
    pub(crate) fn in_hurry(&self) -> bool {
        *self.waiting.lock() > 0
    }

    /// Whoever waits here looks again whether it has to.
    pub(crate) fn look_again(&self) {
        self.changed.notify_all();
    }

    /// Lets programs go first, for `most` at the longest, as long as `may_wait` says so. The caller holds no lock.
    pub(crate) fn give_way(&self, most: Duration, may_wait: impl Fn() -> bool) {
        let until = Instant::now() + most;
        while self.in_use() && may_wait() && !self.in_hurry() && !self.is_processor_idle() {
            let mut waiting = self.waiting.lock();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if *waiting == 0 {
                self.changed.wait_for(&mut waiting, left.min(PAUSE));
            }
        }
    }

    fn in_use(&self) -> bool {
        let used = self.used.load(Ordering::Relaxed);
        let now = self.begun.elapsed().as_micros() as u64;
        used > 0 && now.saturating_sub(used) < LATELY.as_micros() as u64
    }

    fn is_processor_idle(&self) -> bool {
        self.idle.as_ref().is_some_and(Idle::ask)
    }
}

/// See [`Courtesy::hurry`].
pub(crate) struct Hurry<'a>(&'a Courtesy);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() -= 1;
    }
}

/// What is asked of the idle thread, and what it answered. No locks: that thread may be kept from running while it holds one.
#[derive(Default)]
struct Asked {
    question: AtomicU64,
    answered: AtomicU64,
    end: AtomicBool,
}

/// A thread that runs when no other wants to.
struct Idle {
    asked: Arc<Asked>,
    thread: Thread,
}

impl Idle {
    /// Does not wait for the thread: it may take long to get there. Where there is no such class it never answers.
    fn start() -> Result<Self> {
        let asked = Arc::new(Asked::default());
        let theirs = asked.clone();
        let thread = std::thread::Builder::new()
            .name("barfs-idle".into())
            .spawn(move || {
                if enter_idle_class() {
                    watch(&theirs);
                }
            })
            .map_err(|error| VolumeError::io("starting a thread", &error))?;
        Ok(Self {
            asked,
            thread: thread.thread().clone(),
        })
    }

    /// Whether a processor has nothing else to do.
    fn ask(&self) -> bool {
        let question = self.asked.question.fetch_add(1, Ordering::AcqRel) + 1;
        self.thread.unpark();
        std::thread::sleep(PROBE_WAIT);
        self.asked.answered.load(Ordering::Acquire) >= question
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.asked.end.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Answers each question once it has run for a while.
fn watch(asked: &Asked) {
    while !asked.end.load(Ordering::Acquire) {
        let question = asked.question.load(Ordering::Acquire);
        if asked.answered.load(Ordering::Relaxed) == question {
            std::thread::park();
            continue;
        }
        let begun = processor_time();
        while processor_time().saturating_sub(begun) < PROBE {
            std::hint::spin_loop();
        }
        asked.answered.store(question, Ordering::Release);
    }
}

/// What this thread has used of a processor.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Puts the calling thread where it runs only when no other wants to; it may not come back from there.
#[cfg(target_os = "linux")]
fn enter_idle_class() -> bool {
    // SAFETY: a structure of integers, for which zeros are a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a structure that lives through the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn enter_idle_class() -> bool {
    false
}

/// How urgent what the calling thread reads from disk is.
#[cfg(target_os = "linux")]
pub(crate) fn read_politely(politely: bool) {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_NONE: libc::c_int = 0;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    let class = if politely { CLASS_IDLE } else { CLASS_NONE };
    // SAFETY: takes no pointers; 0 is the calling thread. Disks without such classes leave it without effect.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, class) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_politely(_: bool) {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Keeps the mount in use, and says that no processor is idle.
    fn busy() -> Arc<Courtesy> {
        Arc::new(Courtesy {
            begun: Instant::now(),
            used: AtomicU64::new(u64::MAX / 2),
            waiting: Mutex::new(0),
            changed: Condvar::new(),
            idle: None,
        })
    }

    #[test]
    fn without_programs_nobody_waits() {
        let courtesy = Courtesy::new().unwrap();
        let begun = Instant::now();
        courtesy.give_way(LONG, || true);
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn it_waits_as_long_as_was_said_or_as_it_may() {
        let courtesy = busy();
        let begun = Instant::now();
        courtesy.give_way(Duration::from_millis(50), || true);
        assert!(begun.elapsed() >= Duration::from_millis(50));
        courtesy.give_way(LONG, || false);
        assert!(begun.elapsed() < LONG / 2);
    }

    #[test]
    fn who_waits_for_the_group_ends_it_at_once() {
        let courtesy = busy();
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| courtesy.give_way(LONG, || true));
            let hurry = courtesy.hurry();
            waiting.join().unwrap();
            drop(hurry);
        });
        assert!(begun.elapsed() < LONG / 2);
        assert!(!courtesy.in_hurry());
    }

    #[test]
    fn asking_takes_no_longer_where_no_processor_is_idle_and_the_thread_ends() {
        let idle = Idle::start().unwrap();
        let begun = Instant::now();
        let _whether_others_are_busy = idle.ask();
        assert!(begun.elapsed() < LONG);
        let asked = Arc::downgrade(&idle.asked);
        drop(idle);
        while asked.strong_count() > 0 {
            assert!(begun.elapsed() < LONG, "the thread goes on");
            std::thread::yield_now();
        }
    }
}
