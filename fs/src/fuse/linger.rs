//! Looking out for the next request for some microseconds before sleeping.
//!
//! A program that works on small files asks one thing after the other. To put a thread to sleep and wake it up for each
//! costs more than most answers. So where requests follow each other closely one thread of those that have answered looks
//! out for the next a moment; whoever needs the processor meanwhile gets it, and where that happens nobody lingers for
//! a while. Decides nothing but when a thread goes back to the kernel.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long to look out.
const LINGER: Duration = Duration::from_micros(50);
/// A request that comes within this of the answer before it follows closely.
const CLOSE: Duration = Duration::from_micros(250);
/// Giving the processor up takes longer than this only when somebody else ran.
const YIELD: Duration = Duration::from_micros(15);
/// How long nobody lingers then.
const PAUSE: Duration = Duration::from_millis(20);

/// How a look out ended.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A request waits, or the device is gone.
    Request,
    /// Nothing came in time.
    Nothing,
    /// Somebody else needs the processor.
    Others,
}

/// What the threads of a session know of each other's requests.
pub(super) struct Lingering {
    device: OnceLock<OwnedFd>,
    begun: Instant,
    /// When a request was answered last, in microseconds since `begun`.
    answered: AtomicU64,
    /// Until when the processors are needed by others, likewise.
    paused: AtomicU64,
    /// A thread looks out.
    taken: AtomicBool,
}

impl Lingering {
    pub(super) fn new() -> Self {
        Self {
            device: OnceLock::new(),
            begun: Instant::now(),
            answered: AtomicU64::new(0),
            paused: AtomicU64::new(0),
            taken: AtomicBool::new(false),
        }
    }

    /// Begins, with the device that requests come from.
    pub(super) fn start(&self, device: OwnedFd) {
        // Only the first counts: there is one device.
        let _ = self.device.set(device);
    }

    /// A request has come. What is given is dropped once it is answered.
    pub(super) fn request(&self) -> Linger<'_> {
        let now = self.now();
        let gap = now.saturating_sub(self.answered.load(Ordering::Relaxed));
        let closely = gap < micros(CLOSE);
        let worth_it = closely && now >= self.paused.load(Ordering::Relaxed);
        Linger { of: self, worth_it }
    }

    fn now(&self) -> u64 {
        micros(self.begun.elapsed())
    }

    fn look_out(&self) -> Seen {
        let Some(device) = self.device.get() else {
            return Seen::Nothing;
        };
        let begun = Instant::now();
        let mut passed = Duration::ZERO;
        while passed < LINGER {
            if !is_quiet(device) {
                return Seen::Request;
            }
            std::thread::yield_now();
            let before = std::mem::replace(&mut passed, begun.elapsed());
            if passed - before > YIELD {
                let until = self.now() + micros(PAUSE);
                self.paused.store(until, Ordering::Relaxed);
                return Seen::Others;
            }
        }
        Seen::Nothing
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Whether no request waits. What cannot be told is for the kernel to say when it is asked for the next request.
fn is_quiet(device: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(device, PollFlags::IN)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut polled, Some(&at_once)) == Ok(0)
}

/// A request that is being answered.
pub(super) struct Linger<'a> {
    of: &'a Lingering,
    worth_it: bool,
}

impl Drop for Linger<'_> {
    fn drop(&mut self) {
        self.of.answered.store(self.of.now(), Ordering::Relaxed);
        if self.worth_it && !self.of.taken.swap(true, Ordering::Acquire) {
            let _whatever_came = self.of.look_out();
            self.of.taken.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    /// A pipe stands for the device: it can be polled.
    fn rig() -> (Lingering, std::io::PipeWriter) {
        let (reader, writer) = std::io::pipe().unwrap();
        let lingering = Lingering::new();
        lingering.start(OwnedFd::from(reader));
        (lingering, writer)
    }

    #[test]
    fn only_what_follows_closely_is_waited_for() {
        let (lingering, _writer) = rig();
        let later = micros(CLOSE) + 1;
        let begun = Instant::now();
        while lingering.now() <= later {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        assert!(!lingering.request().worth_it, "the first comes late");
        lingering.answered.store(u64::MAX, Ordering::Relaxed);
        assert!(lingering.request().worth_it, "the next at once");
        lingering.answered.store(u64::MAX, Ordering::Relaxed);
        lingering.paused.store(u64::MAX, Ordering::Relaxed);
        assert!(!lingering.request().worth_it, "others need the processor");
    }

    #[test]
    fn a_look_out_ends_when_a_request_comes_and_without_one() {
        let (lingering, mut writer) = rig();
        let device = lingering.device.get().unwrap();
        assert!(is_quiet(device));
        match lingering.look_out() {
            Seen::Nothing => assert_eq!(lingering.paused.load(Ordering::Relaxed), 0),
            Seen::Others => assert!(lingering.paused.load(Ordering::Relaxed) > 0),
            Seen::Request => panic!("there is none"),
        }
        writer.write_all(b"request").unwrap();
        assert_eq!(lingering.look_out(), Seen::Request);
        drop(writer);
    }
}
