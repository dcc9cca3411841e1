//! A table of the state: rows by key, shared with frozen copies until they change, and which of them changed.
//!
//! Every way to change a row notes its key, so no rule of the ledger can change the state behind the back of its
//! digest. Cloning shares the rows: a frozen copy costs a reference each, and later what changes meanwhile.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ops::RangeInclusive;

/// Rows `V` by key `K`.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, Arc<V>>,
    changed: BTreeSet<K>,
    /// The key noted last: commands of one issuer come in runs.
    last_changed: Option<K>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            rows: BTreeMap::new(),
            changed: BTreeSet::new(),
            last_changed: None,
        }
    }
}

impl<K: Ord + Copy, V: Clone> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key).map(Arc::as_ref)
    }

    /// A row to change; counts as changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let row = self.rows.get_mut(key)?;
        if self.last_changed.as_ref() != Some(key) {
            self.changed.insert(*key);
            self.last_changed = Some(*key);
        }
        Some(Arc::make_mut(row))
    }

    /// A row to change, made if it is not there.
    pub(crate) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if self.last_changed != Some(key) {
            self.changed.insert(key);
            self.last_changed = Some(key);
        }
        Arc::make_mut(self.rows.entry(key).or_default())
    }

    pub(crate) fn insert(&mut self, key: K, row: V) -> Option<V> {
        self.changed.insert(key);
        self.rows
            .insert(key, Arc::new(row))
            .map(Arc::unwrap_or_clone)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let row = self.rows.remove(key)?;
        self.changed.insert(*key);
        Some(Arc::unwrap_or_clone(row))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter().map(|(key, row)| (key, row.as_ref()))
    }

    pub(crate) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range(keys).map(|(key, row)| (key, row.as_ref()))
    }

    /// The keys of rows that were changed, made or removed since the last call, ascending.
    pub(crate) fn take_changed(&mut self) -> impl Iterator<Item = K> + use<K, V> {
        self.last_changed = None;
        core::mem::take(&mut self.changed).into_iter()
    }
}
