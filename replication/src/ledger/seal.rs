//! The digest of the state, frozen copies of it, and a state put together from one.
//!
//! Two digests: the *root* is taken when commands were executed, so there is one for each index, and tags speak of it;
//! a checkpoint covers the state as it stands at its commit, the newest root included. Both cover the tables, the
//! clocks, and the history: everything executed and what came of it.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;

use barfs_crypto::{Digest, derive_parts};
use borsh::{BorshDeserialize, BorshSerialize};

use super::outcome::Outcome;
use super::pack::PackRecord;
use super::pages::page_of;
use super::rows::{ROW_BYTES_MAX, RowKey, Tables};
use super::seats::genesis_of;
use super::state::{Account, Ledger, PackState};
use super::tree::{self, StateTree};
use crate::membership::Genesis;
use crate::time::{LiveTime, WallTime};
use crate::wire::{self, WireError};

const GENESIS_HISTORY_DOMAIN: &str = "barfs 2026 ledger genesis v2";
const STEP_DOMAIN: &str = "barfs 2026 ledger step v1";
const STATE_DOMAIN: &str = "barfs 2026 ledger state v1";
/// The most rows of one bucket.
const BUCKET_ROWS_MAX: usize = 1 << 20;

/// What of the state is not in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Stand {
    /// Commands executed.
    pub(crate) index: u64,
    /// The round of the newest committed leader that was executed.
    pub(crate) round: u64,
    pub(crate) live: LiveTime,
    pub(crate) wall: WallTime,
    pub(crate) history: Digest,
    /// The newest root.
    pub(crate) root: Digest,
}

impl Stand {
    /// The digest of a state with tables under this tree root.
    pub(crate) fn digest(&self, tables: &Digest) -> Digest {
        derive_parts(STATE_DOMAIN, &[&wire::encode(self), tables.as_bytes()])
    }
}

/// One row on its way.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct RowBytes {
    key: RowKey,
    #[borsh(deserialize_with = "wire::bytes::<_, ROW_BYTES_MAX>")]
    bytes: Vec<u8>,
}

/// The state at one moment: cheap to take, shares all rows with the ledger until they change.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub(crate) stand: Stand,
    tables: Tables,
    tree: StateTree,
}

impl Frozen {
    /// A state without rows, to be filled bucket by bucket.
    pub(crate) fn empty(stand: Stand) -> Self {
        Self {
            stand,
            tables: Tables::default(),
            tree: StateTree::default(),
        }
    }

    /// The digests of the buckets.
    pub(crate) fn leaves(&self) -> Arc<Vec<Digest>> {
        self.tree.leaves()
    }

    /// About how long its encoding is.
    pub(crate) fn bytes(&self) -> u64 {
        self.tree.bytes()
    }

    /// The digest of clocks, history and tables.
    pub(crate) fn digest(&mut self) -> Digest {
        let root = self.tree.root();
        self.stand.digest(&root)
    }

    /// A bucket's rows as bytes.
    pub(crate) fn bucket(&self, index: usize) -> Vec<u8> {
        let rows: Vec<RowBytes> = self
            .tree
            .rows(index)
            .filter_map(|key| {
                let bytes = self.tables.encode(&key)?;
                Some(RowBytes { key, bytes })
            })
            .collect();
        wire::encode(&rows)
    }

    /// Replaces a bucket by foreign bytes, if they are what `expected` says.
    pub(crate) fn put_bucket(
        &mut self,
        index: usize,
        bytes: &[u8],
        expected: &Digest,
    ) -> Result<(), WireError> {
        let mut reader = bytes;
        let rows: Vec<RowBytes> =
            wire::list::<_, _, BUCKET_ROWS_MAX>(&mut reader).map_err(|_| WireError::Malformed)?;
        let rising = rows
            .iter()
            .zip(rows.iter().skip(1))
            .all(|(a, b)| a.key < b.key);
        let here = rows.iter().all(|row| tree::bucket_of(&row.key) == index);
        let digest = tree::bucket_digest(rows.iter().map(|row| (&row.key, &row.bytes[..])));
        if !(reader.is_empty() && rising && here && digest == *expected) {
            return Err(WireError::Malformed);
        }
        self.clear_bucket(index);
        for row in rows {
            self.tables.put(row.key, &row.bytes)?;
            self.tree.set(row.key, Some(&row.bytes));
        }
        self.tables.take_changed();
        Ok(())
    }

    fn clear_bucket(&mut self, index: usize) {
        let gone: Vec<RowKey> = self.tree.rows(index).collect();
        for key in gone {
            self.tables.remove(&key);
            self.tree.set(key, None);
        }
    }
}

impl Ledger {
    /// The state before the first command.
    #[must_use]
    pub fn new(genesis: Arc<Genesis>) -> Self {
        let mut tables = Tables::default();
        for (member, card) in genesis.cards() {
            let account = Account {
                pledge: card.pledge,
                ..Account::default()
            };
            tables.accounts.insert(member, account);
        }
        let group = genesis.group_id();
        let stand = Stand {
            index: 0,
            round: 0,
            live: LiveTime(0),
            wall: WallTime(genesis.created_ms),
            history: derive_parts(GENESIS_HISTORY_DOMAIN, &[group.0.as_bytes()]),
            root: Digest([0; 32]),
        };
        let mut ledger = Self::with(
            Arc::clone(&genesis),
            Frozen {
                stand,
                tables,
                tree: StateTree::default(),
            },
        );
        ledger.seat_founders(&genesis);
        ledger.seal();
        ledger
    }

    /// The ledger that was frozen, of the group with this genesis.
    pub(crate) fn thawed(founding: &Arc<Genesis>, frozen: Frozen) -> Self {
        let mut ledger = Self::with(Arc::clone(founding), frozen);
        ledger.genesis = genesis_of(founding, &ledger.roster());
        ledger
    }

    fn with(genesis: Arc<Genesis>, frozen: Frozen) -> Self {
        let Stand {
            index,
            round,
            live,
            wall,
            history,
            root,
        } = frozen.stand;
        let mut ledger = Self {
            genesis,
            tables: frozen.tables,
            tree: frozen.tree,
            held: BTreeMap::new(),
            releasing: BTreeSet::new(),
            departing: BTreeSet::new(),
            live,
            wall,
            index,
            round,
            due: BTreeSet::new(),
            history,
            root,
            events: VecDeque::new(),
        };
        ledger.index_packs();
        ledger.index_questions();
        ledger.index_departures();
        ledger
    }

    /// Finds again what follows from the packs on record.
    fn index_packs(&mut self) {
        let mut held: BTreeMap<_, BTreeMap<_, u16>> = BTreeMap::new();
        for (page, content) in self.tables.packs.iter() {
            for entry in content.entries() {
                for holder in entry.record.holders.iter().flatten() {
                    *held.entry(*holder).or_default().entry(*page).or_insert(0) += 1;
                }
                if let PackState::Releasing { until, .. } = entry.state {
                    let (volume, number) = (entry.record.volume, entry.record.number);
                    self.releasing.insert((until, volume, number));
                }
            }
        }
        self.held = held;
    }

    pub(super) fn note_holders(&mut self, record: &PackRecord) {
        let page = page_of(record.volume, record.number);
        for holder in record.holders.iter().flatten() {
            *self
                .held
                .entry(*holder)
                .or_default()
                .entry(page)
                .or_insert(0) += 1;
        }
    }

    pub(super) fn forget_holders(&mut self, record: &PackRecord) {
        let page = page_of(record.volume, record.number);
        for holder in record.holders.iter().flatten() {
            if let Some(pages) = self.held.get_mut(holder)
                && let Some(count) = pages.get_mut(&page)
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    pages.remove(&page);
                }
                if pages.is_empty() {
                    self.held.remove(holder);
                }
            }
        }
    }

    fn stand(&self) -> Stand {
        Stand {
            index: self.index,
            round: self.round,
            live: self.live,
            wall: self.wall,
            history: self.history,
            root: self.root,
        }
    }

    /// Folds a block's commands (by its digest) and the encoding of their outcomes into the history.
    pub(crate) fn fold(&mut self, block: &Digest, outcomes: &[u8]) {
        self.history = derive_parts(
            STEP_DOMAIN,
            &[self.history.as_bytes(), block.as_bytes(), outcomes],
        );
    }

    /// Encodes an outcome for [`fold`](Self::fold).
    pub(crate) fn append_outcome(bytes: &mut Vec<u8>, outcome: &Outcome) {
        wire::append(bytes, outcome);
    }

    /// Takes the root of the state as it is.
    pub(crate) fn seal(&mut self) {
        self.root = self.digest();
    }

    /// The digest of the state as it is.
    pub(crate) fn digest(&mut self) -> Digest {
        for key in self.tables.take_changed() {
            let bytes = self.tables.encode(&key);
            self.tree.set(key, bytes.as_deref());
        }
        let tables = self.tree.root();
        self.stand().digest(&tables)
    }

    /// The state as it is, with its digest.
    pub(crate) fn freeze(&mut self) -> (Frozen, Digest) {
        let digest = self.digest();
        let frozen = Frozen {
            stand: self.stand(),
            tables: self.tables.clone(),
            tree: self.tree.clone(),
        };
        (frozen, digest)
    }
}
