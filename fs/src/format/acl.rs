//! POSIX access control lists, as the kernel passes them in attributes, and what they have to do with mode bits. Pure.
//!
//! ```text
//! version u32 = 2 | Vec without length< tag u16 | permissions u16 | id u32 >, little-endian
//! ```

use crate::error::{Result, VolumeError};

/// The attribute of the list that guards an inode.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of the list that new inodes in a directory get.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// One list, valid: exactly one entry for owner, group and others, and a mask if anybody is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// Decodes the value of an attribute.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let invalid = || VolumeError::Invalid("the access control list");
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or_else(invalid)?;
        if u32::from_le_bytes(*version) != VERSION || rest.len() % ENTRY_BYTES != 0 {
            return Err(invalid());
        }
        let entries: Vec<Entry> = rest
            .chunks_exact(ENTRY_BYTES)
            .filter_map(|entry| match entry {
                [t0, t1, p0, p1, id @ ..] => Some(Entry {
                    tag: u16::from_le_bytes([*t0, *t1]),
                    perm: u16::from_le_bytes([*p0, *p1]),
                    id: u32::from_le_bytes(id.try_into().ok()?),
                }),
                _ => None,
            })
            .collect();
        let count = |tag: u16| entries.iter().filter(|entry| entry.tag == tag).count();
        let known = |entry: &Entry| {
            [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(&entry.tag) && entry.perm <= 7
        };
        let named = count(USER) + count(GROUP) > 0;
        let whole = [USER_OBJ, GROUP_OBJ, OTHER]
            .iter()
            .all(|tag| count(*tag) == 1);
        let masked = count(MASK) == 1 || (count(MASK) == 0 && !named);
        if whole && masked && entries.iter().all(known) {
            Ok(Self { entries })
        } else {
            Err(invalid())
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    fn entry(&mut self, tag: u16) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.tag == tag)
    }

    fn perm(&self, tag: u16) -> Option<u16> {
        self.entries
            .iter()
            .find(|entry| entry.tag == tag)
            .map(|entry| entry.perm)
    }

    /// The group bits of a mode stand for the mask, where there is one.
    fn group_tag(&self) -> u16 {
        if self.perm(MASK).is_some() {
            MASK
        } else {
            GROUP_OBJ
        }
    }

    /// The nine permission bits that show this list.
    pub(crate) fn mode(&self) -> u16 {
        let bits = |tag| self.perm(tag).unwrap_or(0);
        bits(USER_OBJ) << 6 | bits(self.group_tag()) << 3 | bits(OTHER)
    }

    /// Whether the mode bits say all there is to say.
    pub(crate) fn is_mode_only(&self) -> bool {
        self.entries.len() == 3
    }

    /// The list after a chmod.
    pub(crate) fn with_mode(mut self, mode: u16) -> Self {
        for (tag, shift) in [(USER_OBJ, 6), (self.group_tag(), 3), (OTHER, 0)] {
            if let Some(entry) = self.entry(tag) {
                entry.perm = mode >> shift & 7;
            }
        }
        self
    }

    /// The list of a new inode that inherits this one and was asked to have `mode`; and the mode that it gets.
    pub(crate) fn inherited(mut self, mode: u16) -> (Self, u16) {
        for (tag, shift) in [(USER_OBJ, 6), (self.group_tag(), 3), (OTHER, 0)] {
            if let Some(entry) = self.entry(tag) {
                entry.perm &= mode >> shift & 7;
            }
        }
        let mode = mode & !0o777 | self.mode();
        (self, mode)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().map(|(tag, perm, id)| Entry {
            tag: *tag,
            perm: *perm,
            id: *id,
        });
        Acl {
            entries: entries.collect(),
        }
        .encode()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn the_mask_stands_for_the_group_bits() {
        let bytes = acl(&[
            (USER_OBJ, 7, NOBODY),
            (USER, 6, 1000),
            (GROUP_OBJ, 5, NOBODY),
            (MASK, 4, NOBODY),
            (OTHER, 0, NOBODY),
        ]);
        let list = Acl::parse(&bytes).unwrap();
        assert_eq!(
            (list.encode(), list.mode(), list.is_mode_only()),
            (bytes, 0o740, false)
        );
        let after = list.clone().with_mode(0o4651);
        assert_eq!(
            (after.mode(), after.perm(GROUP_OBJ), after.perm(MASK)),
            (0o651, Some(5), Some(5))
        );
        let (child, mode) = list.inherited(0o100_666 & 0o7777);
        assert_eq!(
            (child.mode(), mode, child.perm(USER)),
            (0o640, 0o640, Some(6))
        );
    }

    #[test]
    fn a_short_list_is_a_mode() {
        let list = Acl::parse(&acl(&[
            (USER_OBJ, 6, NOBODY),
            (GROUP_OBJ, 4, NOBODY),
            (OTHER, 4, NOBODY),
        ]))
        .unwrap();
        assert_eq!((list.mode(), list.is_mode_only()), (0o644, true));
        assert_eq!(list.inherited(0o2777).1, 0o2644);
    }

    #[test]
    fn hostile_lists_are_refused() {
        let good = acl(&[(USER_OBJ, 6, 0), (GROUP_OBJ, 4, 0), (OTHER, 4, 0)]);
        for cut in 0..good.len() {
            assert!(Acl::parse(&good[..cut]).is_err());
        }
        for bad in [
            vec![(USER_OBJ, 6, 0), (GROUP_OBJ, 4, 0)],
            vec![(USER_OBJ, 8, 0), (GROUP_OBJ, 4, 0), (OTHER, 4, 0)],
            vec![
                (USER_OBJ, 6, 0),
                (GROUP_OBJ, 4, 0),
                (OTHER, 4, 0),
                (USER, 4, 5),
            ],
            vec![
                (USER_OBJ, 6, 0),
                (GROUP_OBJ, 4, 0),
                (OTHER, 4, 0),
                (MASK, 4, 0),
                (MASK, 4, 0),
            ],
            vec![
                (USER_OBJ, 6, 0),
                (GROUP_OBJ, 4, 0),
                (OTHER, 4, 0),
                (0x40, 4, 0),
            ],
        ] {
            assert!(Acl::parse(&acl(&bad)).is_err(), "{bad:?}");
        }
    }
}
