//! Reads nodes of the committed trees: through a bounded cache of decoded nodes, then through the packs.

use std::ops::Range;
use std::sync::Arc;

use super::{NodeSource, Pair, get, scan};
use crate::cache::ByteLru;
use crate::error::Result;
use crate::format::blob::{BlobAddr, BlobKind};
use crate::format::head::{Head, TreeRoot};
use crate::format::key;
use crate::format::node::Node;
use crate::pack::reader::Reader;

/// See the module.
pub(crate) struct Nodes {
    reader: Arc<Reader>,
    tree: ByteLru<u64, Arc<Node<u64>>>,
    map: ByteLru<BlobAddr, Arc<Node<BlobAddr>>>,
}

impl Nodes {
    /// Keeps at most `bytes` of decoded nodes.
    pub(crate) fn new(reader: Arc<Reader>, bytes: usize) -> Self {
        Self {
            reader,
            tree: ByteLru::new(bytes / 2),
            map: ByteLru::new(bytes / 2),
        }
    }

    pub(crate) fn tree_get(&self, head: &Head, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match &head.tree {
            Some(root) => get(&TreeView { nodes: self, head }, &root.handle, key),
            None => Ok(None),
        }
    }

    pub(crate) fn tree_scan(
        &self,
        head: &Head,
        range: &Range<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Pair>> {
        match &head.tree {
            Some(root) => scan(&TreeView { nodes: self, head }, &root.handle, range, limit),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn map_get(&self, head: &Head, handle: u64) -> Result<Option<BlobAddr>> {
        let Some(root) = &head.map else {
            return Ok(None);
        };
        let found = get(&MapView { nodes: self }, root, &key::location(handle))?;
        found
            .map(|bytes| crate::format::decode("a location", &bytes))
            .transpose()
    }

    /// Forgets every decoded node.
    pub(crate) fn clear(&self) {
        self.tree.clear();
        self.map.clear();
    }
}

/// The filesystem tree under one head.
pub(crate) struct TreeView<'a> {
    pub nodes: &'a Nodes,
    pub head: &'a Head,
}

impl NodeSource<u64> for TreeView<'_> {
    fn load(&self, handle: &u64) -> Result<Arc<Node<u64>>> {
        if let Some(node) = self.nodes.tree.get(handle) {
            return Ok(node);
        }
        let addr = match self.head.tree {
            Some(TreeRoot { handle: root, addr }) if root == *handle => addr,
            _ => self.nodes.map_get(self.head, *handle)?.ok_or_else(|| {
                crate::VolumeError::damaged(format!("the location map (no node {handle})"))
            })?,
        };
        let bytes = self.nodes.reader.read(BlobKind::TreeNode, &addr)?;
        let node = Arc::new(Node::decode(&bytes)?);
        self.nodes.tree.put(*handle, node.clone(), bytes.len() * 2);
        Ok(node)
    }
}

/// The location map; its nodes know each other by address.
pub(crate) struct MapView<'a> {
    pub nodes: &'a Nodes,
}

impl NodeSource<BlobAddr> for MapView<'_> {
    fn load(&self, addr: &BlobAddr) -> Result<Arc<Node<BlobAddr>>> {
        if let Some(node) = self.nodes.map.get(addr) {
            return Ok(node);
        }
        let bytes = self.nodes.reader.read(BlobKind::MapNode, addr)?;
        let node = Arc::new(Node::decode(&bytes)?);
        self.nodes.map.put(*addr, node.clone(), bytes.len() * 2);
        Ok(node)
    }
}
