//! The data directory of a node: its key, its card, its group, its databases, its lock and its control socket.
//!
//! ```text
//! node.toml      settings                        member.key   the member key and others, see `nodekeys`
//! member.card    what the group's creator needs  group        the genesis, once adopted
//! seat           the member number, if it is     handovers    who sat after the founders, if it joined
//!                not in the founding roster
//! log/           blocks (RocksDB)                shards/      other members' shards (RocksDB)
//! evidence/      proofs that members lied        lock         held while a node runs
//! control.sock
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use barfs_crypto::{NodeId, SigningKey};
use barfs_replication::{Genesis, GenesisError, MemberCard, MemberId};

use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::Chain;
use crate::nodekeys::{KEY_FILE, NodeKeys, text_of};

const CARD_FILE: &str = "member.card";
const GROUP_FILE: &str = "group";
const SEAT_FILE: &str = "seat";
const HANDOVERS_FILE: &str = "handovers";
const LOCK_FILE: &str = "lock";
const CARD_PREFIX: &str = "barfs-card-1:";

/// A node's data directory that exists and has a key.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// Held by the one process that uses a data directory.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "holding the file holds the lock")] File);

/// Writes a file that must not exist yet, durably, with these permissions.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Outcome<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .during(
            Exit::BadDataDir,
            format!("cannot create {}", path.display()),
        )?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .during(Exit::BadDataDir, format!("cannot write {}", path.display()))
}

/// Writes a file with these permissions in place of what is there, durably: a crash leaves the one or the other, whole.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    // What an earlier crash left there may have had others.
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// A card as the text that people send each other.
pub fn card_text(card: &MemberCard) -> Outcome<String> {
    let bytes = borsh::to_vec(card).during(Exit::Failed, "cannot encode the card")?;
    Ok(format!("{CARD_PREFIX}{}\n", hex::encode(bytes)))
}

/// Reads a card from its text and checks its signature.
pub fn parse_card(text: &str) -> Outcome<MemberCard> {
    let bad =
        |cause: String| Failure::new(Exit::Usage, format!("this is not a member card: {cause}"));
    let body = text
        .trim()
        .strip_prefix(CARD_PREFIX)
        .ok_or_else(|| bad("it does not begin as one".into()))?;
    let bytes = hex::decode(body).map_err(|cause| bad(cause.to_string()))?;
    let card: MemberCard = borsh::from_slice(&bytes).map_err(|cause| bad(cause.to_string()))?;
    card.verify().map_err(|cause| bad(cause.to_string()))?;
    Ok(card)
}

/// Reads and checks a group file.
pub fn read_group(path: &Path) -> Outcome<Genesis> {
    let bytes = std::fs::read(path).during(
        Exit::NotFound,
        format!("cannot read the group file {}", path.display()),
    )?;
    Genesis::decode(&bytes).map_err(|cause| {
        let what = match cause {
            GenesisError::Version(_) => "cannot be used here",
            _ => "is not a group file",
        };
        let message = format!("{} {what}: {cause}", path.display());
        Failure::new(Exit::WrongGroup, message)
    })
}

impl DataDir {
    /// Makes a new data directory with a fresh member key. An existing directory must be empty.
    pub fn create(path: &Path, key: &SigningKey) -> Outcome<Self> {
        let at = path.display();
        std::fs::create_dir_all(path).during(Exit::BadDataDir, format!("cannot create {at}"))?;
        let mut entries =
            std::fs::read_dir(path).during(Exit::BadDataDir, format!("cannot read {at}"))?;
        if entries.next().is_some() {
            let message =
                format!("{at} is not empty: a node may live there already; choose another --dir");
            return Err(Failure::new(Exit::BadDataDir, message));
        }
        write_new(&path.join(KEY_FILE), text_of([key]).as_bytes(), 0o600)?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Opens the data directory of a node.
    pub fn open(path: &Path) -> Outcome<Self> {
        if !path.join(KEY_FILE).is_file() {
            let message = format!(
                "{} is not the data directory of a node: make one with `barfs node init`",
                path.display()
            );
            return Err(Failure::new(Exit::BadDataDir, message));
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Takes the lock; fails at once if another process has it.
    pub fn lock(&self) -> Outcome<Lock> {
        let path = self.path.join(LOCK_FILE);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .during(Exit::BadDataDir, format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| {
                Failure::new(
                    Exit::DataDirInUse,
                    format!("a node is running on {} already", self.path.display()),
                )
            },
        )?;
        Ok(Lock(file))
    }

    /// The member key.
    pub fn key(&self) -> Outcome<SigningKey> {
        Ok(self.keys()?.present().clone())
    }

    /// All keys of the member.
    pub fn keys(&self) -> Outcome<NodeKeys> {
        NodeKeys::load(&self.path)
    }

    /// The group names the next key of the member `me` by now: it is in force from here on.
    pub fn take_next_key(&self, me: MemberId, named: NodeId) -> Outcome<NodeKeys> {
        let mut keys = self.keys()?;
        // The founding roster does not name the new key.
        self.keep_seat(me)?;
        keys.take_next(named)?;
        Ok(keys)
    }

    /// Keeps the node's own card.
    pub fn store_card(&self, card: &MemberCard) -> Outcome<()> {
        write_new(&self.card_path(), card_text(card)?.as_bytes(), 0o644)
    }

    /// The node's own card, as it was made.
    pub fn card(&self) -> Outcome<MemberCard> {
        let path = self.card_path();
        let doing = format!("cannot read the member card {}", path.display());
        parse_card(&std::fs::read_to_string(&path).during(Exit::BadDataDir, doing)?)
    }

    /// Where the card is.
    pub fn card_path(&self) -> PathBuf {
        self.path.join(CARD_FILE)
    }

    /// Adopts a group: it must name this node's key, and no other group may have been adopted before.
    pub fn adopt(&self, genesis: &Genesis) -> Outcome<MemberId> {
        let id = genesis.member_of(self.key()?.id()).ok_or_else(|| {
            let message = format!(
                "the group \"{}\" does not have this node among its members",
                genesis.name
            );
            Failure::new(Exit::WrongGroup, message)
        })?;
        self.keep_group(genesis)?;
        Ok(id)
    }

    /// Adopts a group that this node has joined later: the newest roster of `chain` names its key.
    pub fn adopt_joined(&self, chain: &Chain) -> Outcome<MemberId> {
        let id = chain.newest().member_of(self.key()?.id()).ok_or_else(|| {
            let message = "the group has not taken this node in yet";
            Failure::new(Exit::WrongGroup, message)
        })?;
        self.check_group(chain.founding())?;
        chain.store(&self.chain_path())?;
        self.keep_seat(id)?;
        self.keep_group(chain.founding())?;
        Ok(id)
    }

    fn keep_seat(&self, id: MemberId) -> Outcome<()> {
        let seat = self.path.join(SEAT_FILE);
        replace_file(&seat, format!("{}\n", id.0).as_bytes(), 0o644)
            .during(Exit::BadDataDir, format!("cannot write {}", seat.display()))
    }

    /// Fails if another group was adopted before; true if this one was.
    pub fn check_group(&self, genesis: &Genesis) -> Outcome<bool> {
        let path = self.path.join(GROUP_FILE);
        if !path.exists() {
            return Ok(false);
        }
        let old = read_group(&path)?;
        if old.group_id() == genesis.group_id() {
            return Ok(true);
        }
        let message = format!(
            "this node belongs to the group \"{}\" already ({})",
            old.name,
            old.group_id().0.to_hex()
        );
        Err(Failure::new(Exit::WrongGroup, message))
    }

    fn keep_group(&self, genesis: &Genesis) -> Outcome<()> {
        if self.check_group(genesis)? {
            return Ok(());
        }
        write_new(&self.path.join(GROUP_FILE), &genesis.encode(), 0o644)
    }

    /// The adopted group and this node's place in it.
    pub fn group(&self) -> Outcome<(Genesis, MemberId)> {
        let path = self.path.join(GROUP_FILE);
        if !path.exists() {
            let message = "this node has no group yet: `barfs group adopt FILE` gives it one, `barfs group join` takes an invitation up".to_owned();
            return Err(Failure::new(Exit::WrongGroup, message));
        }
        let genesis = read_group(&path)?;
        let id = match self.seat()? {
            Some(id) => Some(id),
            None => genesis.member_of(self.key()?.id()),
        };
        let id = id.ok_or_else(|| {
            let message = format!(
                "{} has the key of another node than the group file beside it: was the directory mixed with another one?",
                self.path.display()
            );
            Failure::new(Exit::BadDataDir, message)
        })?;
        Ok((genesis, id))
    }

    /// The number that the group gave this node when it joined, or had for it when its key was replaced; else `None`.
    fn seat(&self) -> Outcome<Option<MemberId>> {
        let path = self.path.join(SEAT_FILE);
        let doing = || format!("cannot read {}", path.display());
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let number = text.trim().parse().during(Exit::BadDataDir, doing())?;
                Ok(Some(MemberId(number)))
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause).during(Exit::BadDataDir, doing()),
        }
    }

    /// The file of the rosters that were known when this node joined.
    pub fn chain_path(&self) -> PathBuf {
        self.path.join(HANDOVERS_FILE)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database of blocks.
    pub fn log_path(&self) -> PathBuf {
        self.path.join("log")
    }

    /// The newest snapshot of the ledger.
    pub fn snapshot_path(&self) -> PathBuf {
        self.path.join("ledger.snapshot")
    }

    /// The count of starts that stays when the database of blocks is replaced.
    pub fn incarnation_path(&self) -> PathBuf {
        self.path.join("incarnation")
    }

    /// Proofs that members lied.
    pub fn proofs_path(&self) -> PathBuf {
        self.path.join("evidence")
    }

    /// The database of shards.
    pub fn shards_path(&self) -> PathBuf {
        self.path.join("shards")
    }

    /// The control socket.
    pub fn control_path(&self) -> PathBuf {
        self.path.join("control.sock")
    }
}
