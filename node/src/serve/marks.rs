//! Questions that must not be answered with an old state: each is ordered among the commands by its nonce, and answered by
//! whoever has executed that. So whatever was executed anywhere before it was asked is in every honest answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use barfs_replication::{Command, MemberId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::driver::DriverHandle;

/// A question's nonce.
type Nonce = [u8; 16];

/// Marks that are remembered: those of questions that are still on their way to this node.
const REMEMBERED: usize = 4096;
/// Marks that are waited for at once.
const AWAITED: usize = 4096;
/// How long the group may take to order one.
const PATIENCE: Duration = Duration::from_secs(8);

#[derive(Default)]
struct State {
    executed: HashSet<Nonce>,
    /// The oldest first.
    order: VecDeque<Nonce>,
    awaited: HashMap<Nonce, Vec<oneshot::Sender<()>>>,
}

/// See the module.
#[derive(Default)]
pub struct Marks(Mutex<State>);

/// Why a question cannot be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The group did not order it in time.
    #[error("the group does not make progress")]
    Late,
    /// Too many wait already.
    #[error("too many questions wait for the group")]
    Busy,
}

impl Marks {
    /// The ledger has executed a mark.
    pub fn executed(&self, nonce: Nonce) {
        let mut state = self.0.lock();
        if state.executed.insert(nonce) {
            state.order.push_back(nonce);
        }
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.executed.remove(&oldest);
        }
        for waiting in state.awaited.remove(&nonce).unwrap_or_default() {
            // Whoever asked may have gone.
            let _gone = waiting.send(()).is_err();
        }
    }

    /// What is told once the mark has been executed; `None` if it was already.
    fn await_one(&self, nonce: Nonce) -> Result<Option<oneshot::Receiver<()>>, MarkError> {
        let mut state = self.0.lock();
        if state.executed.contains(&nonce) {
            return Ok(None);
        }
        state
            .awaited
            .retain(|_, waiting| waiting.iter().any(|told| !told.is_closed()));
        if state.awaited.len() >= AWAITED {
            return Err(MarkError::Busy);
        }
        let (told, executed) = oneshot::channel();
        state.awaited.entry(nonce).or_default().push(told);
        Ok(Some(executed))
    }

    /// Waits until the mark of a question has been executed here. Has it ordered if nobody else has after `patience`.
    pub(super) async fn wait(
        &self,
        nonce: Nonce,
        patience: Duration,
        (me, driver): (MemberId, &DriverHandle),
    ) -> Result<(), MarkError> {
        let Some(mut executed) = self.await_one(nonce)? else {
            return Ok(());
        };
        let begun = Instant::now();
        if timeout_at(begun + patience.min(PATIENCE), &mut executed)
            .await
            .is_ok()
        {
            return Ok(());
        }
        let ordered = driver.queue(me, vec![Command::ReadMark { nonce }]);
        ordered.map_err(|_| MarkError::Late)?;
        match timeout_at(begun + PATIENCE, executed).await {
            Ok(_) => Ok(()),
            Err(_) => Err(MarkError::Late),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn nonce(number: u16) -> Nonce {
        let mut nonce = [0; 16];
        nonce[..2].copy_from_slice(&number.to_le_bytes());
        nonce
    }

    #[tokio::test]
    async fn a_mark_is_waited_for_by_all_that_ask_and_remembered_for_a_while() {
        let marks = Marks::default();
        let first = marks.await_one(nonce(1)).unwrap().unwrap();
        let second = marks.await_one(nonce(1)).unwrap().unwrap();
        let mut other = marks.await_one(nonce(2)).unwrap().unwrap();
        marks.executed(nonce(1));
        first.await.unwrap();
        second.await.unwrap();
        assert!(other.try_recv().is_err(), "another one was told");
        assert!(marks.await_one(nonce(1)).unwrap().is_none());
        for number in 0..REMEMBERED as u16 {
            marks.executed(nonce(10 + number));
        }
        assert!(
            marks.await_one(nonce(1)).unwrap().is_some(),
            "it is remembered for ever"
        );
    }

    #[test]
    fn those_who_went_away_take_no_room() {
        let marks = Marks::default();
        let mut held = Vec::new();
        for number in 0..AWAITED as u16 {
            held.push(marks.await_one(nonce(number)).unwrap());
        }
        assert_eq!(marks.await_one([9; 16]).unwrap_err(), MarkError::Busy);
        held.pop();
        assert!(marks.await_one([9; 16]).is_ok());
    }
}
