//! Phase one: which handles the kept heads refer to. A node that several heads share is looked at once.

use roaring::RoaringTreemap;

use super::{PruneProgress, Told};
use crate::commit::orders::Sweep;
use crate::error::{Result, VolumeError};
use crate::format::head::{Head, TreeRoot};
use crate::format::key;
use crate::format::node::Node;
use crate::ops::extents::parse;
use crate::tree::NodeSource;
use crate::tree::nodes::TreeView;
use crate::tree::overlay::Base;
use crate::volume::Volume;

/// Nodes between two tellings of progress.
const TELL: u64 = 256;

impl Volume {
    /// The handles that `base` and every snapshot in its list refer to.
    pub(super) fn mark(&self, base: &Base, progress: Told<'_>) -> Result<Sweep> {
        let mut live = RoaringTreemap::new();
        let mut roots: Vec<u64> = crate::snapshot::list::records(self, &base.head)?
            .into_values()
            .filter_map(|record| record.tree)
            .collect();
        roots.extend(base.head.tree.map(|root| root.handle));
        let mut nodes = 0;
        for root in roots {
            self.mark_tree(&base.head, root, &mut live, &mut |_| {
                nodes += 1;
                if nodes % TELL == 0 {
                    progress(PruneProgress::Marking { nodes });
                }
            })?;
        }
        progress(PruneProgress::Marking { nodes });
        // Every handle in the map of `base` was minted before its head was written.
        Ok(Sweep {
            live,
            below: base.head.counters.handle,
        })
    }

    fn mark_tree(
        &self,
        head: &Head,
        root: u64,
        live: &mut RoaringTreemap,
        seen: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let addr = self.space.nodes.map_get(head, root)?;
        let addr = addr.ok_or_else(|| VolumeError::damaged("the root of a snapshot"))?;
        let under = Head {
            tree: Some(TreeRoot { handle: root, addr }),
            map: head.map,
            ..Head::default()
        };
        let view = TreeView {
            nodes: &self.space.nodes,
            head: &under,
        };
        let mut todo = vec![root];
        while let Some(handle) = todo.pop() {
            // A set node had its whole subtree marked, or stands in `todo`.
            if !live.insert(handle) {
                continue;
            }
            self.check_pruning()?;
            seen(handle);
            match &*view.load(&handle)? {
                Node::Inner(children) => todo.extend(children.iter().map(|(_, child)| *child)),
                Node::Leaf(pairs) => {
                    for (key, value) in pairs.iter().filter(|(key, _)| key::is_extent(key)) {
                        live.insert(parse(key, value)?.1.handle);
                    }
                }
            }
        }
        Ok(())
    }
}
