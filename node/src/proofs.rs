//! Proofs that a member lied, as files: with nothing but such a file anybody can check, offline, who signed what.
//!
//! A file holds the group as it was founded, the hand-overs to the committee that the liar sat in, and the evidence. A node
//! keeps one for each member and kind of lie that it met.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use barfs_replication::{Accused, Evidence, Genesis, Handover, Reason, verify_evidence};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::datadir::replace_file;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::Chain;

const MAGIC: &[u8] = b"barfs-evidence-1\n";
/// Longer files are not read: evidence has at most 6 MiB, a hand-over some kilobytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
const EXTENSION: &str = "evidence";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proof {
    /// The group as it was founded, encoded.
    pub genesis: Vec<u8>,
    /// From the founding on.
    pub handovers: Vec<Handover>,
    /// What the member signed.
    pub evidence: Evidence,
}

/// What a proof shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Who lied, and how.
    pub accused: Accused,
    /// The group under the roster that the liar sat in.
    pub roster: Arc<Genesis>,
}

impl Shown {
    /// The liar's name, for people.
    pub fn name(&self) -> String {
        let card = self.roster.member(self.accused.member);
        card.map_or_else(String::new, |card| card.name.clone())
    }
}

/// A kind of lie, for people.
pub fn lie(kind: u8) -> &'static str {
    match kind {
        1 => "signed two blocks for one round",
        2 => "signed a block that breaks the rules",
        3 => "signed two different states for one index",
        5 => "signed for a shard and then that it never had it",
        6 => "signed for a shard and then bytes that are not the shard's",
        _ => "lied in a way that this version does not know",
    }
}

impl Proof {
    /// Checks it against nothing but itself.
    pub fn verify(&self) -> Outcome<Shown> {
        let genesis = Genesis::decode(&self.genesis)
            .during(Exit::Damaged, "the group in the evidence is not one")?;
        let mut roster = Arc::new(genesis);
        let mut why = Reason::Malformed;
        for handover in self.handovers.iter().map(Some).chain([None]) {
            match verify_evidence(&self.evidence, &roster) {
                Ok(accused) => return Ok(Shown { accused, roster }),
                Err(reason) => why = reason,
            }
            if let Some(handover) = handover {
                let next = handover.follow(&roster);
                roster =
                    Arc::new(next.during(Exit::Damaged, "a hand-over in the evidence is wrong")?);
            }
        }
        Err(Failure::new(
            Exit::Mismatch,
            format!("this proves nothing: {why}"),
        ))
    }

    /// Reads a proof from a file; not yet verified.
    pub fn read(path: &Path) -> Outcome<Self> {
        let doing = || format!("cannot read {}", path.display());
        let meta = std::fs::metadata(path).during(Exit::NotFound, doing())?;
        let not_one = || {
            Failure::new(
                Exit::Damaged,
                format!("{} is not a file of evidence", path.display()),
            )
        };
        if meta.len() > FILE_BYTES_MAX {
            return Err(not_one());
        }
        let bytes = std::fs::read(path).during(Exit::NotFound, doing())?;
        let body = bytes.strip_prefix(MAGIC).ok_or_else(not_one)?;
        borsh::from_slice(body).map_err(|_| not_one())
    }

    /// The bytes of its file.
    pub fn encode(&self) -> Outcome<Vec<u8>> {
        let mut bytes = MAGIC.to_vec();
        borsh::to_writer(&mut bytes, self).during(Exit::Failed, "cannot encode a proof")?;
        Ok(bytes)
    }
}

/// The proofs that a node keeps.
#[derive(Clone, Debug)]
pub struct Proofs {
    dir: PathBuf,
}

/// What the files of a node's proofs hold.
#[derive(Debug, Default)]
pub struct Kept {
    /// Proofs that prove something, in order of member and kind.
    pub proofs: Vec<(Proof, Shown)>,
    /// Files that cannot be read or prove nothing, each with why.
    pub damaged: Vec<(PathBuf, Failure)>,
}

impl Proofs {
    /// Those in `dir`, which need not exist yet.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Keeps evidence, unless there is a proof of the same kind against the same member. True if it is new. A file that
    /// proves nothing any more is replaced.
    pub fn keep(&self, evidence: &Evidence, chain: &Chain) -> Outcome<bool> {
        let proof = Proof {
            genesis: chain.founding().encode(),
            handovers: chain.handovers().to_vec(),
            evidence: evidence.clone(),
        };
        let Accused { member, kind } = proof.verify()?.accused;
        let path = self.dir.join(format!("{member}-{kind}.{EXTENSION}"));
        if Proof::read(&path).is_ok_and(|kept| kept.verify().is_ok()) {
            return Ok(false);
        }
        std::fs::create_dir_all(&self.dir).during(
            Exit::Failed,
            format!("cannot create {}", self.dir.display()),
        )?;
        let doing = || format!("cannot write {}", path.display());
        replace_file(&path, &proof.encode()?, 0o644).during(Exit::Failed, doing())?;
        Ok(true)
    }

    /// Every proof, and every file that is none.
    pub fn all(&self) -> Outcome<Kept> {
        let doing = || format!("cannot read {}", self.dir.display());
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Kept::default());
            }
            Err(cause) => return Err(cause).during(Exit::Failed, doing()),
        };
        let mut kept = Kept::default();
        for entry in entries {
            let path = entry.during(Exit::Failed, doing())?.path();
            if path.extension().is_none_or(|it| it != EXTENSION) {
                continue;
            }
            let read = Proof::read(&path).and_then(|proof| Ok((proof.verify()?, proof)));
            match read {
                Ok((shown, proof)) => kept.proofs.push((proof, shown)),
                Err(why) => kept.damaged.push((path, why)),
            }
        }
        let order = |(_, shown): &(Proof, Shown)| (shown.accused.member, shown.accused.kind);
        kept.proofs.sort_by_key(order);
        kept.damaged.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(kept)
    }
}
