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
    /// Hands out forged certificates, votes, snapshots and hand-overs, and reveals what is no share of a beacon.
    Counterfeit,
}

impl Strategy {
    /// Every strategy, in a fixed order: those of ordering first.
    pub const ALL: [Strategy; 9] = [
        Strategy::Twins,
        Strategy::TwoFaced,
        Strategy::Withhold,
        Strategy::Late,
        Strategy::Deaf,
        Strategy::Noise,
        Strategy::Forger,
        Strategy::Flood,
        Strategy::Counterfeit,
    ];
}
