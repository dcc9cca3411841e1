//! Random graphs of more rounds than can be exhausted, judged without any reduction.
//!
//! Each graph draws how ragged it is: how often members are absent, for how long, and whose blocks the others leave out;
//! leaders first, because theirs are what the rule is about. Blocks are taken away one by one, always one that nobody
//! names and mostly an old one, and at each step what was decided may only shrink.

use crate::graph::{Group, Step, agree, block, sequence};
use barfs_replication_mutants::MemberId;
use barfs_replication_mutants::consensus::block::{BlockRef, VerifiedBlock};
use barfs_sim::rng::Rng;
use std::collections::HashSet;

/// What a graph showed.
#[derive(Debug, Default)]
pub struct Shown {
    pub removals: u64,
    pub commits: u64,
    pub skips: u64,
    pub twins_delivered: u64,
}

/// Draws a graph and takes it apart.
pub fn judge(seed: u64) -> Result<Shown, String> {
    let mut rng = Rng::new(seed);
    let members = if rng.per_mille(700) {
        rng.between(4, 5)
    } else {
        rng.between(6, 8)
    } as u16;
    let group = Group::new(members, rng.between(1, 3) as u8, None);
    let liars = rng.below(group.thresholds.r as u64 + 1) as u16;
    let first_liar = rng.below(u64::from(members)) as u16;
    let lies = |author: u16| (author + members - first_liar) % members < liars;
    let blocks = draw(&group, &mut rng, &lies);
    take_apart(&group, blocks, &mut rng).map_err(|what| format!("seed {seed}: {what}"))
}

/// How a graph is drawn.
struct Style {
    /// Per mille of the rounds of a member in which it begins to be absent.
    absent: u64,
    /// Per mille of the blocks by members that are hard to see that a block names all the same.
    seen: u64,
    /// Per mille of the rounds in which other members become hard to see.
    turns: u64,
    /// Per mille of the blocks that name older blocks which nobody names.
    late: u64,
}

fn draw(group: &Group, rng: &mut Rng, lies: &dyn Fn(u16) -> bool) -> Vec<VerifiedBlock> {
    let style = Style {
        absent: if rng.per_mille(300) {
            rng.below(300)
        } else {
            0
        },
        seen: rng.below(700),
        turns: rng.below(1_000),
        late: rng.below(400),
    };
    let mut blocks: Vec<VerifiedBlock> = Vec::new();
    let mut away = vec![0; usize::from(group.members())];
    let mut unseen = Vec::new();
    for round in 1..=rng.between(6, 10) {
        if round == 1 || rng.per_mille(style.turns) {
            unseen = hard_to_see(group, rng, round);
        }
        let mut fresh = Vec::new();
        for author in 0..group.members() {
            let place = usize::from(author);
            if away[place] == 0 && rng.per_mille(style.absent) {
                away[place] = rng.between(1, 5);
            }
            away[place] = u64::saturating_sub(away[place], 1);
            let gone = away.iter().filter(|rounds| **rounds > 0).count();
            if away[place] > 0 && gone <= group.thresholds.u {
                continue;
            }
            let twins = if lies(author) && rng.per_mille(600) {
                2
            } else {
                1
            };
            for twin in 0..twins {
                let parents = parents(group, rng, &blocks, (round, author), &unseen, &style);
                fresh.extend(parents.map(|parents| block(round, author, twin, parents)));
            }
        }
        blocks.extend(fresh);
    }
    blocks
}

/// As many members as may fail, the leader of the round before or of this one among them more often than not.
fn hard_to_see(group: &Group, rng: &mut Rng, round: u64) -> Vec<MemberId> {
    let mut members: Vec<MemberId> = (0..group.members()).map(MemberId).collect();
    rng.shuffle(&mut members);
    let leader = group.schedule.slots(round - rng.below(2)).next();
    let leader = leader.map(|slot| group.schedule.leader(slot));
    if rng.per_mille(600) {
        members.sort_by_key(|member| Some(*member) != leader);
    }
    members.truncate(group.thresholds.u);
    members
}

/// Valid parents, if there are enough blocks of the round before.
fn parents(
    group: &Group,
    rng: &mut Rng,
    blocks: &[VerifiedBlock],
    (round, author): (u64, u16),
    unseen: &[MemberId],
    style: &Style,
) -> Option<Vec<BlockRef>> {
    if round == 1 {
        return Some(Vec::new());
    }
    let mut all: Vec<BlockRef> = blocks.iter().map(VerifiedBlock::reference).collect();
    rng.shuffle(&mut all);
    let own = all.iter().filter(|block| block.author.0 == author);
    let own = own.max_by_key(|block| block.round).copied();
    let mut slots = HashSet::new();
    let mut before: Vec<BlockRef> = all
        .iter()
        .copied()
        .filter(|block| block.round + 1 == round && block.author.0 != author)
        .filter(|block| slots.insert(block.author))
        .collect();
    let own_counts = usize::from(own.is_some_and(|own| own.round + 1 == round));
    // The hard to see last; they are left out as far as the quorum allows.
    before.sort_by_key(|block| unseen.contains(&block.author));
    while before
        .last()
        .is_some_and(|last| unseen.contains(&last.author))
        && before.len() + own_counts > group.thresholds.quorum
        && !rng.per_mille(style.seen)
    {
        before.pop();
    }
    if before.len() + own_counts < group.thresholds.quorum {
        return None;
    }
    if rng.per_mille(style.late) {
        let tips = tips(blocks).into_iter();
        let late = tips.filter(|tip| tip.round + 1 < round && tip.author.0 != author);
        let mut slots = HashSet::new();
        before.extend(late.filter(|tip| slots.insert((tip.round, tip.author))));
    }
    Some(own.into_iter().chain(before).collect())
}

fn tips(blocks: &[VerifiedBlock]) -> Vec<BlockRef> {
    let parents = |block: &VerifiedBlock| block.block().parents.clone();
    let named: HashSet<BlockRef> = blocks.iter().flat_map(parents).collect();
    let all = blocks.iter().map(VerifiedBlock::reference);
    all.filter(|block| !named.contains(block)).collect()
}

fn take_apart(
    group: &Group,
    mut blocks: Vec<VerifiedBlock>,
    rng: &mut Rng,
) -> Result<Shown, String> {
    let whole = sequence(group, &blocks, true);
    let mut shown = Shown::default();
    for step in &whole {
        match step {
            Step::Skipped => shown.skips += 1,
            Step::Committed(_) => shown.commits += 1,
            Step::Delivered(_, first) => shown.twins_delivered += u64::from(!first),
        }
    }
    // What is left at the end is too little to decide anything.
    while blocks.len() > 3 * group.thresholds.n {
        let tips = tips(&blocks);
        let oldest = tips.iter().min().copied();
        let gone = match rng.per_mille(600) {
            true => oldest,
            false => rng.pick(&tips).copied(),
        };
        let gone = gone.ok_or("a graph has tips")?;
        blocks.retain(|block| block.reference() != gone);
        let rest = sequence(group, &blocks, false);
        shown.removals += 1;
        if !agree(&whole, &rest) || rest.len() > whole.len() {
            return Err(format!(
                "without {gone:?} and those before: {rest:?}, with all: {whole:?}"
            ));
        }
    }
    Ok(shown)
}
