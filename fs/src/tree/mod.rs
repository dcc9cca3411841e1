//! The immutable B-tree: lookups and scans here, rebuilding in `update`, the overlay of changes that no commit has
//! written yet in `overlay`, and both merged in `space`.
//!
//! A node is never changed once stored. Whoever holds a root sees one state for ever.

mod builder;
mod index;
pub(crate) mod nodes;
pub(crate) mod overlay;
pub(crate) mod space;
pub(crate) mod update;

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::format::node::Node;

/// Gives nodes by reference.
pub(crate) trait NodeSource<R> {
    fn load(&self, at: &R) -> Result<Arc<Node<R>>>;
}

/// A pair of the tree.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Trees are never deeper: a hostile cycle ends here.
const DEPTH_MAX: usize = 24;

fn too_deep() -> crate::VolumeError {
    crate::VolumeError::damaged("the shape of a tree")
}

/// The child that covers `key`.
fn child_at<R>(children: &[(Vec<u8>, R)], key: &[u8]) -> usize {
    children
        .partition_point(|(first, _)| first.as_slice() <= key)
        .saturating_sub(1)
}

/// The value of a key.
pub(crate) fn get<R: Clone>(
    source: &impl NodeSource<R>,
    root: &R,
    key: &[u8],
) -> Result<Option<Vec<u8>>> {
    let mut at = root.clone();
    for _ in 0..DEPTH_MAX {
        let node = source.load(&at)?;
        match &*node {
            Node::Leaf(entries) => {
                let found = entries.binary_search_by(|(probe, _)| probe.as_slice().cmp(key));
                return Ok(found
                    .ok()
                    .and_then(|i| entries.get(i))
                    .map(|(_, value)| value.clone()));
            }
            Node::Inner(children) => match children.get(child_at(children, key)) {
                Some((_, child)) => at = child.clone(),
                None => return Err(too_deep()),
            },
        }
    }
    Err(too_deep())
}

/// Up to `limit` pairs with keys in `range`, in order.
pub(crate) fn scan<R: Clone>(
    source: &impl NodeSource<R>,
    root: &R,
    range: &Range<Vec<u8>>,
    limit: usize,
) -> Result<Vec<Pair>> {
    let mut found = Vec::new();
    descend(source, root, range, (limit, DEPTH_MAX), &mut found)?;
    Ok(found)
}

fn descend<R: Clone>(
    source: &impl NodeSource<R>,
    at: &R,
    range: &Range<Vec<u8>>,
    (limit, depth): (usize, usize),
    found: &mut Vec<Pair>,
) -> Result<()> {
    if depth == 0 {
        return Err(too_deep());
    }
    let node = source.load(at)?;
    match &*node {
        Node::Leaf(entries) => {
            let from = entries.partition_point(|(key, _)| *key < range.start);
            let within = entries
                .iter()
                .skip(from)
                .take_while(|(key, _)| *key < range.end);
            found.extend(within.take(limit - found.len()).cloned());
        }
        Node::Inner(children) => {
            let first = child_at(children, &range.start);
            for (at, (key, child)) in children.iter().enumerate().skip(first) {
                if found.len() >= limit || (at > first && *key >= range.end) {
                    break;
                }
                descend(source, child, range, (limit, depth - 1), found)?;
            }
        }
    }
    Ok(())
}
