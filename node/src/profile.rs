//! What a person's machine keeps of a volume: where it belongs, its keys (sealed under the passphrase), and the
//! mount's own state.
//!
//! ```text
//! $BARFS_HOME or $XDG_DATA_HOME/barfs or ~/.local/share/barfs
//! └─ volumes/NAME/
//!      volume.toml   group, member, volume       group       the genesis
//!      handovers     who sat after the founders
//!      key           master keys and device key, sealed with Argon2id and XChaCha20-Poly1305
//!      overlay/      changes not on the group    packs/      ciphertext
//!      lease         the last writer lease       lock        held by the mount
//!      mount.sock    its control socket
//! ```

use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barfs_crypto::{CryptoError, MasterKeys, SigningKey, open_key_file, seal_key_file};
use barfs_replication::{Genesis, MemberId, VolumeId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::datadir::{read_group, replace_file, write_new};
use crate::exit::{During, Exit, Failure, Outcome};
use crate::group::Chain;

/// The secrets of a volume on this device: its master keys, then the seed of the device key, 32 bytes each.
struct Secrets {
    masters: MasterKeys,
    device: SigningKey,
}

impl Secrets {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let masters = self.masters.to_bytes();
        let mut bytes = Zeroizing::new(Vec::with_capacity(masters.len() + 32));
        bytes.extend_from_slice(&masters);
        bytes.extend_from_slice(&*self.device.seed());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (masters, seed) = bytes.split_last_chunk::<32>()?;
        Some(Self {
            masters: MasterKeys::from_bytes(masters)?,
            device: SigningKey::from_seed(*seed),
        })
    }
}

/// The public part of a profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeFile {
    /// The group's id, 64 hexadecimal digits.
    pub group: String,
    /// The member that the volume belongs to.
    pub member: u16,
    /// The volume's id, 32 hexadecimal digits.
    pub volume: String,
    /// The volume's name.
    pub name: String,
}

/// A volume on this machine.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its directory.
    pub dir: PathBuf,
    /// Its public part.
    pub file: VolumeFile,
    /// The group as it was founded.
    pub genesis: Arc<Genesis>,
}

/// Held while a volume is mounted on this machine.
#[derive(Debug)]
pub struct ProfileLock(#[allow(dead_code, reason = "holding the file holds the lock")] File);

/// Where this person's volumes are.
pub fn home() -> Outcome<PathBuf> {
    if let Some(home) = std::env::var_os("BARFS_HOME") {
        return Ok(home.into());
    }
    if let Some(data) = std::env::var_os("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("barfs"));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| {
        Failure::new(
            Exit::BadConfig,
            "neither BARFS_HOME nor HOME is set: where should volumes be kept?",
        )
    })?;
    Ok(PathBuf::from(home).join(".local/share/barfs"))
}

fn volumes_dir() -> Outcome<PathBuf> {
    Ok(home()?.join("volumes"))
}

/// Fresh random bytes from the system.
pub fn random<const N: usize>() -> Outcome<[u8; N]> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).during(Exit::Failed, "the system gives no random bytes")?;
    Ok(bytes)
}

/// A label for this device, for people.
pub fn device_label() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "unnamed".into());
    name.trim().chars().take(60).collect()
}

/// Checks that a name can stand as a directory and on a command line.
pub fn check_name(name: &str) -> Outcome<()> {
    let fine = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['.', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if fine {
        return Ok(());
    }
    let message = format!(
        "\"{name}\" is no name for a volume: use 1 to 64 letters, digits, dots, dashes or underscores"
    );
    Err(Failure::new(Exit::Usage, message))
}

/// The volumes on this machine, by name.
pub fn all() -> Outcome<Vec<Profile>> {
    let dir = volumes_dir()?;
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => {
            return Err(Failure::new(
                Exit::Failed,
                format!("cannot read {}: {cause}", dir.display()),
            ));
        }
    };
    let mut profiles = Vec::new();
    for entry in entries {
        let entry = entry.during(Exit::Failed, format!("cannot read {}", dir.display()))?;
        if entry.path().join("volume.toml").is_file() {
            profiles.push(Profile::open_dir(&entry.path())?);
        }
    }
    profiles.sort_by(|a, b| a.file.name.cmp(&b.file.name));
    Ok(profiles)
}

/// The volume that a command means: the named one, or the only one.
pub fn pick(name: Option<&str>) -> Outcome<Profile> {
    let mut profiles = all()?;
    let names: Vec<&str> = profiles
        .iter()
        .map(|profile| profile.file.name.as_str())
        .collect();
    let known = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    match name {
        Some(name) => {
            let at = profiles
                .iter()
                .position(|profile| profile.file.name == name)
                .ok_or_else(|| {
                    Failure::new(
                        Exit::NotFound,
                        format!(
                            "there is no volume \"{name}\" on this machine (there are: {known})"
                        ),
                    )
                })?;
            Ok(profiles.swap_remove(at))
        }
        None if profiles.len() == 1 => Ok(profiles.swap_remove(0)),
        None if profiles.is_empty() => {
            let message = "there is no volume on this machine: `barfs volume create` makes one, `barfs recover` brings one back";
            Err(Failure::new(Exit::NotFound, message))
        }
        None => Err(Failure::new(
            Exit::Usage,
            format!("which volume? name one with --volume (there are: {known})"),
        )),
    }
}

fn seal(secrets: &Secrets, passphrase: &[u8]) -> Outcome<Vec<u8>> {
    seal_key_file(passphrase, random()?, random()?, &secrets.to_bytes())
        .during(Exit::Failed, "cannot seal the keys")
}

impl Profile {
    /// Makes the profile of a new or recovered volume.
    pub fn create(
        chain: &Chain,
        file: VolumeFile,
        passphrase: &[u8],
        masters: &MasterKeys,
        device: &SigningKey,
    ) -> Outcome<Self> {
        check_name(&file.name)?;
        let dir = volumes_dir()?.join(&file.name);
        if dir.join("volume.toml").exists() {
            let message = format!(
                "there is a volume \"{}\" on this machine already: choose another name",
                file.name
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&dir)
            .during(Exit::Failed, format!("cannot create {}", dir.display()))?;
        let secrets = Secrets {
            masters: masters.clone(),
            device: device.clone(),
        };
        let sealed = seal(&secrets, passphrase)?;
        let text = toml::to_string(&file).during(Exit::Failed, "cannot encode the volume file")?;
        write_new(&dir.join("key"), &sealed, 0o600)?;
        write_new(&dir.join("group"), &chain.founding().encode(), 0o644)?;
        chain.store(&dir.join("handovers"))?;
        write_new(&dir.join("volume.toml"), text.as_bytes(), 0o644)?;
        Ok(Self {
            dir,
            file,
            genesis: Arc::clone(chain.founding()),
        })
    }

    /// The profile of a volume in this directory.
    pub fn open_dir(dir: &Path) -> Outcome<Self> {
        let path = dir.join("volume.toml");
        let doing = || format!("{} is damaged", path.display());
        let text = std::fs::read_to_string(&path).during(Exit::Damaged, doing())?;
        let file: VolumeFile = toml::from_str(&text).during(Exit::Damaged, doing())?;
        let genesis = read_group(&dir.join("group"))?;
        if genesis.group_id().0.to_hex() != file.group {
            let message = format!(
                "{} is of another group than the volume beside it",
                dir.join("group").display()
            );
            return Err(Failure::new(Exit::WrongGroup, message));
        }
        Ok(Self {
            dir: dir.to_owned(),
            file,
            genesis: Arc::new(genesis),
        })
    }

    /// The file of what is known of the group's rosters.
    pub fn chain_path(&self) -> PathBuf {
        self.dir.join("handovers")
    }

    /// The file of what is kept of the last writer lease.
    pub(crate) fn standing_path(&self) -> PathBuf {
        self.dir.join("lease")
    }

    /// The directory of changes that are not on the group.
    pub(crate) fn overlay_path(&self) -> PathBuf {
        self.dir.join("overlay")
    }

    /// What is known of the group's rosters.
    pub fn chain(&self) -> Outcome<Chain> {
        Chain::load(Arc::clone(&self.genesis), &self.chain_path())
    }

    /// The volume's id.
    pub fn volume(&self) -> Outcome<VolumeId> {
        let damaged = || {
            Failure::new(
                Exit::Damaged,
                format!("{} names no volume", self.dir.join("volume.toml").display()),
            )
        };
        let bytes = hex::decode(&self.file.volume).map_err(|_| damaged())?;
        Ok(VolumeId(bytes.try_into().map_err(|_| damaged())?))
    }

    /// The member that the volume belongs to.
    pub fn member(&self) -> MemberId {
        MemberId(self.file.member)
    }

    /// Opens the sealed keys.
    pub fn unlock(&self, passphrase: &[u8]) -> Outcome<(MasterKeys, SigningKey)> {
        let Secrets { masters, device } = self.open_secrets(passphrase)?;
        Ok((masters, device))
    }

    fn open_secrets(&self, passphrase: &[u8]) -> Outcome<Secrets> {
        let path = self.dir.join("key");
        let doing = || format!("the key file {} is damaged", path.display());
        let sealed = std::fs::read(&path).during(Exit::Damaged, doing())?;
        let plain = open_key_file(passphrase, &sealed).map_err(|cause| match cause {
            CryptoError::WrongPassphrase => {
                let message = format!(
                    "the passphrase does not open the volume \"{}\"",
                    self.file.name
                );
                Failure::new(Exit::WrongPassphrase, message)
            }
            other => Failure::new(Exit::Damaged, format!("{}: {other}", doing())),
        })?;
        Secrets::from_bytes(&plain).ok_or_else(|| Failure::new(Exit::Damaged, doing()))
    }

    /// Seals the keys under another passphrase. The old one opens nothing afterwards, here; a copy of the key file that
    /// somebody took before it still opens.
    pub fn change_passphrase(&self, old: &[u8], new: &[u8]) -> Outcome<()> {
        self.replace_secrets(&self.open_secrets(old)?, new)
    }

    /// Takes over newer master keys, sealed under the same passphrase.
    pub fn change_masters(&self, masters: MasterKeys, passphrase: &[u8]) -> Outcome<()> {
        let Secrets { device, .. } = self.open_secrets(passphrase)?;
        self.replace_secrets(&Secrets { masters, device }, passphrase)
    }

    fn replace_secrets(&self, secrets: &Secrets, passphrase: &[u8]) -> Outcome<()> {
        let path = self.dir.join("key");
        let doing = format!("cannot write {}", path.display());
        replace_file(&path, &seal(secrets, passphrase)?, 0o600).during(Exit::Failed, doing)
    }

    /// Takes the volume for this process; fails at once if another one has it.
    pub fn lock(&self) -> Outcome<ProfileLock> {
        let path = self.dir.join("lock");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .during(Exit::Failed, format!("cannot open {}", path.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(
            |_| {
                let message = format!(
                    "the volume \"{}\" is mounted on this machine already",
                    self.file.name
                );
                Failure::new(Exit::VolumeInUse, message)
            },
        )?;
        Ok(ProfileLock(file))
    }

    /// The mount's control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("mount.sock")
    }
}
