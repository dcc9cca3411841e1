//! Every decoder of the crate as a function over any bytes, which panics where a promise is broken: total, and canonical
//! in what it accepts. `fuzz/` feeds them without end, `tests/hostile_bytes.rs` for a moment. Nothing else uses them.
//!
//! Each comes with bytes that it accepts, to start mutating from.

use barfs_crypto::{Digest, MasterKey, seal_message_in_place};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::backup::Mark;
use crate::format::acl::Acl;
use crate::format::blob::{self, BlobAddr, BlobKind, Codec};
use crate::format::head::{self, Counters, Head, TreeRoot};
use crate::format::key;
use crate::format::local::{self, META_KEY, Meta};
use crate::format::node::Node;
use crate::format::pack::{self, TableEntry};
use crate::format::record::{Entry, Extent, Inode, Kind, LocalBlob, SnapshotRecord, Stamp, Xattr};
use crate::format::{FORMAT_VERSION, decode};
use crate::keys::{Nonces, VolumeKeys};
use crate::ops::extents;
use crate::store::{GroupHead, PackNo, VolumeId};

/// A decoder under test.
pub struct Decoder {
    /// Its name, that of its fuzz target.
    pub name: &'static str,
    /// Feeds it, checks its promises, says whether it accepted.
    pub feed: fn(&[u8]) -> bool,
    /// Bytes that it accepts.
    pub accepted: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const DECODERS: &[Decoder] = &[
    of("inode", plain::<Inode>, || bytes(&an_inode())),
    of("entries", plain::<Vec<Entry>>, || {
        bytes(&vec![an_entry(); 2])
    }),
    of("xattrs", plain::<Vec<Xattr>>, || {
        bytes(&vec![an_xattr(); 2])
    }),
    of("extent", extent, || bytes(&an_extent())),
    of("location", plain::<BlobAddr>, || bytes(&an_address())),
    of("local_location", plain::<LocalBlob>, || bytes(&a_blob())),
    of("snapshot", plain::<SnapshotRecord>, || bytes(&a_snapshot())),
    of("backup_mark", plain::<Mark>, || vec![vec![7; 48]]),
    of("head_body", plain::<Head>, || bytes(&a_head())),
    of("head", sealed_head, || vec![seal_head()]),
    of("meta_body", plain::<Meta>, || bytes(&a_meta())),
    of("local_state", local_state, || vec![seal_meta()]),
    of("tree_node", node::<u64>, || nodes(9u64)),
    of("map_node", node::<BlobAddr>, || nodes(an_address())),
    of("pack_table", plain::<Vec<TableEntry>>, || bytes(&a_table())),
    of("pack", whole_pack, || vec![seal_pack()]),
    of("packed_blob", packed_blob, || vec![pack_text()]),
    of("acl", acl, || vec![an_acl()]),
    of("key", any_key, || vec![key::entry(3, 4), key::location(5)]),
];

const fn of(
    name: &'static str,
    feed: fn(&[u8]) -> bool,
    accepted: fn() -> Vec<Vec<u8>>,
) -> Decoder {
    Decoder {
        name,
        feed,
        accepted,
    }
}

const VOLUME: VolumeId = VolumeId([7; 16]);

fn keys() -> VolumeKeys {
    VolumeKeys::derive(&MasterKey::from_bytes([1; 32]), VOLUME)
}

/// One encoding of a value that is certainly encodable.
fn bytes<T: BorshSerialize>(value: &T) -> Vec<Vec<u8>> {
    borsh::to_vec(value).into_iter().collect()
}

/// What decodes is encoded to the same bytes again.
fn plain<T: BorshSerialize + BorshDeserialize>(input: &[u8]) -> bool {
    let Ok(value) = decode::<T>("fuzzed bytes", input) else {
        return false;
    };
    assert_eq!(bytes(&value), [input], "two encodings of one value");
    true
}

fn extent(input: &[u8]) -> bool {
    for offset in [0, 1 << 40, u64::MAX] {
        if let Ok((at, extent)) = extents::parse(&key::extent(1, offset), input) {
            assert!(at == offset && at.checked_add(u64::from(extent.len)).is_some());
            assert!(
                u64::from(extent.start) + u64::from(extent.len) <= crate::chunk::CHUNK_MAX as u64
            );
        }
    }
    plain::<Extent>(input)
}

fn node<R: BorshSerialize + BorshDeserialize>(input: &[u8]) -> bool {
    let Ok(node) = Node::<R>::decode(input) else {
        return false;
    };
    match &node {
        Node::Leaf(entries) => assert!(entries.is_sorted_by(|a, b| a.0 < b.0)),
        Node::Inner(children) => {
            assert!(!children.is_empty() && children.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
    assert!(node.encode().is_ok_and(|again| again == input));
    true
}

fn sealed_head(input: &[u8]) -> bool {
    let group = GroupHead {
        sequence: 4,
        bytes: input.to_vec(),
    };
    let opened = head::open(&keys(), VOLUME, &group);
    opened.is_ok_and(|head| {
        assert_eq!((head.volume, head.sequence), (VOLUME.0, 4));
        true
    })
}

fn local_state(input: &[u8]) -> bool {
    local::open::<Meta>(&keys(), VOLUME, &META_KEY, input).is_ok()
}

fn whole_pack(input: &[u8]) -> bool {
    let keys = keys();
    if let Ok(offset) = pack::table_offset(&keys, VOLUME, PackNo(3), input) {
        assert!(input.len() >= 44, "a footer of {offset} in too few bytes");
    }
    pack::table(&keys, VOLUME, PackNo(3), input).is_ok()
}

/// Sealed as it should be, so that what the sealed bytes say is what is tried: four bytes of length, then what claims to
/// be compressed.
fn packed_blob(input: &[u8]) -> bool {
    let Some((length, payload)) = input.split_first_chunk::<4>() else {
        return false;
    };
    let keys = keys();
    let mut sealed = payload.to_vec();
    let codec = Codec::Zstd;
    let aad = blob::aad(VOLUME, BlobKind::Chunk, codec);
    let seal = seal_message_in_place(&keys.newest().seal, &aad, &mut sealed);
    let addr = BlobAddr {
        len: sealed.len() as u32,
        raw_len: u32::from_le_bytes(*length),
        codec,
        seal,
        ..an_address()
    };
    let opened = blob::open(&keys, VOLUME, BlobKind::Chunk, &addr, sealed);
    opened.is_ok_and(|text| {
        assert_eq!(text.len(), addr.raw_len as usize);
        true
    })
}

fn acl(input: &[u8]) -> bool {
    let Ok(list) = Acl::parse(input) else {
        return false;
    };
    assert_eq!(list.encode(), input);
    assert!(list.mode() <= 0o777 && list.clone().with_mode(0o750).mode() == 0o750);
    true
}

fn any_key(input: &[u8]) -> bool {
    let kinds = [
        key::is_extent(input),
        key::is_entry(input),
        key::is_inode(input),
        key::as_orphan(input).is_some(),
    ];
    assert!(kinds.iter().filter(|is| **is).count() <= 1);
    assert_eq!(key::last_number(input).is_some(), input.len() >= 8);
    assert!(local::logical(&local::physical(9, input)) == input);
    kinds.contains(&true) || input.len() == 9
}

fn an_inode() -> Inode {
    let time = Stamp {
        seconds: -4,
        nanos: 5,
    };
    Inode {
        kind: Kind::Symlink,
        mode: 0o755,
        uid: 1,
        gid: 2,
        nlink: 1,
        size: 8,
        allocated: 0,
        rdev: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        parent: 0,
        xattrs: 1,
        target: b"dir/text".to_vec(),
    }
}

fn an_entry() -> Entry {
    Entry {
        slot: 3,
        kind: Kind::File,
        ino: 77,
        name: b"name".to_vec(),
    }
}

fn an_xattr() -> Xattr {
    Xattr {
        name: b"user.color".to_vec(),
        value: b"blue".to_vec(),
    }
}

fn an_extent() -> Extent {
    Extent {
        len: 4096,
        handle: 12,
        start: 512,
    }
}

fn an_address() -> BlobAddr {
    BlobAddr {
        pack: PackNo(3),
        offset: 10,
        len: 500,
        raw_len: 900,
        codec: Codec::Zstd,
        seal: Digest([5; 32]),
    }
}

fn a_blob() -> LocalBlob {
    LocalBlob {
        addr: an_address(),
        chunk: Digest([6; 32]),
    }
}

fn a_snapshot() -> SnapshotRecord {
    SnapshotRecord {
        name: "2024-01-01T00-00-00Z".into(),
        seconds: 1,
        until: 2,
        pinned: true,
        tree: Some(4),
        files: 5,
        fencing: 6,
    }
}

fn a_head() -> Head {
    Head {
        volume: VOLUME.0,
        sequence: 4,
        tree: Some(TreeRoot {
            handle: 8,
            addr: an_address(),
        }),
        map: Some(an_address()),
        snapshots: None,
        previous: Some(Digest([9; 32])),
        ..Head::default()
    }
}

fn a_meta() -> Meta {
    Meta {
        active: 3,
        frozen: Some(2),
        base: Some(GroupHead {
            sequence: 4,
            bytes: vec![1, 2, 3],
        }),
        intents: Vec::new(),
        counters: Counters::default(),
        files: 9,
    }
}

fn a_table() -> Vec<TableEntry> {
    let entry = |handle| TableEntry::new(BlobKind::Chunk, handle, &an_address(), None);
    vec![entry(4), entry(5)]
}

fn nodes<R: Clone + BorshSerialize + BorshDeserialize>(child: R) -> Vec<Vec<u8>> {
    let leaf = Node::<R>::Leaf(vec![(vec![1], vec![2, 3]), (vec![4], vec![])]);
    let inner = Node::Inner(vec![(vec![], child.clone()), (vec![7, 8], child)]);
    [leaf.encode(), inner.encode()]
        .into_iter()
        .flatten()
        .collect()
}

fn seal_head() -> Vec<u8> {
    let sealed = Nonces::new().and_then(|nonces| head::seal(&keys(), &nonces, &a_head()));
    sealed.map_or_else(|_| vec![FORMAT_VERSION], |group| group.bytes)
}

fn seal_meta() -> Vec<u8> {
    let sealed = Nonces::new()
        .and_then(|nonces| local::seal(&keys(), &nonces, VOLUME, &META_KEY, &a_meta()));
    sealed.unwrap_or_default()
}

fn seal_pack() -> Vec<u8> {
    pack::finish(
        keys().newest(),
        (VOLUME, PackNo(3)),
        vec![9; 500],
        &a_table(),
    )
    .unwrap_or_default()
}

fn pack_text() -> Vec<u8> {
    let text = b"text that repeats, ".repeat(40);
    let packed = zstd::bulk::compress(&text, 1).unwrap_or_default();
    [(text.len() as u32).to_le_bytes().as_slice(), &packed].concat()
}

fn an_acl() -> Vec<u8> {
    let entry = |tag: u16, perm: u16, id: u32| {
        let (tag, perm, id) = (tag.to_le_bytes(), perm.to_le_bytes(), id.to_le_bytes());
        [tag.as_slice(), &perm, &id].concat()
    };
    let none = u32::MAX;
    let entries = [
        entry(1, 6, none),
        entry(2, 4, 1),
        entry(4, 0, none),
        entry(16, 4, none),
        entry(32, 0, none),
    ];
    [2u32.to_le_bytes().to_vec(), entries.concat()].concat()
}
