//! Streams of sorted changes, made one; and the locations that a prune found dead, as such a stream.

use std::iter::Peekable;
use std::sync::Arc;

use super::orders::Sweep;
use crate::error::Result;
use crate::format::head::Head;
use crate::format::key::{self, SPACE_MAP};
use crate::tree::nodes::MapView;
use crate::tree::scan;
use crate::tree::update::Change;
use crate::volume::Volume;

/// Two sorted streams in one order. Of equal keys the left one counts.
pub(crate) struct Merged<L: Iterator<Item = Result<Change>>, R: Iterator<Item = Result<Change>>> {
    left: Peekable<L>,
    right: Peekable<R>,
}

impl<L: Iterator<Item = Result<Change>>, R: Iterator<Item = Result<Change>>> Merged<L, R> {
    pub(crate) fn new(left: L, right: R) -> Self {
        Self {
            left: left.peekable(),
            right: right.peekable(),
        }
    }
}

impl<L: Iterator<Item = Result<Change>>, R: Iterator<Item = Result<Change>>> Iterator
    for Merged<L, R>
{
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.left.peek(), self.right.peek()) {
            (Some(Err(_)), _) | (_, None) => self.left.next(),
            (_, Some(Err(_))) | (None, _) => self.right.next(),
            (Some(Ok(left)), Some(Ok(right))) => match left.0.cmp(&right.0) {
                std::cmp::Ordering::Less => self.left.next(),
                std::cmp::Ordering::Greater => self.right.next(),
                std::cmp::Ordering::Equal => {
                    self.right.next();
                    self.left.next()
                }
            },
        }
    }
}

/// Locations read at once.
const PAGE: usize = 2048;

/// The deletions that a sweep asks for, one page of the map at a time.
pub(crate) struct Dead<'a> {
    volume: &'a Volume,
    head: &'a Head,
    sweep: Option<Arc<Sweep>>,
    from: Vec<u8>,
    page: std::vec::IntoIter<Vec<u8>>,
}

impl Dead<'_> {
    /// Reads the next page; `false` at the end.
    fn refill(&mut self) -> Result<bool> {
        let (Some(sweep), Some(root)) = (&self.sweep, &self.head.map) else {
            return Ok(false);
        };
        let view = MapView {
            nodes: &self.volume.space.nodes,
        };
        let range = self.from.clone()..key::space(SPACE_MAP).end;
        let page = scan(&view, root, &range, PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(false);
        };
        self.from.clone_from(last);
        self.from.push(0);
        let keys = page.into_iter().map(|(key, _)| key);
        let dead =
            keys.filter(|key| key::last_number(key).is_some_and(|handle| sweep.is_dead(handle)));
        self.page = dead.collect::<Vec<_>>().into_iter();
        Ok(true)
    }
}

impl Iterator for Dead<'_> {
    type Item = Result<Change>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok((key, None)));
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.sweep = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Volume {
    /// Deletions of the locations under `head` that `sweep` finds dead.
    pub(crate) fn dead_locations<'a>(
        &'a self,
        head: &'a Head,
        sweep: Option<&Arc<Sweep>>,
    ) -> Dead<'a> {
        Dead {
            volume: self,
            head,
            sweep: sweep.cloned(),
            from: key::space(SPACE_MAP).start,
            page: Vec::new().into_iter(),
        }
    }
}
