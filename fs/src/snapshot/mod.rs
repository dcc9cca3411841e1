//! Snapshots: every committed head, until it is thinned out or forgotten.
//!
//! A snapshot is a root in the tree that all heads share; it holds handles only, so packs move under it and it never
//! dangles. The list of snapshots belongs to the newest head. `list` keeps it, `retention` says what goes, `browse`
//! reads the files of one, `diff` compares two. Nothing here frees room: that is for `prune`.

pub(crate) mod browse;
pub(crate) mod diff;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod retention;
