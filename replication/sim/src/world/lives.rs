//! The lives of the members' programs: starting, stopping, waking.
//!
//! Invariant: what was scheduled for one life of a program never reaches the next.

use super::{Happening, SPINS_MAX, World};
use crate::actors::rational::{Rational, Selfish};
use crate::actors::{Actor, altruistic::Driver, byzantine::Liar};
use crate::observation::Observation;
use barfs_replication::{Input, MemberId};

impl World {
    /// Starts the program of a member on what its disk holds.
    pub(crate) fn start(&mut self, id: u16) -> anyhow::Result<()> {
        let base = self.injector.monotonic_base();
        let (at, mutant, strategy) = (self.at, self.plan.mutant, self.plan.strategy_of(id));
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return Ok(());
        };
        member.machine.clock.start(at, base);
        member.life += 1;
        member.wake = None;
        let restored = member.life > 1;
        let selfish = self.plan.selfish_of(id);
        if selfish == Some(Selfish::EarlyTimeout) {
            member.machine.clock.hurry(3);
        }
        let actor = match strategy {
            None if let Some(selfish) = selfish => {
                let rng = self.injector.liar_rng();
                let machine = &member.machine;
                Actor::Rational(Box::new(Rational::start(
                    machine, at, mutant, selfish, rng,
                )?))
            }
            None => Actor::Altruistic(Box::new(Driver::start(&member.machine, at, mutant)?)),
            Some(strategy) => {
                let seed = self.injector.liar_rng();
                Actor::Byzantine(Box::new(Liar::start(
                    &member.machine,
                    at,
                    strategy,
                    &self.plan,
                    seed,
                )?))
            }
        };
        member.actor = Some(actor);
        self.note("start", [id.into(), restored.into(), 0]);
        let recovering = self
            .members
            .get(usize::from(id))
            .is_some_and(|it| it.machine.recovering.is_some());
        if recovering {
            let member = MemberId(id);
            self.observe(&Observation::Emptied { member });
        } else if restored {
            self.observe_restored(id)?;
        } else if strategy.is_none() {
            let member = MemberId(id);
            self.observe(&Observation::Started { member });
        }
        for peer in (0..self.plan.everybody()).filter(|peer| *peer != id) {
            let later = self.at + self.injector.handshake();
            self.schedule(later, Happening::Connected { member: id, peer });
            self.schedule(
                later,
                Happening::Connected {
                    member: peer,
                    peer: id,
                },
            );
        }
        self.arm(id);
        Ok(())
    }

    pub(super) fn observe_restored(&mut self, id: u16) -> anyhow::Result<()> {
        let Some(member) = self.members.get(usize::from(id)) else {
            return Ok(());
        };
        let Some(replica) = member.actor.as_ref().and_then(Actor::replica) else {
            return Ok(());
        };
        let again = Driver::start(&member.machine, self.at, self.plan.mutant)?;
        let observation = Observation::restored(&member.machine, replica, again.replica());
        self.observe(&observation);
        Ok(())
    }

    /// A member loses power.
    pub(crate) fn stop(&mut self, id: u16) {
        let at = self.at;
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        let Some(actor) = member.actor.take() else {
            return;
        };
        member.machine.disk.crash(at);
        member.wake = None;
        self.workload.power_lost(MemberId(id));
        self.oracle.power_lost(MemberId(id));
        self.note("crash", [id.into(), 0, 0]);
        if let Some(replica) = actor.replica() {
            let index = replica.ledger().index();
            let member = MemberId(id);
            self.observe(&Observation::Crashed { member, index });
        }
        if let Actor::Byzantine(liar) = actor {
            self.counts.deviations += liar.deviations();
        }
    }

    /// Feeds one input to a member's program, if it is up.
    pub(crate) fn feed(&mut self, id: u16, input: Input) {
        let at = self.at;
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        let Some(actor) = &mut member.actor else {
            return;
        };
        let effects = actor.handle(&mut member.machine, at, input);
        self.carry_out(id, effects);
        self.arm(id);
    }

    pub(super) fn sync_ends(&mut self, id: u16, life: u64, batch: u64) {
        let at = self.at;
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        let (Some(actor), true) = (&mut member.actor, member.life == life) else {
            return;
        };
        let effects = actor.synced(&mut member.machine, at, batch);
        self.note("synced", [id.into(), batch, 0]);
        self.carry_out(id, effects);
        self.arm(id);
    }

    /// Schedules the next deadline of a member.
    pub(super) fn arm(&mut self, id: u16) {
        let at = self.at;
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        let deadline = member.actor.as_ref().and_then(Actor::next_deadline);
        let wake = deadline.map(|deadline| member.machine.clock.when(deadline).max(at));
        if wake == member.wake {
            return;
        }
        member.wake = wake;
        let life = member.life;
        if let Some(wake) = wake {
            self.schedule(wake, Happening::Wake { member: id, life });
        }
    }

    pub(super) fn wake(&mut self, id: u16, life: u64) {
        let at = self.at;
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        if member.life != life || member.wake != Some(at) {
            return;
        }
        member.wake = None;
        self.note("tick", [id.into(), 0, 0]);
        self.feed(id, Input::Tick);
        let Some(member) = self.members.get_mut(usize::from(id)) else {
            return;
        };
        member.spins = if member.wake == Some(at) {
            member.spins + 1
        } else {
            0
        };
        if member.spins > SPINS_MAX {
            self.violate(
                "bounded work",
                format!("m{id} asks to be woken in the past {SPINS_MAX} times in a row"),
            );
        }
    }
}
