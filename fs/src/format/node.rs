//! Nodes of the B-trees. The filesystem tree refers to its nodes by handle, the map by address.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::error::{Result, VolumeError};

/// Nodes are split when their entries pass this many bytes.
pub(crate) const NODE_BYTES: usize = 32 * 1024;
/// Runs shorter than this draw in their neighbour.
pub(crate) const NODE_BYTES_MIN: usize = NODE_BYTES / 4;

/// One node: sorted by key, no key twice.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum Node<R> {
    /// Keys and values.
    Leaf(Vec<(Vec<u8>, Vec<u8>)>),
    /// The first key under each child (the first of all may be too small), and the child.
    Inner(Vec<(Vec<u8>, R)>),
}

impl<R: BorshSerialize + BorshDeserialize> Node<R> {
    /// Decodes and checks the order of keys.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let node: Self = super::decode("a tree node", bytes)?;
        let sorted = match &node {
            Self::Leaf(entries) => entries.is_sorted_by(|a, b| a.0 < b.0),
            Self::Inner(children) => {
                !children.is_empty() && children.is_sorted_by(|a, b| a.0 < b.0)
            }
        };
        if sorted {
            Ok(node)
        } else {
            Err(VolumeError::damaged("a tree node"))
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        super::encode("a tree node", self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn nodes_out_of_order_are_refused() {
        let good = Node::<u64>::Inner(vec![(vec![1], 5), (vec![2], 6)]);
        assert_eq!(Node::decode(&good.encode().unwrap()).unwrap(), good);
        let bad = Node::<u64>::Leaf(vec![(vec![2], vec![]), (vec![1], vec![])]);
        assert!(Node::<u64>::decode(&bad.encode().unwrap()).is_err());
        assert!(Node::<u64>::decode(&[1, 0, 0, 0, 0]).is_err());
        assert!(Node::<u64>::decode(&[0, 255, 255, 255, 255]).is_err());
    }
}
