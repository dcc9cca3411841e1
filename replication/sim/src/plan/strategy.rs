//! The names of what liars do.

/// How a Byzantine member deviates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Signs a twin of each of its blocks and sends one to some peers, the other to the rest.
    Twins,
    /// Writes two chains and shows one to some peers, the other to the rest; liars of this kind act in concert.
    TwoFaced,
    /// Sends each block to a few peers only: drawn anew each time, or always the same.
    Withhold,
    /// Sends each block late, by up to a few seconds.
    Late,
    /// Hides blocks of some members from itself, so that it votes against them.
    Deaf,
    /// Sends altered bytes, endless wants, old blocks and blocks of rounds far ahead.
    Noise,
    /// Makes blocks by hand: leaves out parents, claims false state tags and times, signs twins.
    Forger,
    /// As [`Strategy::Noise`], at everything it hears and many times over.
    Flood,
    /// Hands out forged certificates, votes, snapshots and hand-overs, and genuine ones that are out of date; reveals what
    /// is no share of a beacon.
    Counterfeit,
    /// Writes many chains at once, each block of which stands on a twin of another liar's, and shows each peer but one.
    Chains,
    /// Follows the order and attacks the membership: invites guests of its own, votes for all liars' guests and against
    /// everybody else, changes its keys, leaves.
    Infiltrator,
}

impl Strategy {
    /// Every strategy, in a fixed order: those of ordering first.
    pub const ALL: [Strategy; 11] = [
        Strategy::Twins,
        Strategy::TwoFaced,
        Strategy::Withhold,
        Strategy::Late,
        Strategy::Deaf,
        Strategy::Noise,
        Strategy::Forger,
        Strategy::Flood,
        Strategy::Counterfeit,
        Strategy::Chains,
        Strategy::Infiltrator,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Twins => "twins",
            Strategy::TwoFaced => "two-faced",
            Strategy::Withhold => "withhold",
            Strategy::Late => "late",
            Strategy::Deaf => "deaf",
            Strategy::Noise => "noise",
            Strategy::Forger => "forger",
            Strategy::Flood => "flood",
            Strategy::Counterfeit => "counterfeit",
            Strategy::Chains => "chains",
            Strategy::Infiltrator => "infiltrator",
        }
    }

    /// The strategy called `name`.
    pub fn named(name: &str) -> Option<Strategy> {
        let mut all = Strategy::ALL.into_iter();
        all.find(|strategy| strategy.name() == name)
    }
}
