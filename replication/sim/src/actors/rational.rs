//! Members that deviate where it saves them something.
//!
//! Owns a library of selfish strategies over the altruistic driver: each bends what reaches the real replica, what
//! leaves it, or the clock it reads, and nothing else. A rational member never signs two blocks for a round and never
//! forges: that would be proof against it for ever. It plays alone; those that play the same do not talk about it.
//!
//! Invariant: with no strategy a rational member is an altruistic one, message for message.

use super::altruistic::Driver;
use super::{Effect, Machine};
use crate::plan::Mutant;
use crate::rng::{MILLI, Rng, SECOND};
use barfs_replication::{BlockRef, Input, Issuer, MemberId, Message, Replica};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;

/// What a member does to have it cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selfish {
    /// Sends nothing, hears everything.
    Silent,
    /// Sends its blocks as late as it dares.
    Late,
    /// Sends its blocks so late that they are overdue.
    TooLate,
    /// Pushes each block to one member only and lets the others find it.
    PushNothing,
    /// Does not keep what is pushed to it, asks for it when it wants it, and pushes to one member only.
    PullEverything,
    /// Believes every signature.
    LazyVerifier,
    /// Executes nothing, so its blocks say nothing of the state.
    LazyExecutor,
    /// Sends blocks with its own commands only, and carries nobody else's.
    EmptyBlocks,
    /// Never names the blocks of one rival.
    OmitRival,
    /// Waits for nobody: its clock runs three times as fast.
    EarlyTimeout,
    /// Is away half of the time, while the others go on.
    LeaveAndRejoin,
    /// Answers no question but for its own blocks, which it wants ordered.
    ServeNobody,
}

impl Selfish {
    /// Every strategy, in a fixed order.
    pub const ALL: [Selfish; 12] = [
        Selfish::Silent,
        Selfish::Late,
        Selfish::TooLate,
        Selfish::PushNothing,
        Selfish::PullEverything,
        Selfish::LazyVerifier,
        Selfish::LazyExecutor,
        Selfish::EmptyBlocks,
        Selfish::OmitRival,
        Selfish::EarlyTimeout,
        Selfish::LeaveAndRejoin,
        Selfish::ServeNobody,
    ];

    /// Whether the others must be able to do without whoever plays it: of such there may be as many as may fail.
    pub fn is_a_burden(self) -> bool {
        !matches!(
            self,
            Selfish::LazyVerifier | Selfish::LazyExecutor | Selfish::EarlyTimeout
        )
    }

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Selfish::Silent => "silent",
            Selfish::Late => "late-but-not-too-late",
            Selfish::TooLate => "too-late",
            Selfish::PushNothing => "push-nothing",
            Selfish::PullEverything => "pull-everything",
            Selfish::LazyVerifier => "lazy-verifier",
            Selfish::LazyExecutor => "lazy-executor",
            Selfish::EmptyBlocks => "empty-blocks",
            Selfish::OmitRival => "omit-rivals-parents",
            Selfish::EarlyTimeout => "early-timeout",
            Selfish::LeaveAndRejoin => "leave-and-rejoin",
            Selfish::ServeNobody => "serve-nobody",
        }
    }
}

impl fmt::Display for Selfish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How late is not too late: well below the timeout of the others.
const LATE_MICROS: u64 = 120 * MILLI;
/// How late is overdue: longer than `late_after`.
const TOO_LATE_MICROS: u64 = 2_500 * MILLI;
/// How long one that leaves and rejoins is away, and then there.
const AWAY_MICROS: u64 = 2 * SECOND;

/// How often one that is away looks at its clock.
const LOOK_MICROS: u64 = 200 * MILLI;
/// How long one that pushes to one member only pushes to the same.
const FRIENDS_MICROS: u64 = 8 * SECOND;

/// One life of a rational member's process.
pub struct Rational {
    driver: Driver,
    selfish: Selfish,
    rng: Rng,
    members: u16,
    /// Blocks that go out late, by virtual time.
    late: VecDeque<(u64, MemberId, Message)>,
    was_away: bool,
    /// When one that is away looks whether it is time to be back, in micros of its own clock.
    looks_again: u64,
    /// What its own client handed in meanwhile: it goes into the queue when it is back.
    handed_in: Vec<Input>,
    /// Blocks that it did not take when they were pushed.
    left: BTreeSet<BlockRef>,
}

impl Rational {
    /// Starts a process on what the disk holds.
    pub fn start(
        machine: &Machine,
        at: u64,
        mutant: Option<Mutant>,
        selfish: Selfish,
        rng: Rng,
    ) -> anyhow::Result<Rational> {
        let mut driver = Driver::start(machine, at, mutant)?;
        // The replica goes on executing, for those who watch; nobody else learns of it.
        driver.doubt_state(selfish == Selfish::LazyExecutor);
        Ok(Rational {
            driver,
            selfish,
            rng,
            members: machine.group.genesis().ids().len() as u16,
            late: VecDeque::new(),
            was_away: false,
            looks_again: 0,
            handed_in: Vec::new(),
            left: BTreeSet::new(),
        })
    }

    /// The replica, to be read.
    pub fn replica(&self) -> &Replica {
        self.driver.replica()
    }

    /// Whether it skips the verification of signatures.
    pub fn is_lazy(&self) -> bool {
        self.selfish == Selfish::LazyVerifier
    }

    /// When it wants to be woken, in monotonic micros of its own clock.
    pub fn next_deadline(&self) -> Option<u64> {
        match self.was_away {
            true => Some(self.looks_again),
            false => self.driver.replica().next_deadline(),
        }
    }

    /// Feeds one input.
    pub fn handle(&mut self, machine: &mut Machine, at: u64, input: Input) -> Vec<Effect> {
        if self.selfish == Selfish::LeaveAndRejoin && (at / AWAY_MICROS) % 2 == 1 {
            self.was_away = true;
            self.looks_again = machine.clock.now(at).monotonic_micros + LOOK_MICROS;
            if matches!(input, Input::Submit { .. }) {
                self.handed_in.push(input);
            }
            return Vec::new();
        }
        let mut effects = Vec::new();
        while let Some((_, to, message)) = self.late.pop_front_if(|(due, ..)| *due <= at) {
            effects.push(Effect::Send { to, message });
        }
        if std::mem::take(&mut self.was_away) {
            let me = machine.id;
            for peer in (0..self.members).map(MemberId).filter(|peer| *peer != me) {
                let back = self
                    .driver
                    .handle(machine, at, Input::PeerConnected { peer });
                effects.extend(back);
            }
            for input in std::mem::take(&mut self.handed_in) {
                let followed = self.driver.handle(machine, at, input);
                self.speak(machine.id, at, followed, &mut effects);
            }
        }
        if let Some(input) = self.listen(machine.id, input) {
            let followed = self.driver.handle(machine, at, input);
            self.speak(machine.id, at, followed, &mut effects);
        }
        effects
    }

    /// The sync of a batch has ended.
    pub fn synced(&mut self, machine: &mut Machine, at: u64, batch: u64) -> Vec<Effect> {
        let followed = self.driver.synced(machine, at, batch);
        let mut effects = Vec::new();
        self.speak(machine.id, at, followed, &mut effects);
        effects
    }

    /// Whose command this is.
    fn payer(&self, issuer: Issuer) -> Option<MemberId> {
        match issuer {
            Issuer::Member(member) | Issuer::Recovery(member) => Some(member),
            Issuer::Device(key) => {
                let device = self.driver.replica().ledger().device(key);
                device.map(|(member, _)| member)
            }
        }
    }

    /// What of an input reaches the replica.
    fn listen(&mut self, me: MemberId, mut input: Input) -> Option<Input> {
        match (self.selfish, &mut input) {
            // Each is left lying once; what comes again was asked for, because others stand on it.
            (Selfish::OmitRival, Input::Blocks { blocks, .. }) => {
                let rival = MemberId((me.0 + 1) % self.members);
                blocks.retain(|block| {
                    block.reference().author != rival || !self.left.insert(block.reference())
                });
                (!blocks.is_empty()).then_some(input)
            }
            (Selfish::PullEverything, Input::Blocks { blocks, .. }) => {
                blocks.retain(|block| {
                    self.rng.per_mille(300) || !self.left.insert(block.reference())
                });
                (!blocks.is_empty()).then_some(input)
            }
            (Selfish::ServeNobody, Input::Want { refs, .. }) => {
                refs.retain(|wanted| wanted.author == me);
                (!refs.is_empty()).then_some(input)
            }
            (Selfish::ServeNobody, Input::WantFrom { .. }) => None,
            (Selfish::EmptyBlocks, Input::Submit { command, .. })
                if self.payer(command.issuer(me)) != Some(me) =>
            {
                None
            }
            _ => Some(input),
        }
    }

    /// The one member that it pushes to: another one by and by, as one may be gone for ever.
    fn friend(&self, me: MemberId, at: u64) -> MemberId {
        let others = u64::from(self.members).saturating_sub(1).max(1);
        let step = 1 + at / FRIENDS_MICROS % others;
        MemberId(((u64::from(me.0) + step) % u64::from(self.members)) as u16)
    }

    /// What of the effects happens, and when.
    fn speak(&mut self, me: MemberId, at: u64, followed: Vec<Effect>, effects: &mut Vec<Effect>) {
        let friend = self.friend(me, at);
        for effect in followed {
            let pushed = matches!(
                &effect,
                Effect::Send {
                    message: Message::Block(_),
                    ..
                }
            );
            match (self.selfish, effect) {
                (Selfish::Silent, Effect::Send { .. }) => {}
                (Selfish::Late | Selfish::TooLate, Effect::Send { to, message }) if pushed => {
                    let wait = match self.selfish {
                        Selfish::TooLate => TOO_LATE_MICROS,
                        _ => LATE_MICROS,
                    };
                    self.late.push_back((at + wait, to, message));
                }
                (Selfish::PushNothing | Selfish::PullEverything, Effect::Send { to, .. })
                    if pushed && to != friend => {}
                (_, effect) => effects.push(effect),
            }
        }
    }
}
