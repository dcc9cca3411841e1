//! What breaks, and when.
//!
//! Owns the schedule of faults during the storm: each kind schedules its own next time. Never acts once the world is
//! calm. What a fault does to a disk, a link or a clock is said at the head of that module.

use crate::plan::{Mutant, Plan};
use crate::rng::{MILLI, Rng, SECOND};
use crate::world::{Happening, TURN_MICROS, World};
use std::sync::Arc;

/// One kind of fault or repair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Some member, or every member, loses power; the next crash is scheduled.
    Crash,
    /// A member loses power and stays down until a time, or for good.
    Down { member: u16, until: Option<u64> },
    /// A member's disk is lost; it comes back with an empty one.
    LoseDisk { member: u16 },
    /// A member's power is back.
    Up { member: u16 },
    /// The network parts; the next partition is scheduled.
    Partition,
    /// Mutant: correct members with even and with odd numbers are apart; liars reach both.
    Faction,
    /// The network is whole again.
    Mend,
    /// A wall clock jumps; the next jump is scheduled.
    Jump,
}

/// Draws of the fault schedule.
#[derive(Debug)]
pub(crate) struct Injector {
    rng: Rng,
}

impl Injector {
    pub(crate) fn new(rng: Rng) -> Self {
        Injector { rng }
    }

    /// The first fault of each kind; early enough to happen before the storm ends.
    pub(crate) fn opening(&mut self, plan: &Plan) -> Vec<(u64, Fault)> {
        let half = plan.storm_micros / 2;
        let mut first = |every: Option<u64>, fault: Fault| {
            every.map(|every| (self.rng.around(every).min(half), fault))
        };
        let mut faults: Vec<_> = [
            first(plan.crash.every, Fault::Crash),
            first(plan.network.partition_every, Fault::Partition),
            first(plan.clock.jump_every, Fault::Jump),
        ]
        .into_iter()
        .flatten()
        .collect();
        for (member, at) in &plan.crash.gone {
            faults.push((
                *at,
                Fault::Down {
                    member: *member,
                    until: None,
                },
            ));
        }
        if plan.mutant == Some(Mutant::TooManyLiars) {
            faults.push((0, Fault::Faction));
        }
        for (member, at) in &plan.crash.lost_disks {
            faults.push((*at, Fault::LoseDisk { member: *member }));
        }
        if let Some((member, from, until)) = plan.crash.away {
            faults.push((
                from,
                Fault::Down {
                    member,
                    until: Some(until),
                },
            ));
        }
        faults
    }

    /// Where a monotonic clock starts.
    pub(crate) fn monotonic_base(&mut self) -> u64 {
        self.rng.below(1_000 * SECOND)
    }

    /// How long a connection takes to stand.
    pub(crate) fn handshake(&mut self) -> u64 {
        self.rng.between(5, 100) * MILLI
    }

    /// Whether a member that goes over to a new epoch loses power: after how long, and for how long.
    pub(crate) fn turn(&mut self) -> Option<(u64, u64)> {
        self.rng.per_mille(300).then(|| {
            let later = self.rng.below(TURN_MICROS);
            (later, self.rng.between(10 * MILLI, SECOND))
        })
    }

    /// The draws of one life of a liar.
    pub(crate) fn liar_rng(&mut self) -> Rng {
        self.rng.fork("liar")
    }

    /// Mutant: now and then changes one byte of a message.
    pub(crate) fn forge(&mut self, bytes: &Arc<[u8]>) -> Arc<[u8]> {
        if !self.rng.per_mille(20) {
            return Arc::clone(bytes);
        }
        let mut forged = bytes.to_vec();
        let position = self.rng.below(forged.len() as u64) as usize;
        if let Some(byte) = forged.get_mut(position) {
            *byte ^= 1 << self.rng.below(8);
        }
        forged.into()
    }
}

impl World {
    /// Lets one fault happen.
    pub(crate) fn inject(&mut self, fault: Fault) -> anyhow::Result<()> {
        if self.calm_since.is_some() {
            return Ok(());
        }
        match fault {
            Fault::Crash => self.crash(),
            Fault::Down { member, until } => self.take_down(member, until),
            Fault::LoseDisk { member } => self.lose_disk(member),
            Fault::Up { member } => {
                let down = self
                    .members
                    .get(usize::from(member))
                    .is_some_and(|it| it.actor.is_none() && !it.gone);
                if down {
                    self.counts.restarts += 1;
                    self.start(member)?;
                }
            }
            Fault::Partition => self.part(),
            Fault::Faction => {
                let plan = &self.plan;
                let correct = |id: u16| plan.is_correct(id);
                self.network
                    .cut(|from, to| correct(from) && correct(to) && from % 2 != to % 2);
            }
            Fault::Mend => self.mend(),
            Fault::Jump => self.jump(),
        }
        Ok(())
    }

    fn crash(&mut self) {
        let Some(every) = self.plan.crash.every else {
            return;
        };
        let everyone = self.injector.rng.per_mille(self.plan.crash.all_per_mille);
        let up: Vec<u16> = self
            .members
            .iter()
            .filter(|member| member.actor.is_some())
            .map(|member| member.machine.id.0)
            .collect();
        let victims = if everyone {
            self.counts.power_cuts += 1;
            up
        } else {
            self.injector.rng.pick(&up).copied().into_iter().collect()
        };
        for member in victims {
            let down_max = self.plan.crash.down_max;
            let until = self.at + self.injector.rng.between(10 * MILLI, down_max);
            self.counts.crashes += 1;
            self.take_down(member, Some(until));
        }
        let next = self.at + self.injector.rng.around(every);
        self.schedule(next, Happening::Fault(Fault::Crash));
    }

    fn take_down(&mut self, member: u16, until: Option<u64>) {
        self.stop(member);
        match until {
            Some(until) => self.schedule(until, Happening::Fault(Fault::Up { member })),
            None => {
                self.counts.gone += 1;
                if let Some(it) = self.members.get_mut(usize::from(member)) {
                    it.gone = true;
                }
            }
        }
    }

    fn lose_disk(&mut self, member: u16) {
        let until = self.at
            + self
                .injector
                .rng
                .between(10 * MILLI, self.plan.crash.down_max);
        self.take_down(member, Some(until));
        let nonce = self.injector.rng.bytes();
        if let Some(it) = self.members.get_mut(usize::from(member)) {
            it.machine.disk.lose(self.at);
            it.machine.recovering = Some(nonce);
        }
        self.counts.disks_lost += 1;
        self.note("disk lost", [member.into(), 0, 0]);
    }

    fn part(&mut self) {
        let Some(every) = self.plan.network.partition_every else {
            return;
        };
        let mut order: Vec<u16> = (0..self.plan.everybody()).collect();
        self.injector.rng.shuffle(&mut order);
        let size = self
            .injector
            .rng
            .between(1, u64::from(self.plan.nodes / 2).max(1)) as usize;
        order.truncate(size);
        let one_way = self.injector.rng.per_mille(250);
        let cut = self.network.cut(|from, to| {
            let (leaves, enters) = (order.contains(&from), order.contains(&to));
            leaves != enters && (leaves || !one_way)
        });
        self.counts.partitions += 1;
        self.note("partition", [size as u64, one_way.into(), cut]);
        let mend = self.at + self.injector.rng.around(self.plan.network.partition_micros);
        self.schedule(mend, Happening::Fault(Fault::Mend));
        let next = mend + self.injector.rng.around(every);
        self.schedule(next, Happening::Fault(Fault::Partition));
    }

    /// Mends every cut; both ends of each see a new connection.
    pub(crate) fn mend(&mut self) {
        let pairs = self.network.mend();
        self.note("mend", [pairs.len() as u64, 0, 0]);
        for (member, peer) in pairs {
            let later = self.at + self.injector.handshake();
            self.schedule(later, Happening::Connected { member, peer });
        }
    }

    fn jump(&mut self) {
        let Some(every) = self.plan.clock.jump_every else {
            return;
        };
        let member = self.injector.rng.below(u64::from(self.plan.nodes)) as u16;
        let width = self.plan.clock.jump_ms;
        let by_ms = self.injector.rng.between(0, 2 * width) as i64 - width as i64;
        if let Some(it) = self.members.get_mut(usize::from(member)) {
            it.machine.clock.jump(by_ms);
        }
        self.counts.clock_jumps += 1;
        self.note(
            "jump",
            [member.into(), by_ms.unsigned_abs(), u64::from(by_ms < 0)],
        );
        let next = self.at + self.injector.rng.around(every);
        self.schedule(next, Happening::Fault(Fault::Jump));
    }
}
