//! This member's shares of the beacon: one is owed each audit epoch.

use barfs_crypto::VrfSecret;

use super::Replica;
use crate::ledger::command::{BlockCommand, Command};

/// The secret half of the key for the beacon, and what became of the newest share.
pub(super) struct Shares {
    secret: VrfSecret,
    made: Option<Share>,
}

struct Share {
    /// The period it is of.
    period: u64,
    /// The share, as long as no block takes it.
    waits: Option<Command>,
}

impl Replica {
    /// Takes part in the beacon with this key, once it is registered (`Command::RegisterVrf`): the share that is owed
    /// each audit epoch is submitted by itself.
    pub fn use_vrf(&mut self, secret: VrfSecret) {
        self.vrf = Some(Shares { secret, made: None });
    }

    /// What waited for a block may have ended with the seat: if a share is still owed, it is made again.
    pub(super) fn forget_share(&mut self) {
        if let Some(shares) = &mut self.vrf {
            shares.made = None;
        }
    }

    /// Submits the share that is owed. Where the queue is full it waits for room.
    pub(super) fn reveal(&mut self) {
        let Some(shares) = &self.vrf else {
            return;
        };
        // Where the beacon stands changes with commits only, and whether this is the key that counts with the period.
        let period = self.execution.ledger().beacon_period();
        let made = shares.made.as_ref().filter(|share| share.period == period);
        if made.is_some_and(|share| share.waits.is_none())
            || !self.is_seated()
            || !self.ledger().owes_reveal(self.me)
        {
            return;
        }
        let share = match made {
            Some(share) => share.waits.clone(),
            None => {
                let owed = self.ledger().reveal_owed(self.me, &shares.secret);
                owed.map(|(epoch, reveal)| Command::Reveal { epoch, reveal })
            }
        };
        let number = self.next_own_number();
        let waits = share.filter(|command| {
            let command = command.clone();
            let own = BlockCommand::Own { number, command };
            self.own.submit(own, None, Some(self.me)).is_err()
        });
        if let Some(shares) = &mut self.vrf {
            shares.made = Some(Share { period, waits });
        }
    }
}
