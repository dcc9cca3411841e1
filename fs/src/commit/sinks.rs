//! Where the nodes of new trees go while a commit is built.

use std::collections::HashMap;

use super::place::{Label, Placer};
use crate::error::Result;
use crate::format::blob::{self, BlobAddr, BlobKind, Sealed};
use crate::format::key;
use crate::format::node::Node;
use crate::store::PackNo;
use crate::tree::update::NodeSink;
use crate::volume::Volume;

/// Nodes of the new filesystem tree, kept until their packs are planned.
pub(crate) struct TreeSink<'a> {
    pub volume: &'a Volume,
    pub stored: HashMap<u64, Sealed>,
    pub files: i64,
}

impl<'a> TreeSink<'a> {
    pub(crate) fn new(volume: &'a Volume) -> Self {
        Self {
            volume,
            stored: HashMap::new(),
            files: 0,
        }
    }
}

impl NodeSink<u64> for TreeSink<'_> {
    fn store(&mut self, node: Node<u64>) -> Result<u64> {
        let handle = self.volume.space.overlay.mint_handle();
        let plain = node.encode()?;
        let sealed = blob::seal(
            &self.volume.keys,
            self.volume.id,
            BlobKind::TreeNode,
            &plain,
        );
        self.stored.insert(handle, sealed);
        Ok(handle)
    }

    /// Older heads may still refer to it: a prune finds out.
    fn retire(&mut self, _: &u64) {}

    fn changed(&mut self, key: &[u8], before: bool, after: bool) {
        if key::is_inode(key) {
            self.files += i64::from(after) - i64::from(before);
        }
    }
}

/// Nodes of the new map go straight into packs: they know each other by address.
pub(crate) struct MapSink<'a, 'b> {
    pub volume: &'a Volume,
    pub placer: &'b mut Placer<'a>,
}

impl NodeSink<BlobAddr> for MapSink<'_, '_> {
    fn store(&mut self, node: Node<BlobAddr>) -> Result<BlobAddr> {
        let plain = node.encode()?;
        let sealed = blob::seal(&self.volume.keys, self.volume.id, BlobKind::MapNode, &plain);
        let label = Label {
            kind: BlobKind::MapNode,
            handle: 0,
            chunk: None,
        };
        self.placer
            .place(&sealed.bytes, &sealed.at(PackNo(0), 0), label)
    }

    fn retire(&mut self, _: &BlobAddr) {}

    fn changed(&mut self, _: &[u8], _: bool, _: bool) {}
}
