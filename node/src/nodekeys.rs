//! The keys of a node: the one in force, the one that it is about to have, and those that it had.
//!
//! ```text
//! member.key        in force                member.key.next   asked for: the group names it from one of the next epochs on
//! member.key.past   earlier ones, the oldest first: what is still to be said for an epoch that is over is said under its key
//! ```
//!
//! Each is the seed in hexadecimal digits on a line, readable by the owner alone.

use std::path::{Path, PathBuf};

use barfs_crypto::{NodeId, SigningKey};
use zeroize::Zeroizing;

use crate::datadir::replace_file;
use crate::exit::{During, Exit, Failure, Outcome};
use crate::profile::random;

/// The key in force, in a data directory.
pub(crate) const KEY_FILE: &str = "member.key";
const NEXT_FILE: &str = "member.key.next";
const PAST_FILE: &str = "member.key.past";
const LINE_BYTES: usize = 65;

/// See the module.
#[derive(Clone)]
pub struct NodeKeys {
    dir: PathBuf,
    present: SigningKey,
    next: Option<SigningKey>,
    past: Vec<SigningKey>,
}

fn read(path: &Path) -> Outcome<Vec<SigningKey>> {
    let doing = || format!("the key file {} is damaged", path.display());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause).during(Exit::BadDataDir, doing()),
    };
    let key = |line: &str| {
        let bytes = Zeroizing::new(hex::decode(line.trim()).during(Exit::Damaged, doing())?);
        let seed: &[u8; 32] = bytes
            .as_slice()
            .try_into()
            .map_err(|_| Failure::new(Exit::Damaged, doing()))?;
        Ok(SigningKey::from_seed(*seed))
    };
    text.lines().map(key).collect()
}

/// What a key file has in it.
pub(crate) fn text_of<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Zeroizing<String> {
    let keys: Vec<&SigningKey> = keys.into_iter().collect();
    // Of its full size from the start: nothing is left behind where it grew.
    let mut text = Zeroizing::new(String::with_capacity(keys.len() * LINE_BYTES));
    for key in keys {
        let mut digits = Zeroizing::new([0; LINE_BYTES - 1]);
        // Only a wrong size fails.
        let sized = hex::encode_to_slice(&key.seed()[..], &mut digits[..]);
        debug_assert!(sized.is_ok(), "two digits a byte");
        text.extend(digits.iter().map(|digit| char::from(*digit)));
        text.push('\n');
    }
    text
}

impl NodeKeys {
    /// The keys in a data directory.
    pub fn load(dir: &Path) -> Outcome<Self> {
        let path = dir.join(KEY_FILE);
        let [present] = &read(&path)?[..] else {
            let message = format!("the member key {} is damaged", path.display());
            return Err(Failure::new(Exit::Damaged, message));
        };
        Ok(Self {
            present: present.clone(),
            next: read(&dir.join(NEXT_FILE))?.pop(),
            past: read(&dir.join(PAST_FILE))?,
            dir: dir.to_owned(),
        })
    }

    /// The key in force.
    pub fn present(&self) -> &SigningKey {
        &self.present
    }

    /// The key that the group has been asked to name, or is about to be.
    pub fn next(&self) -> Option<&SigningKey> {
        self.next.as_ref()
    }

    /// The key that the node was made with.
    pub fn first(&self) -> &SigningKey {
        self.past.first().unwrap_or(&self.present)
    }

    /// All that are not in force.
    pub fn others(&self) -> impl Iterator<Item = &SigningKey> {
        self.past.iter().chain(&self.next)
    }

    /// The next key, made and durable if there is none yet.
    pub fn prepare(&mut self) -> Outcome<&SigningKey> {
        if self.next.is_none() {
            let key = SigningKey::from_seed(random()?);
            self.write(NEXT_FILE, [&key])?;
            self.next = Some(key);
        }
        self.next
            .as_ref()
            .ok_or_else(|| Failure::new(Exit::Failed, "there is no key that was just made"))
    }

    /// The group names the next key, which must be `named`: it is in force from now on. A crash on the way leaves every key in one
    /// of the files, and doing it again ends it.
    pub fn take_next(&mut self, named: NodeId) -> Outcome<()> {
        let Some(next) = self.next.clone() else {
            return Ok(());
        };
        if next.id() != named {
            let message =
                "the group names another key of this node than the one that was asked for";
            return Err(Failure::new(Exit::Damaged, message));
        }
        let mut past = self.past.clone();
        let known = past.iter().chain([&next]);
        if !known.into_iter().any(|key| key.id() == self.present.id()) {
            past.push(self.present.clone());
        }
        self.write(PAST_FILE, &past)?;
        self.write(KEY_FILE, [&next])?;
        let path = self.dir.join(NEXT_FILE);
        std::fs::remove_file(&path).during(
            Exit::BadDataDir,
            format!("cannot remove {}", path.display()),
        )?;
        (self.present, self.next, self.past) = (next, None, past);
        Ok(())
    }

    fn write<'a>(&self, name: &str, keys: impl IntoIterator<Item = &'a SigningKey>) -> Outcome<()> {
        let path = self.dir.join(name);
        replace_file(&path, text_of(keys).as_bytes(), 0o600)
            .during(Exit::BadDataDir, format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn made() -> (tempfile::TempDir, NodeKeys) {
        let dir = tempfile::tempdir().unwrap();
        let first = SigningKey::from_seed([1; 32]);
        std::fs::write(dir.path().join(KEY_FILE), text_of([&first]).as_bytes()).unwrap();
        let keys = NodeKeys::load(dir.path()).unwrap();
        assert_eq!(keys.present().id(), first.id());
        (dir, keys)
    }

    #[test]
    fn keys_follow_each_other_and_none_is_lost() {
        let (dir, mut keys) = made();
        let mut ids = vec![keys.present().id()];
        for _ in 0..3 {
            let next = keys.prepare().unwrap().id();
            assert_eq!(keys.prepare().unwrap().id(), next, "it is made once");
            // A restart in between.
            keys = NodeKeys::load(dir.path()).unwrap();
            assert_eq!(keys.next().map(SigningKey::id), Some(next));
            assert!(keys.take_next(ids[0]).is_err(), "another key is taken");
            keys.take_next(next).unwrap();
            ids.push(next);
            keys = NodeKeys::load(dir.path()).unwrap();
            assert_eq!(keys.present().id(), next);
            assert!(keys.next().is_none());
        }
        let past: Vec<_> = keys.others().map(SigningKey::id).collect();
        assert_eq!(past, ids[..3]);
        assert_eq!(keys.first().id(), ids[0]);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            if entry.file_name() != KEY_FILE {
                assert_eq!(mode, 0o600, "{:?}", entry.file_name());
            }
        }
    }

    #[test]
    fn a_crash_on_the_way_is_ended_the_next_time() {
        let (dir, mut keys) = made();
        let (first, next) = (keys.present().clone(), keys.prepare().unwrap().clone());
        // The old key was put aside, and nothing else happened.
        keys.write(PAST_FILE, [&first]).unwrap();
        let mut keys = NodeKeys::load(dir.path()).unwrap();
        keys.take_next(next.id()).unwrap();
        // The new key came into force, and the file that asked for it stayed.
        keys.write(NEXT_FILE, [&next]).unwrap();
        let mut keys = NodeKeys::load(dir.path()).unwrap();
        keys.take_next(next.id()).unwrap();
        let keys = NodeKeys::load(dir.path()).unwrap();
        assert_eq!(keys.present().id(), next.id());
        let past: Vec<_> = keys.others().map(SigningKey::id).collect();
        assert_eq!(past, [first.id()]);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let (dir, _) = made();
        for text in ["", "00", "no hexadecimal digits", &"00".repeat(33)] {
            std::fs::write(dir.path().join(KEY_FILE), text).unwrap();
            let failed = NodeKeys::load(dir.path()).err().unwrap();
            assert_eq!(failed.exit, Exit::Damaged, "{text}");
        }
    }
}
