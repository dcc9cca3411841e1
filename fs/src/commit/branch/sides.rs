//! The rows of two trees side by side: our changes, and a head's whole tree.

use std::iter::Peekable;

use crate::error::Result;
use crate::format::head::Head;
use crate::format::key::{self, KeyBytes, SPACE_TREE};
use crate::tree::nodes::TreeView;
use crate::tree::scan;
use crate::tree::update::Change;
use crate::volume::Volume;

/// A key with what we made of it, if anything, and what it is on the newest head.
pub(super) struct Row {
    pub key: KeyBytes,
    pub ours: Option<Option<Vec<u8>>>,
    pub theirs: Option<Vec<u8>>,
}

impl Row {
    /// What would stand without a fix.
    pub(super) fn overlaid(&self) -> &Option<Vec<u8>> {
        self.ours.as_ref().unwrap_or(&self.theirs)
    }
}

/// What both say of each key, in order.
pub(super) struct Sides<O: Iterator<Item = Result<Change>>, T: Iterator<Item = Result<Change>>> {
    ours: Peekable<O>,
    theirs: Peekable<T>,
}

fn key_of(peeked: Option<&Result<Change>>) -> Result<Option<&KeyBytes>> {
    match peeked {
        None => Ok(None),
        Some(Ok((key, _))) => Ok(Some(key)),
        Some(Err(error)) => Err(error.clone()),
    }
}

impl<O: Iterator<Item = Result<Change>>, T: Iterator<Item = Result<Change>>> Sides<O, T> {
    pub(super) fn new(ours: O, theirs: T) -> Self {
        Self {
            ours: ours.peekable(),
            theirs: theirs.peekable(),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let (left, right) = (key_of(self.ours.peek())?, key_of(self.theirs.peek())?);
        let (take_ours, take_theirs) = match (left, right) {
            (None, None) => return Ok(None),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(left), Some(right)) => (left <= right, right <= left),
        };
        let ours = take_ours.then(|| self.ours.next()).flatten().transpose()?;
        let theirs = take_theirs.then(|| self.theirs.next()).flatten();
        let theirs = theirs.transpose()?;
        let (key, ours) = match ours {
            Some((key, value)) => (Some(key), Some(value)),
            None => (None, None),
        };
        let (key, theirs) = match theirs {
            Some((other, value)) => (key.or(Some(other)), value),
            None => (key, None),
        };
        Ok(key.map(|key| Row { key, ours, theirs }))
    }
}

/// Every row of a head's tree, a page at a time.
pub(super) struct TreeRows<'a> {
    view: TreeView<'a>,
    range: std::ops::Range<Vec<u8>>,
    page: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    done: bool,
}

/// Rows of a tree read at once.
const PAGE: usize = 2048;

impl<'a> TreeRows<'a> {
    pub(super) fn new(volume: &'a Volume, head: &'a Head) -> Self {
        Self {
            view: TreeView {
                nodes: &volume.space.nodes,
                head,
            },
            range: key::space(SPACE_TREE),
            page: Vec::new().into_iter(),
            done: head.tree.is_none(),
        }
    }

    fn refill(&mut self) -> Result<()> {
        let Some(root) = self.view.head.tree.map(|root| root.handle) else {
            return Ok(());
        };
        let page = scan(&self.view, &root, &self.range, PAGE)?;
        self.done = page.len() < PAGE;
        if let Some((last, _)) = page.last() {
            self.range.start.clone_from(last);
            self.range.start.push(0);
        }
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for TreeRows<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.page.next() {
                return Some(Ok((key, Some(value))));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.refill() {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}
