//! Rebuilding a tree with a sorted stream of changes: untouched subtrees are kept, touched nodes are written anew.
//!
//! Levels are built from the left. A subtree that no change touches is taken over whole, unless what stands left of
//! it is too short to be a node: then it is opened, so that nodes grow together again after deletions, and shared with it
//! evenly: else a full node would hand on as short a rest to the next, to the end of the tree. Memory is one node per
//! level.

use std::iter::Peekable;
use std::sync::Arc;

use super::builder::Builder;
use super::{DEPTH_MAX, NodeSource, too_deep};
use crate::error::Result;
use crate::format::node::Node;

/// Takes finished nodes, and hears what became of old ones.
pub(crate) trait NodeSink<R> {
    /// Stores a node for ever.
    fn store(&mut self, node: Node<R>) -> Result<R>;
    /// The new tree no longer refers to this node.
    fn retire(&mut self, at: &R);
    /// A key was present before, is present after.
    fn changed(&mut self, key: &[u8], before: bool, after: bool);
}

/// One change: a key and its new value, `None` to delete.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

struct Walk<'a, R, S, N, I: Iterator<Item = Result<Change>>> {
    builder: Builder<'a, R, S>,
    source: &'a N,
    changes: Peekable<I>,
}

impl<R, S, N, I> Walk<'_, R, S, N, I>
where
    R: Clone,
    S: NodeSink<R>,
    N: NodeSource<R>,
    I: Iterator<Item = Result<Change>>,
{
    /// The next change below `upper`.
    fn next_below(&mut self, upper: Option<&[u8]>) -> Result<Option<Change>> {
        match self.changes.peek() {
            None => Ok(None),
            Some(Ok((key, _))) if upper.is_some_and(|upper| key.as_slice() >= upper) => Ok(None),
            Some(_) => self.changes.next().transpose(),
        }
    }

    fn touched(&mut self, upper: Option<&[u8]>) -> bool {
        match self.changes.peek() {
            None => false,
            Some(Err(_)) => true,
            Some(Ok((key, _))) => upper.is_none_or(|upper| key.as_slice() < upper),
        }
    }

    fn subtree(&mut self, at: &R, first: &[u8], height: usize, upper: Option<&[u8]>) -> Result<()> {
        let untouched = !self.touched(upper);
        if untouched && self.builder.can_close_below(height) {
            return self.builder.take_over(height, first.to_vec(), at.clone());
        }
        let node = self.source.load(at)?;
        self.builder.sink.retire(at);
        if untouched {
            self.builder.share_evenly(&node, height);
        }
        match (&*node, height.checked_sub(1)) {
            (Node::Leaf(entries), None) => self.leaf(entries, upper),
            (Node::Inner(children), Some(below)) => {
                for (i, (key, child)) in children.iter().enumerate() {
                    let next = children.get(i + 1).map(|(key, _)| key.as_slice()).or(upper);
                    self.subtree(child, key, below, next)?;
                }
                Ok(())
            }
            _ => Err(too_deep()),
        }
    }

    fn leaf(&mut self, entries: &[(Vec<u8>, Vec<u8>)], upper: Option<&[u8]>) -> Result<()> {
        for (key, value) in entries {
            self.insert_below(Some(key))?;
            let changed = matches!(self.changes.peek(), Some(Ok((changed, _))) if changed == key);
            if !changed {
                self.builder.push_entry(key.clone(), value.clone())?;
                continue;
            }
            if let Some((_, new)) = self.changes.next().transpose()? {
                self.builder.sink.changed(key, true, new.is_some());
                if let Some(new) = new {
                    self.builder.push_entry(key.clone(), new)?;
                }
            }
        }
        self.insert_below(upper)
    }

    /// Inserts new keys that come before `upper`.
    fn insert_below(&mut self, upper: Option<&[u8]>) -> Result<()> {
        while let Some((key, value)) = self.next_below(upper)? {
            if let Some(value) = value {
                self.builder.sink.changed(&key, false, true);
                self.builder.push_entry(key, value)?;
            }
        }
        Ok(())
    }
}

fn height<R: Clone>(source: &impl NodeSource<R>, root: &R) -> Result<usize> {
    let mut at = root.clone();
    for height in 0..DEPTH_MAX {
        let node: Arc<Node<R>> = source.load(&at)?;
        match &*node {
            Node::Leaf(_) => return Ok(height),
            Node::Inner(children) => match children.first() {
                Some((_, child)) => at = child.clone(),
                None => return Err(too_deep()),
            },
        }
    }
    Err(too_deep())
}

/// Applies changes, sorted by key and no key twice, to a tree. `None` is the empty tree.
pub(crate) fn apply<R: Clone, S: NodeSink<R>, N: NodeSource<R>>(
    source: &N,
    sink: &mut S,
    root: Option<&R>,
    changes: impl Iterator<Item = Result<Change>>,
) -> Result<Option<R>> {
    let builder = Builder::new(sink);
    let mut walk = Walk {
        builder,
        source,
        changes: changes.peekable(),
    };
    match root {
        Some(root) => {
            let height = height(source, root)?;
            walk.subtree(root, &[], height, None)?;
        }
        None => walk.insert_below(None)?,
    }
    walk.builder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::super::{get, scan};
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::{BTreeMap, HashMap};

    /// Keeps nodes in memory. Faults: none; a node retired and asked for again panics the test.
    #[derive(Default)]
    struct Store {
        nodes: RefCell<HashMap<u64, Arc<Node<u64>>>>,
        stored: u64,
        delta: i64,
    }
    struct View<'a>(&'a HashMap<u64, Arc<Node<u64>>>);
    impl NodeSource<u64> for View<'_> {
        fn load(&self, at: &u64) -> Result<Arc<Node<u64>>> {
            Ok(self.0[at].clone())
        }
    }
    impl NodeSink<u64> for Store {
        fn store(&mut self, node: Node<u64>) -> Result<u64> {
            self.stored += 1;
            let bytes = node.encode()?;
            let node = Node::decode(&bytes)?;
            self.nodes.get_mut().insert(self.stored, Arc::new(node));
            Ok(self.stored)
        }
        fn retire(&mut self, at: &u64) {
            assert!(self.nodes.get_mut().remove(at).is_some(), "retired twice");
        }
        fn changed(&mut self, _: &[u8], before: bool, after: bool) {
            self.delta += i64::from(after) - i64::from(before);
        }
    }

    fn run(rounds: Vec<BTreeMap<u16, Option<u16>>>) {
        let mut store = Store::default();
        let mut root = None;
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for round in rounds {
            let changes: Vec<Change> = round
                .into_iter()
                .map(|(key, value)| {
                    let len = value.map(|value| usize::from(value % 700));
                    (
                        key.to_be_bytes().to_vec(),
                        len.map(|len| vec![key as u8; len]),
                    )
                })
                .collect();
            for (key, value) in &changes {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let before = store.nodes.borrow().clone();
            root = apply(
                &View(&before),
                &mut store,
                root.as_ref(),
                changes.into_iter().map(Ok),
            )
            .unwrap();
            let nodes = store.nodes.borrow().clone();
            let all = vec![]..vec![0xff; 3];
            let found = match &root {
                Some(root) => scan(&View(&nodes), root, &all, usize::MAX).unwrap(),
                None => vec![],
            };
            assert!(found.iter().map(|(k, v)| (k, v)).eq(model.iter()));
            assert_eq!(store.delta, model.len() as i64);
            if let (Some(root), Some((key, value))) = (&root, model.iter().next()) {
                assert_eq!(get(&View(&nodes), root, key).unwrap().as_ref(), Some(value));
                let few = scan(&View(&nodes), root, &(key.clone()..vec![0xff; 3]), 3).unwrap();
                assert_eq!(few.len(), model.len().min(3));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_tree_holds_what_a_map_holds(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map(0u16..2000, proptest::option::weighted(0.6, any::<u16>()), 0..900),
                1..8,
            )
        ) {
            run(rounds);
        }
    }

    #[test]
    fn one_change_rewrites_one_path_and_deleting_all_leaves_nothing() {
        let mut store = Store::default();
        let many = (0..50_000u32).map(|n| Ok((n.to_be_bytes().to_vec(), Some(vec![1; 40]))));
        let root = apply(&View(&HashMap::new()), &mut store, None, many).unwrap();
        let before = store.nodes.borrow().clone();
        let stored = store.stored;
        assert!(before.len() > 70);
        let one = std::iter::once(Ok((7000u32.to_be_bytes().to_vec(), Some(vec![2; 40]))));
        let root = apply(&View(&before), &mut store, root.as_ref(), one).unwrap();
        assert!(
            store.stored - stored <= 4,
            "wrote {} nodes",
            store.stored - stored
        );
        let nodes = store.nodes.borrow().clone();
        let none = (0..50_000u32).map(|n| Ok((n.to_be_bytes().to_vec(), None)));
        let root = apply(&View(&nodes), &mut store, root.as_ref(), none).unwrap();
        assert!(root.is_none() && store.nodes.borrow().is_empty());
    }

    /// Nodes that were filled in order are full. One key more must not move what stands in all that follow.
    #[test]
    fn an_insertion_into_a_full_tree_rewrites_a_few_nodes() {
        let mut store = Store::default();
        let key = |n: u32| (n * 2).to_be_bytes().to_vec();
        let many = (0..400_000u32).map(|n| Ok((key(n), Some(vec![1; 40 + n as usize % 7]))));
        let mut root = apply(&View(&HashMap::new()), &mut store, None, many).unwrap();
        let mut most = 0;
        for n in 0..60u32 {
            let before = store.nodes.borrow().clone();
            let stored = store.stored;
            let new = (n * 13_001 + 1).to_be_bytes().to_vec();
            let one = std::iter::once(Ok((new, Some(vec![2; 60]))));
            root = apply(&View(&before), &mut store, root.as_ref(), one).unwrap();
            most = most.max(store.stored - stored);
        }
        assert!(most <= 10, "one insertion wrote {most} nodes");
        assert!(store.nodes.borrow().len() > 500);
    }
}
