//! Which classes of faults a run has: each by a coin, narrowed by its scenario.

use super::Scenario;
use crate::rng::Rng;

/// Which classes of faults are on.
#[derive(Clone, Copy, Default)]
pub(super) struct Switches {
    pub(super) network: bool,
    pub(super) ragged: bool,
    pub(super) partitions: bool,
    pub(super) crashes: bool,
    pub(super) gone: bool,
    pub(super) clocks: bool,
    pub(super) disk: bool,
    pub(super) liars: bool,
    pub(super) rational: bool,
}

impl Switches {
    /// Each by a coin.
    fn toss(rng: &mut Rng) -> Switches {
        let mut coin = || rng.per_mille(500);
        Switches {
            network: coin(),
            partitions: coin(),
            crashes: coin(),
            gone: coin(),
            clocks: coin(),
            disk: coin(),
            liars: coin(),
            ragged: coin(),
            rational: coin(),
        }
    }

    /// What a scenario leaves of the toss, and what it always has.
    pub(super) fn draw(scenario: Scenario, rng: &mut Rng) -> Switches {
        let tossed = Switches::toss(rng);
        let mut on = Switches::default();
        match scenario {
            Scenario::Swarm => on = tossed,
            Scenario::Calm | Scenario::Measured => {}
            Scenario::Crashes => {
                (on.crashes, on.disk, on.gone) = (true, tossed.disk, tossed.gone);
            }
            Scenario::Ragged => {
                (on.network, on.ragged) = (true, true);
                (on.liars, on.gone) = (tossed.liars, tossed.gone);
            }
            Scenario::Partitions => (on.partitions, on.network) = (true, true),
            Scenario::Liars => {
                on.liars = true;
                (on.network, on.ragged) = (tossed.network, tossed.ragged);
            }
            Scenario::Clocks => (on.clocks, on.network) = (true, tossed.network),
            Scenario::Absence => {
                (on.network, on.disk, on.liars) = (tossed.network, tossed.disk, tossed.liars);
            }
            Scenario::Leaders => (on.liars, on.gone) = (tossed.liars, tossed.gone),
            Scenario::Load => (on.network, on.disk) = (tossed.network, tossed.disk),
            Scenario::Leaving => {
                (on.network, on.ragged) = (tossed.network, tossed.ragged);
                (on.crashes, on.partitions) = (tossed.crashes, tossed.partitions);
            }
            Scenario::LostDisk => {
                (on.network, on.ragged) = (tossed.network, tossed.ragged);
                (on.crashes, on.disk) = (tossed.crashes, tossed.disk);
            }
            Scenario::Committees => {
                (on.network, on.ragged) = (tossed.network, tossed.ragged);
                on.liars = tossed.liars;
                (on.crashes, on.partitions) = (tossed.crashes, tossed.partitions);
            }
            Scenario::Membership => {
                on = tossed;
                (on.gone, on.rational) = (false, false);
            }
            Scenario::Selfish => {
                on.rational = true;
                (on.network, on.crashes) = (tossed.network, tossed.crashes);
                on.liars = tossed.liars;
            }
            Scenario::Questions => {
                (on.network, on.crashes) = (tossed.network, tossed.crashes);
                (on.liars, on.gone) = (tossed.liars, tossed.gone);
            }
            Scenario::Small => {
                (on.network, on.crashes) = (tossed.network, tossed.crashes);
                (on.clocks, on.disk) = (tossed.clocks, tossed.disk);
            }
        }
        on
    }
}
