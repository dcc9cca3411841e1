//! Waking and stopping a background thread.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes a background thread.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    woken: Condvar,
}

#[derive(Default)]
struct SignalState {
    kicked: bool,
    stop: bool,
}

impl Signal {
    pub(crate) fn kick(&self) {
        self.state.lock().kicked = true;
        self.woken.notify_all();
    }

    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.woken.notify_all();
    }

    pub(crate) fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits for a kick, a stop or the time; `false` to stop.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.kicked && !state.stop {
            self.woken.wait_for(&mut state, time);
        }
        state.kicked = false;
        !state.stop
    }
}
