//! What is known of a member that gives parts of a snapshot: what it was asked for, how long its answers take, and whether
//! it is left alone for a while.

use alloc::vec::Vec;
use core::ops::Range;

/// Questions that are open with one member at first, and at most.
const WINDOW_FIRST: usize = 2;
const WINDOW_MAX: usize = 4;
/// How long an answer may take: at first, at least, and at most; else so many times what answers took there.
const PATIENCE_MICROS: u64 = 700_000;
const PATIENCE_MIN_MICROS: u64 = 150_000;
const PATIENCE_MAX_MICROS: u64 = 6_000_000;
const PATIENCE_TIMES: u64 = 3;
/// Answers in a row that may fail to come before a member is left alone, and how long it is.
const LOST_MAX: u32 = 3;
const REST_MICROS: u64 = 3_000_000;

pub(super) struct Question {
    pub(super) range: Range<usize>,
    pub(super) asked_micros: u64,
    pub(super) due_micros: u64,
}

/// What is known of a member as a giver.
pub(super) struct Peer {
    pub(super) open: Vec<Question>,
    pub(super) window: usize,
    pub(super) patience_micros: u64,
    /// Questions in a row without an answer in time.
    pub(super) lost: u32,
    /// Left alone until then.
    pub(super) rests_until: u64,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            window: WINDOW_FIRST,
            patience_micros: PATIENCE_MICROS,
            lost: 0,
            rests_until: 0,
        }
    }
}

impl Peer {
    pub(super) fn answered(&mut self, question: &Question, now_micros: u64) {
        let took = now_micros.saturating_sub(question.asked_micros);
        self.lost = 0;
        self.window = (self.window + 1).min(WINDOW_MAX);
        let patience = took.saturating_mul(PATIENCE_TIMES).max(PATIENCE_MIN_MICROS);
        // Down by halves: one quick answer says little.
        self.patience_micros = patience
            .max(self.patience_micros / 2)
            .min(PATIENCE_MAX_MICROS);
    }

    /// Takes away what was not answered in time.
    pub(super) fn give_up_late(&mut self, now_micros: u64) {
        let open = self.open.len();
        self.open
            .retain(|question| question.due_micros > now_micros);
        let late = open - self.open.len();
        if late > 0 {
            self.lost = self
                .lost
                .saturating_add(u32::try_from(late).unwrap_or(u32::MAX));
            self.window = (self.window / 2).max(1);
            self.patience_micros = (self.patience_micros * 2).min(PATIENCE_MAX_MICROS);
            if self.lost >= LOST_MAX && self.open.is_empty() {
                self.rest(now_micros);
            }
        }
    }

    pub(super) fn rest(&mut self, now_micros: u64) {
        self.open.clear();
        self.lost = 0;
        self.rests_until = now_micros.saturating_add(REST_MICROS);
    }

    pub(super) fn ask(&mut self, range: Range<usize>, now_micros: u64) {
        self.open.push(Question {
            range,
            asked_micros: now_micros,
            due_micros: now_micros.saturating_add(self.patience_micros),
        });
    }
}
