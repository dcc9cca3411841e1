//! How often this node was started, counted in its block log and in a file beside it, so that an older copy of the
//! store (a restored image, a second copy of the machine) is noticed before it signs a round a second time.

use std::path::{Path, PathBuf};

use barfs_replication::{StaleStore, Start};

use crate::blocklog::BlockLog;
use crate::datadir::replace_file;
use crate::exit::{During, Exit, Failure, Outcome};

/// The counter of one node.
#[derive(Clone, Debug)]
pub struct Incarnation {
    file: PathBuf,
    next: u64,
}

impl Incarnation {
    /// Compares both counters and says how the replica must be started.
    ///
    /// Where the store is whole the new number is durable on both sides when this returns.
    pub fn begin(file: PathBuf, log: &BlockLog) -> Outcome<(Self, Start)> {
        let outside = read(&file)?;
        let inside = log
            .incarnation()
            .during(Exit::BadDataDir, "cannot read the block log")?;
        let start = Start::judge(outside, inside)
            .map_err(|stale| Failure::new(Exit::BadDataDir, older(&stale)))?;
        let (Start::Fresh { next } | Start::Whole { next } | Start::Lost { next }) = start;
        let begun = Self { file, next };
        if !matches!(start, Start::Lost { .. }) {
            begun.finish(log)?;
        }
        Ok((begun, start))
    }

    /// Writes the new number on both sides: for a lost store only once it has recovered.
    pub fn finish(&self, log: &BlockLog) -> Outcome<()> {
        log.set_incarnation(self.next)
            .during(Exit::BadDataDir, "cannot write the block log")?;
        replace_file(&self.file, format!("{}\n", self.next).as_bytes(), 0o644).during(
            Exit::BadDataDir,
            format!("cannot write {}", self.file.display()),
        )
    }
}

fn older(stale: &StaleStore) -> String {
    format!(
        "this node's log is older than the one that ran last (start {} of {}): going on from it could sign a round twice; \
         put the newest log back, or remove `log` and `ledger.snapshot` from the data directory, and the node asks the \
         others where it stood",
        stale.inside, stale.outside
    )
}

fn read(file: &Path) -> Outcome<Option<u64>> {
    let doing = || format!("cannot read {}", file.display());
    match std::fs::read_to_string(file) {
        Ok(text) => {
            let number = text.trim().parse::<u64>();
            number.map(Some).map_err(|_| {
                let message = format!(
                    "{} should hold one number and does not: if it is damaged, remove it, and the node asks the others where it stood",
                    file.display()
                );
                Failure::new(Exit::BadDataDir, message)
            })
        }
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause).during(Exit::BadDataDir, doing()),
    }
}
