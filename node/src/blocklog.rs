//! The durable log of blocks: RocksDB, one key per block, in order of round, author and digest; and, in a column of
//! their own, the few numbers that outlive it.

use std::path::Path;
use std::sync::Arc;

use barfs_replication::{BlockError, BlockRef, Genesis, MemberId, Record, VerifiedBlock};
use rocksdb::{ColumnFamily, DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use thiserror::Error;

/// At most so many bytes of blocks go into one answer to a member that catches up.
pub const SERVE_BYTES_MAX: usize = 4 << 20;

/// The column of the numbers.
const NUMBERS: &str = "numbers";
const OWN_ROUND: &[u8] = b"own round";
const INCARNATION: &[u8] = b"incarnation";
const SIGNED: &[u8] = b"signed number";

/// Why the log failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The database failed.
    #[error("the block log failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// A stored block cannot be read back.
    #[error("the block log is damaged at round {round}: {cause}")]
    Damaged {
        /// Where.
        round: u64,
        /// How.
        cause: String,
    },
    /// One of the numbers cannot be read back.
    #[error("the numbers of the block log are damaged: {0}")]
    Number(String),
    /// The snapshot beside the log cannot be written.
    #[error("the snapshot of the ledger cannot be written: {0}")]
    Snapshot(String),
}

/// See the module.
pub struct BlockLog {
    db: DB,
    durable: WriteOptions,
}

fn key(reference: &BlockRef) -> [u8; 42] {
    let mut bytes = [0u8; 42];
    bytes[..8].copy_from_slice(&reference.round.to_be_bytes());
    bytes[8..10].copy_from_slice(&reference.author.0.to_be_bytes());
    bytes[10..].copy_from_slice(&reference.digest.0);
    bytes
}

impl BlockLog {
    /// Opens the log in `path`, creating it if it is not there.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(16 << 20);
        options.set_max_open_files(128);
        options.set_keep_log_file_num(2);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.create_missing_column_families(true);
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        Ok(Self {
            db: DB::open_cf(
                &options,
                path,
                [rocksdb::DEFAULT_COLUMN_FAMILY_NAME, NUMBERS],
            )?,
            durable,
        })
    }

    fn numbers(&self) -> Result<&ColumnFamily, LogError> {
        self.db
            .cf_handle(NUMBERS)
            .ok_or_else(|| LogError::Number("their column is missing".into()))
    }

    fn number(&self, name: &[u8]) -> Result<Option<u64>, LogError> {
        let Some(bytes) = self.db.get_cf(self.numbers()?, name)? else {
            return Ok(None);
        };
        let bytes = bytes.try_into();
        let bytes = bytes.map_err(|_| LogError::Number("one has not eight bytes".into()))?;
        Ok(Some(u64::from_be_bytes(bytes)))
    }

    /// The incarnation that wrote last, `None` in a new log.
    pub fn incarnation(&self) -> Result<Option<u64>, LogError> {
        self.number(INCARNATION)
    }

    /// Keeps the incarnation; durable when it returns.
    pub fn set_incarnation(&self, number: u64) -> Result<(), LogError> {
        let column = self.numbers()?;
        let (name, number) = (INCARNATION, number.to_be_bytes());
        Ok(self.db.put_cf_opt(column, name, number, &self.durable)?)
    }

    /// The highest number under which a command of this member was signed to be carried by others, `None` in a new log.
    pub fn signed_number(&self) -> Result<Option<u64>, LogError> {
        self.number(SIGNED)
    }

    /// Keeps that number; durable when it returns.
    pub fn set_signed_number(&self, number: u64) -> Result<(), LogError> {
        let (column, number) = (self.numbers()?, number.to_be_bytes());
        Ok(self.db.put_cf_opt(column, SIGNED, number, &self.durable)?)
    }

    /// Makes this log count as lost at the next [`Self::incarnation`]; durable when it returns.
    pub fn forget_incarnation(&self) -> Result<(), LogError> {
        let column = self.numbers()?;
        Ok(self.db.delete_cf_opt(column, INCARNATION, &self.durable)?)
    }

    /// Forgets every block below a round. Not synced: a block that comes back after a crash does no harm.
    pub fn prune(&self, below_round: u64) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        batch.delete_range(first_key(0), first_key(below_round));
        Ok(self.db.write(batch)?)
    }

    /// Makes records durable, all of them or none.
    pub fn append(&self, records: &[Record]) -> Result<(), LogError> {
        // Reserved at once: a batch that grows is copied and paged in again each time it doubles.
        let mut batch = WriteBatch::with_capacity_bytes(batch_bytes(records));
        for record in records {
            match record {
                Record::Block(block) => batch.put(key(&block.reference()), &block.bytes()[..]),
                Record::OwnRound { round } => {
                    let highest = (*round).max(self.number(OWN_ROUND)?.unwrap_or(0));
                    batch.put_cf(self.numbers()?, OWN_ROUND, highest.to_be_bytes());
                }
                // Kept in a file of its own, in the background.
                Record::Snapshot(_) => {}
            }
        }
        Ok(self.db.write_opt(batch, &self.durable)?)
    }

    /// Every record, one after the other: the own round, if one was kept, then blocks in order of round. The whole log may be
    /// larger than memory.
    pub fn replay<'a>(
        &'a self,
        genesis: &'a Arc<Genesis>,
    ) -> Result<impl Iterator<Item = Result<Record, LogError>> + 'a, LogError> {
        let own_round = self.number(OWN_ROUND)?;
        let own_round = own_round.map(|round| Ok(Record::OwnRound { round }));
        let block = |entry: Result<_, rocksdb::Error>| {
            let (key, value): (Box<[u8]>, Box<[u8]>) = entry?;
            let damaged = |cause: BlockError| LogError::Damaged {
                round: round_of(&key),
                cause: cause.to_string(),
            };
            let block = VerifiedBlock::from_own_log(genesis, &value[..]).map_err(damaged)?;
            Ok(Record::Block(block))
        };
        let blocks = self.db.iterator(IteratorMode::Start).map(block);
        Ok(own_round.into_iter().chain(blocks))
    }

    /// The blocks named, those that are here.
    pub fn get(&self, references: &[BlockRef]) -> Result<Vec<Vec<u8>>, LogError> {
        let mut blocks = Vec::new();
        let mut bytes = 0;
        for reference in references {
            if let Some(block) = self.db.get(key(reference))? {
                bytes += block.len();
                blocks.push(block);
            }
            if bytes > SERVE_BYTES_MAX {
                break;
            }
        }
        Ok(blocks)
    }

    /// Blocks from `round` on, up to [`SERVE_BYTES_MAX`], but at least every block of the first round that has any.
    pub fn from_round(&self, round: u64) -> Result<Vec<Vec<u8>>, LogError> {
        let start = first_key(round);
        let (mut blocks, mut bytes, mut last) = (Vec::new(), 0, None);
        for entry in self
            .db
            .iterator(IteratorMode::From(&start, Direction::Forward))
        {
            let (key, value) = entry?;
            let round = round_of(&key);
            if bytes > SERVE_BYTES_MAX && last != Some(round) {
                break;
            }
            last = Some(round);
            bytes += value.len();
            blocks.push(value.into_vec());
        }
        Ok(blocks)
    }
}

/// Room for these records in a batch.
fn batch_bytes(records: &[Record]) -> usize {
    const HEADER: usize = 12;
    // The key, the tag of the entry, and two lengths.
    const ENTRY: usize = 42 + 1 + 2 * 5;
    let entries = records.iter().map(|record| match record {
        Record::Block(block) => ENTRY + block.bytes().len(),
        Record::OwnRound { .. } => 2 * ENTRY,
        Record::Snapshot(_) => 0,
    });
    HEADER + entries.sum::<usize>()
}

/// Before every key of a round.
fn first_key(round: u64) -> [u8; 42] {
    key(&BlockRef {
        round,
        author: MemberId(0),
        digest: barfs_crypto::Digest([0; 32]),
    })
}

fn round_of(key: &[u8]) -> u64 {
    key.first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
