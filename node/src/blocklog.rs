//! The durable log of blocks: RocksDB, one key per block, in order of round, author and digest.

use std::path::Path;
use std::sync::Arc;

use barfs_replication::{BlockRef, Genesis, MemberId, Record, VerifiedBlock};
use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use thiserror::Error;

/// At most so many bytes of blocks go into one answer to a member that catches up.
pub const SERVE_BYTES_MAX: usize = 4 << 20;

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
        let mut durable = WriteOptions::default();
        durable.set_sync(true);
        Ok(Self {
            db: DB::open(&options, path)?,
            durable,
        })
    }

    /// Makes records durable, all of them or none.
    pub fn append(&self, records: &[Record]) -> Result<(), LogError> {
        let mut batch = WriteBatch::default();
        for record in records {
            let Record::Block(block) = record else {
                continue;
            };
            batch.put(key(&block.reference()), &block.bytes()[..]);
        }
        Ok(self.db.write_opt(batch, &self.durable)?)
    }

    /// Every record, in order of round.
    pub fn replay(&self, genesis: &Arc<Genesis>) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        for entry in self.db.iterator(IteratorMode::Start) {
            let (key, value) = entry?;
            let round = round_of(&key);
            let block = VerifiedBlock::from_own_log(genesis, &value[..]).map_err(|cause| {
                LogError::Damaged {
                    round,
                    cause: cause.to_string(),
                }
            })?;
            records.push(Record::Block(block));
        }
        Ok(records)
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
        let start = key(&BlockRef {
            round,
            author: MemberId(0),
            digest: barfs_crypto::Digest([0; 32]),
        });
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

fn round_of(key: &[u8]) -> u64 {
    key.first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
