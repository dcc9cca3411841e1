//! One replica that is shown blocks made by hand. It adds none of its own before it hears that they are durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use barfs_crypto::{Digest, derive_parts};
use barfs_replication::*;

use crate::world::{found, key, m};

pub struct Script {
    pub genesis: Arc<Genesis>,
    pub replica: Replica,
    pub outputs: Vec<Output>,
    /// Blocks speak of the state before the first command, not of an index that is none.
    pub nobody_executes: bool,
    now: Now,
    numbers: BTreeMap<MemberId, u64>,
    shown: Vec<VerifiedBlock>,
}

impl Script {
    /// A group of `n` seen by its last member.
    pub fn new(n: u16) -> Self {
        Self::with_params(n, Params::default())
    }

    pub fn with_params(n: u16, params: Params) -> Self {
        let genesis = found(n, params);
        let replica = Replica::new(
            Arc::clone(&genesis),
            m(n - 1),
            key(1, n - 1),
            Now::default(),
        );
        Self {
            genesis,
            replica,
            outputs: Vec::new(),
            nobody_executes: false,
            now: Now::default(),
            numbers: BTreeMap::new(),
            shown: Vec::new(),
        }
    }

    /// A block with a note, so that its delivery can be seen.
    pub fn block(&mut self, author: u16, round: u64, parents: &[&VerifiedBlock]) -> VerifiedBlock {
        let number = self.numbers.entry(m(author)).or_insert(0);
        *number += 1;
        let number = *number;
        let bytes = format!("{author} {round} {number}").into_bytes();
        self.block_with(
            author,
            round,
            parents,
            vec![BlockCommand::Own {
                number,
                command: Command::Note { bytes },
            }],
        )
    }

    pub fn block_with(
        &mut self,
        author: u16,
        round: u64,
        parents: &[&VerifiedBlock],
        commands: Vec<BlockCommand>,
    ) -> VerifiedBlock {
        let signed = self.unverified(author, round, parents, commands);
        VerifiedBlock::verify(&self.genesis, signed.bytes().clone()).unwrap()
    }

    /// Signed, with commands that nobody has checked.
    pub fn unverified(
        &mut self,
        author: u16,
        round: u64,
        parents: &[&VerifiedBlock],
        commands: Vec<BlockCommand>,
    ) -> VerifiedBlock {
        let author = m(author);
        let mut parents: Vec<BlockRef> = parents.iter().map(|block| block.reference()).collect();
        parents.sort_by_key(|p| (p.author != author, p.round + 1 != round, *p));
        let executed = match self.nobody_executes {
            true => nothing_executed(&self.genesis, author),
            false => Executed {
                index: u64::MAX,
                tag: Digest([0; 32]),
            },
        };
        let block = Block {
            group: self.genesis.group_id(),
            epoch: 0,
            round,
            author,
            parents,
            time_ms: self.genesis.created_ms + round * 100,
            executed,
            commands,
        };
        VerifiedBlock::sign(&self.genesis, &key(1, author.0), block).unwrap()
    }

    /// One block of each author, each with all of `parents`.
    pub fn round(
        &mut self,
        authors: &[u16],
        round: u64,
        parents: &[&VerifiedBlock],
    ) -> Vec<VerifiedBlock> {
        let parents = match round {
            1 => &[][..],
            _ => parents,
        };
        authors
            .iter()
            .map(|author| self.block(*author, round, parents))
            .collect()
    }

    /// What was shown of these authors in a round.
    pub fn last_of(&self, authors: &[u16], round: u64) -> Vec<VerifiedBlock> {
        let in_round = |block: &&VerifiedBlock| block.reference().round == round;
        let of = |block: &&VerifiedBlock| authors.contains(&block.reference().author.0);
        self.shown
            .iter()
            .filter(in_round)
            .filter(of)
            .cloned()
            .collect()
    }

    pub fn show(&mut self, blocks: &[VerifiedBlock]) {
        self.shown.extend_from_slice(blocks);
        let (from, blocks) = (m(0), blocks.to_vec());
        let shown = Input::Blocks { from, blocks };
        self.outputs.extend(self.replica.handle(self.now, shown));
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now.monotonic_micros += ms * 1000;
        self.outputs
            .extend(self.replica.handle(self.now, Input::Tick));
    }

    /// The disk has what it was given: the replica goes on with its own blocks. Drops what it wanted besides.
    pub fn confirm(&mut self) {
        let outputs = std::mem::take(&mut self.outputs);
        let written = outputs.into_iter().filter_map(|output| match output {
            Output::Persist { then, .. } => Some(then),
            _ => None,
        });
        for output in written.flatten() {
            if let Output::Confirm { token } = output {
                let outputs = self.replica.handle(self.now, Input::Persisted { token });
                self.outputs.extend(outputs);
            }
        }
    }

    /// The committed leaders so far.
    pub fn committed(&self) -> Vec<(u64, MemberId)> {
        self.events()
            .filter_map(|event| match event {
                Event::Committed { round, leader, .. } => Some((*round, *leader)),
                _ => None,
            })
            .collect()
    }

    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
    }
}

pub fn refs(blocks: &[VerifiedBlock]) -> Vec<&VerifiedBlock> {
    blocks.iter().collect()
}

/// What a correct member says before it has executed anything.
pub fn nothing_executed(genesis: &Arc<Genesis>, author: MemberId) -> Executed {
    let root = Ledger::new(Arc::clone(genesis)).root();
    let group = genesis.group_id();
    let (author, index) = (author.0.to_le_bytes(), 0_u64.to_le_bytes());
    let parts = [group.0.as_bytes(), &author[..], &index[..], root.as_bytes()];
    let tag = derive_parts("barfs 2026 executed tag v1", &parts);
    Executed { index: 0, tag }
}
