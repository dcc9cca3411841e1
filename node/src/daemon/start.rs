//! How the replica comes back: from its newest snapshot and the log behind it, or, where those are gone or damaged, by
//! asking the others, so that it never signs a round twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use barfs_crypto::SigningKey;
use barfs_replication::{Genesis, MemberId, Record, Replica, Snapshot, SnapshotError, Start};

use crate::blocklog::BlockLog;
use crate::config::NodeConfig;
use crate::datadir::DataDir;
use crate::driver::now;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::incarnation::Incarnation;
use crate::statefile;

/// Who the replica is.
pub(super) struct Identity {
    pub(super) genesis: Arc<Genesis>,
    pub(super) me: MemberId,
    pub(super) key: SigningKey,
}

/// A replica that is ready to run.
pub(super) struct Restored {
    pub(super) replica: Replica,
    /// To be finished once a lost store has recovered.
    pub(super) incarnation: Option<Incarnation>,
}

/// Brings the replica back from what is in `dir`. Its monotonic clock began at `started`.
pub(super) fn restore(
    identity: &Identity,
    dir: &DataDir,
    config: &NodeConfig,
    log: &BlockLog,
    started: Instant,
) -> Outcome<Restored> {
    let snapshot_path = dir.snapshot_path();
    let snapshot = match load_snapshot(&identity.genesis, &snapshot_path)? {
        Loaded::Whole(snapshot) => Some(snapshot),
        Loaded::Absent => None,
        Loaded::Damaged => {
            // What the file held is gone: the store counts as lost, and what is left of it helps to recover.
            log.forget_incarnation()
                .during(Exit::BadDataDir, "cannot write the block log")?;
            None
        }
    };
    let counter: PathBuf = match &config.incarnation_file {
        Some(file) => file.clone(),
        None => dir.incarnation_path(),
    };
    let (incarnation, start) = Incarnation::begin(counter, log)?;
    let unreadable = "cannot read the block log";
    let logged = log
        .replay(&identity.genesis)
        .during(Exit::Damaged, unreadable)?;
    let (mut count, mut failed) = (0_u64, None);
    let logged = logged.map_while(|record| {
        count += 1;
        record.map_err(|cause| failed = Some(cause)).ok()
    });
    let records = snapshot.map(Record::Snapshot).into_iter().chain(logged);
    let (genesis, me, key) = (
        Arc::clone(&identity.genesis),
        identity.me,
        identity.key.clone(),
    );
    let lost = matches!(start, Start::Lost { .. });
    let mut replica = if lost {
        tracing::warn!(
            "this node's log is lost or was never finished: it asks the others where it stood before it says anything"
        );
        let nonce = crate::profile::random()?;
        Replica::recover(genesis, me, key, records, nonce, now(started))
    } else {
        Replica::restore(genesis, me, key, records, now(started))
    };
    failed
        .map_or(Ok(()), Err)
        .during(Exit::Damaged, unreadable)?;
    replica.keep_log_bytes(config.log_bytes);
    tracing::info!(
        records = count,
        index = replica.ledger().index(),
        "replayed the log"
    );
    Ok(Restored {
        replica,
        incarnation: lost.then_some(incarnation),
    })
}

enum Loaded {
    Whole(Snapshot),
    Absent,
    Damaged,
}

fn load_snapshot(genesis: &Genesis, path: &Path) -> Outcome<Loaded> {
    let doing = || format!("cannot read {}", path.display());
    let Some(parts) = statefile::read(path).during(Exit::BadDataDir, doing())? else {
        return Ok(Loaded::Absent);
    };
    match Snapshot::load(genesis, parts) {
        Ok(snapshot) => Ok(Loaded::Whole(snapshot)),
        Err(cause @ SnapshotError::Version(_)) => {
            let message = format!(
                "{} was written by another version of barfs ({cause}): run that version, or move the file away and start again, and the node asks the others for the ledger",
                path.display()
            );
            Err(Failure::new(Exit::BadDataDir, message))
        }
        Err(cause) => {
            let aside = path.with_extension("damaged");
            tracing::error!(%cause, kept_as = %aside.display(), "the snapshot of the ledger is damaged");
            std::fs::rename(path, &aside).during(Exit::BadDataDir, doing())?;
            Ok(Loaded::Damaged)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use barfs_replication::{MemberCard, Params};

    use super::*;

    #[test]
    fn a_snapshot_of_another_version_is_left_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.snapshot");
        let key = |seed| SigningKey::from_seed([seed; 32]);
        let card = MemberCard::sign(&key(1), key(2).id(), "a", "a:1", 1 << 30, "").unwrap();
        let genesis = Genesis::new("one", 0, vec![card], Params::default(), [0; 16]).unwrap();
        // An earlier one began with how many hand-overs there were.
        let part = [0_u32, 7, 7, 7].map(u32::to_le_bytes).concat();
        statefile::write(&path, std::iter::once(part.clone())).unwrap();
        let Err(failure) = load_snapshot(&genesis, &path) else {
            panic!("it was taken");
        };
        assert_eq!(failure.exit, Exit::BadDataDir);
        let told = failure.to_string();
        assert!(told.contains("written by another version"), "{told}");
        let mut kept = statefile::read(&path).unwrap().unwrap();
        assert_eq!(kept.next(), Some(part));
    }
}
