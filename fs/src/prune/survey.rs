//! What the location map and the list of snapshots of a head mention: bytes in use of each pack.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::commit::orders::{Move, Sweep};
use crate::error::{Result, VolumeError};
use crate::format::blob::BlobAddr;
use crate::format::decode;
use crate::format::head::Head;
use crate::format::key;
use crate::format::node::Node;
use crate::store::PackNo;
use crate::tree::NodeSource;
use crate::tree::nodes::MapView;
use crate::volume::Volume;

impl Volume {
    /// Hands every node of a tree of addresses to `visit`, each before its children, in order.
    fn walk(
        &self,
        root: Option<&BlobAddr>,
        visit: &mut dyn FnMut(&BlobAddr, &Node<BlobAddr>) -> Result<()>,
    ) -> Result<()> {
        let view = MapView {
            nodes: &self.space.nodes,
        };
        let mut todo: Vec<BlobAddr> = root.copied().into_iter().collect();
        while let Some(addr) = todo.pop() {
            self.check_pruning()?;
            let node = view.load(&addr)?;
            visit(&addr, &node)?;
            if let Node::Inner(children) = &*node {
                todo.extend(children.iter().rev().map(|(_, child)| *child));
            }
        }
        Ok(())
    }

    /// Bytes in use of every pack that `head` mentions; what `sweep` finds dead is left out.
    pub(super) fn survey(
        &self,
        head: &Head,
        sweep: Option<&Arc<Sweep>>,
    ) -> Result<HashMap<PackNo, u64>> {
        let mut used: HashMap<PackNo, u64> = HashMap::new();
        let count = |used: &mut HashMap<PackNo, u64>, addr: &BlobAddr| {
            *used.entry(addr.pack).or_default() += u64::from(addr.len);
        };
        self.walk(head.map.as_ref(), &mut |addr, node| {
            count(&mut used, addr);
            let Node::Leaf(pairs) = node else {
                return Ok(());
            };
            for (key, value) in pairs {
                let handle =
                    key::last_number(key).ok_or_else(|| VolumeError::damaged("a location"))?;
                if !sweep.is_some_and(|sweep| sweep.is_dead(handle)) {
                    count(&mut used, &decode("a location", value)?);
                }
            }
            Ok(())
        })?;
        self.walk(head.snapshots.as_ref(), &mut |addr, _| {
            count(&mut used, addr);
            Ok(())
        })?;
        Ok(used)
    }

    /// Moves that change nothing but have each node of the map that stands in one of `packs` written anew; and whether
    /// the list of snapshots must be.
    pub(super) fn touches(
        &self,
        head: &Head,
        packs: &HashSet<PackNo>,
    ) -> Result<(Vec<Move>, bool)> {
        let mut moves = Vec::new();
        let mut wanted = false;
        self.walk(head.map.as_ref(), &mut |addr, node| {
            wanted |= packs.contains(&addr.pack);
            // Writing a leaf anew writes every node above it anew.
            if let (true, Node::Leaf(pairs)) = (wanted, node)
                && let Some((key, value)) = pairs.first()
            {
                let handle =
                    key::last_number(key).ok_or_else(|| VolumeError::damaged("a location"))?;
                let addr: BlobAddr = decode("a location", value)?;
                moves.push(Move {
                    handle,
                    from: addr,
                    to: addr,
                });
                wanted = false;
            }
            Ok(())
        })?;
        let mut list = false;
        self.walk(head.snapshots.as_ref(), &mut |addr, _| {
            list |= packs.contains(&addr.pack);
            Ok(())
        })?;
        Ok((moves, list))
    }
}
