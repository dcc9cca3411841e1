//! Filling the nodes of a new tree from the left, one node a level. Pure but for the sink that stores what is full.

use super::update::NodeSink;
use crate::error::Result;
use crate::format::node::{NODE_BYTES, NODE_BYTES_MIN, Node};

/// What is being collected on one level above the leaves.
struct Level<R> {
    children: Vec<(Vec<u8>, R)>,
    bytes: usize,
    /// The node that is being filled ends before it passes this many bytes.
    limit: usize,
    emitted: bool,
}

/// See the module.
pub(super) struct Builder<'a, R, S> {
    pub(super) sink: &'a mut S,
    leaf: Vec<(Vec<u8>, Vec<u8>)>,
    leaf_bytes: usize,
    /// The leaf that is being filled ends before it passes this many bytes.
    leaf_limit: usize,
    /// `levels[0]` stands right above the leaves.
    levels: Vec<Level<R>>,
}

fn entry_bytes(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + 8
}

fn child_bytes(first: &[u8]) -> usize {
    first.len() + 64
}

/// Where to end a node so that `bytes`, if they are too many for one, become two of about the same length.
fn even(bytes: usize) -> usize {
    if bytes > NODE_BYTES {
        bytes.div_ceil(2)
    } else {
        NODE_BYTES
    }
}

impl<'a, R: Clone, S: NodeSink<R>> Builder<'a, R, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self {
            sink,
            leaf: Vec::new(),
            leaf_bytes: 0,
            leaf_limit: NODE_BYTES,
            levels: Vec::new(),
        }
    }

    /// Adds a pair; keys ascend.
    pub(super) fn push_entry(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<()> {
        let bytes = entry_bytes(&key, &value);
        if self.leaf_bytes + bytes > self.leaf_limit {
            self.close_leaf()?;
        }
        self.leaf_bytes += bytes;
        self.leaf.push((key, value));
        Ok(())
    }

    fn close_leaf(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.leaf);
        self.leaf_bytes = 0;
        self.leaf_limit = NODE_BYTES;
        let Some((first, _)) = entries.first() else {
            return Ok(());
        };
        let first = first.clone();
        let stored = self.sink.store(Node::Leaf(entries))?;
        self.push_child(0, first, stored)
    }

    fn push_child(&mut self, level: usize, first: Vec<u8>, child: R) -> Result<()> {
        while self.levels.len() <= level {
            self.levels.push(Level {
                children: Vec::new(),
                bytes: 0,
                limit: NODE_BYTES,
                emitted: false,
            });
        }
        let bytes = child_bytes(&first);
        if self
            .levels
            .get(level)
            .is_some_and(|at| at.bytes + bytes > at.limit)
        {
            self.close_level(level)?;
        }
        if let Some(at) = self.levels.get_mut(level) {
            at.bytes += bytes;
            at.children.push((first, child));
        }
        Ok(())
    }

    fn close_level(&mut self, level: usize) -> Result<()> {
        let Some(at) = self.levels.get_mut(level) else {
            return Ok(());
        };
        let children = std::mem::take(&mut at.children);
        at.bytes = 0;
        at.limit = NODE_BYTES;
        let Some((first, _)) = children.first() else {
            return Ok(());
        };
        at.emitted = true;
        let first = first.clone();
        let stored = self.sink.store(Node::Inner(children))?;
        self.push_child(level + 1, first, stored)
    }

    /// Whether everything below a subtree of `height` can be closed without leaving a stub.
    pub(super) fn can_close_below(&self, height: usize) -> bool {
        let long = |bytes: usize| bytes == 0 || bytes >= NODE_BYTES_MIN;
        long(self.leaf_bytes)
            && self
                .levels
                .iter()
                .take(height)
                .all(|level| long(level.bytes))
    }

    /// What is left of the node before and the untouched `node`, of `height`, are to become nodes of about one length.
    pub(super) fn share_evenly(&mut self, node: &Node<R>, height: usize) {
        match node {
            Node::Leaf(entries) => {
                let more = entries.iter().map(|(key, value)| entry_bytes(key, value));
                self.leaf_limit = even(self.leaf_bytes + more.sum::<usize>());
            }
            Node::Inner(children) => {
                let level = height.checked_sub(1).and_then(|at| self.levels.get_mut(at));
                if let Some(level) = level {
                    let more = children.iter().map(|(first, _)| child_bytes(first));
                    level.limit = even(level.bytes + more.sum::<usize>());
                }
            }
        }
    }

    /// Takes over an untouched subtree of `height` levels above its leaves.
    pub(super) fn take_over(&mut self, height: usize, first: Vec<u8>, subtree: R) -> Result<()> {
        self.close_leaf()?;
        for level in 0..height {
            self.close_level(level)?;
        }
        self.push_child(height, first, subtree)
    }

    /// Ends the tree; its root.
    pub(super) fn finish(mut self) -> Result<Option<R>> {
        self.close_leaf()?;
        let mut level = 0;
        loop {
            let top = level + 1 == self.levels.len();
            let Some(at) = self.levels.get_mut(level) else {
                return Ok(None);
            };
            if top && !at.emitted && at.children.len() <= 1 {
                return Ok(at.children.pop().map(|(_, root)| root));
            }
            self.close_level(level)?;
            level += 1;
        }
    }
}
