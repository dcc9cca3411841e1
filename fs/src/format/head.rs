//! The head: the root of everything that a commit wrote.

use barfs_crypto::{Digest, hash, open_random, seal_random};
use borsh::{BorshDeserialize, BorshSerialize};

use super::blob::BlobAddr;
use super::{FORMAT_VERSION, decode, encode};
use crate::error::{Result, VolumeError};
use crate::keys::{Nonces, VolumeKeys};
use crate::store::{GroupHead, HEAD_BYTES_MAX, VolumeId};

/// Numbers given out so far; none is given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Counters {
    /// The next inode number.
    pub ino: u64,
    /// The next handle.
    pub handle: u64,
    /// The next pack, without the fencing number.
    pub pack: u64,
}

/// Root of the filesystem tree: its handle, and its place so that a mount starts without the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct TreeRoot {
    pub handle: u64,
    pub addr: BlobAddr,
}

/// One committed state of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Head {
    pub volume: [u8; 16],
    pub sequence: u64,
    /// The writer lease under which it was written.
    pub fencing: u32,
    pub tree: Option<TreeRoot>,
    pub map: Option<BlobAddr>,
    /// Root of the list of snapshots.
    pub snapshots: Option<BlobAddr>,
    /// Hash of the sealed head before, as the group kept it.
    pub previous: Option<Digest>,
    pub counters: Counters,
    /// Inodes in the volume.
    pub files: u64,
    /// When it was written, seconds since 1970.
    pub seconds: i64,
    /// When a prune last went through, seconds since 1970; 0 before the first.
    pub pruned: i64,
}

fn aad(volume: VolumeId, sequence: u64) -> Vec<u8> {
    let mut aad = volume.0.to_vec();
    aad.extend_from_slice(&sequence.to_le_bytes());
    aad
}

/// Seals a head: one version byte, then nonce and ciphertext.
pub(crate) fn seal(keys: &VolumeKeys, nonces: &Nonces, head: &Head) -> Result<GroupHead> {
    let plain = encode("the head", head)?;
    let mut bytes = vec![FORMAT_VERSION];
    let aad = aad(VolumeId(head.volume), head.sequence);
    bytes.extend(seal_random(
        &keys.newest().head,
        nonces.mint(),
        &aad,
        &plain,
    ));
    if bytes.len() > HEAD_BYTES_MAX {
        return Err(VolumeError::damaged("a head that outgrew its limit"));
    }
    Ok(GroupHead {
        sequence: head.sequence,
        bytes,
    })
}

/// Opens a head of this volume.
pub(crate) fn open(keys: &VolumeKeys, volume: VolumeId, group: &GroupHead) -> Result<Head> {
    let (version, sealed) = group
        .bytes
        .split_first()
        .ok_or_else(|| VolumeError::damaged("the volume's head"))?;
    if *version != FORMAT_VERSION {
        let what = "the volume's head";
        return Err(VolumeError::Version {
            what,
            found: *version,
            known: FORMAT_VERSION,
        });
    }
    let aad = aad(volume, group.sequence);
    let (plain, _) = keys
        .open_with(|era| open_random(&era.head, &aad, sealed))
        .map_err(|_| VolumeError::WrongKey {
            what: "the volume's head",
        })?;
    let head: Head = decode("the volume's head", &plain)?;
    if head.volume != volume.0 || head.sequence != group.sequence {
        return Err(VolumeError::damaged("the volume's head"));
    }
    Ok(head)
}

/// What the next head names as its predecessor.
pub(crate) fn digest(group: &GroupHead) -> Digest {
    hash(&group.bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::blob::Codec;
    use super::*;
    use crate::store::PackNo;
    use barfs_crypto::MasterKey;

    #[test]
    fn a_full_head_fits_and_opens_only_with_its_key_and_sequence() {
        let volume = VolumeId([7; 16]);
        let keys = VolumeKeys::derive(&MasterKey::from_bytes([1; 32]), volume);
        let addr = BlobAddr {
            pack: PackNo(1),
            offset: 2,
            len: 3,
            raw_len: 4,
            codec: Codec::Raw,
            seal: Digest([5; 32]),
        };
        let head = Head {
            volume: volume.0,
            sequence: 4,
            tree: Some(TreeRoot { handle: 1, addr }),
            map: Some(addr),
            snapshots: Some(addr),
            previous: Some(Digest([9; 32])),
            ..Head::default()
        };
        let mut sealed = seal(&keys, &Nonces::new().unwrap(), &head).unwrap();
        assert!(sealed.bytes.len() <= 512);
        assert_eq!(open(&keys, volume, &sealed).unwrap(), head);
        let other = VolumeKeys::derive(&MasterKey::from_bytes([2; 32]), volume);
        assert!(matches!(
            open(&other, volume, &sealed),
            Err(VolumeError::WrongKey { .. })
        ));
        sealed.sequence = 5;
        assert!(open(&keys, volume, &sealed).is_err());
        sealed.bytes[0] = 9;
        assert!(matches!(
            open(&keys, volume, &sealed),
            Err(VolumeError::Version { found: 9, .. })
        ));
    }
}
