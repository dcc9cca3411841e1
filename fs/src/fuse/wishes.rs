//! What the mount wishes of the kernel at its start, and what the kernel wishes to be made.

use fuser::{InitFlags, KernelConfig, Request};

use super::convert;
use crate::format::record::Kind;
use crate::ops::names::Create;

/// The largest write, and with it the largest read, in bytes.
const REQUEST_BYTES: u32 = 1 << 20;

/// Asks for what speeds a mount up, as far as this kernel has it.
pub(super) fn tell(config: &mut KernelConfig, read_only: bool) {
    let wanted = [
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_ATOMIC_O_TRUNC,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_DONT_MASK,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    ];
    let writeback = (!read_only).then_some(InitFlags::FUSE_WRITEBACK_CACHE);
    for flag in wanted.into_iter().chain(writeback) {
        if config.add_capabilities(flag).is_err() {
            tracing::debug!(?flag, "the kernel does not offer this");
        }
    }
    // Each answers an excess with what it allows, and keeps its default then.
    let _ = config.set_max_write(REQUEST_BYTES);
    if let Err(most) = config.set_max_readahead(REQUEST_BYTES) {
        let _ = config.set_max_readahead(most);
    }
    let _ = config.set_max_background(64);
}

/// What the kernel asks to be made, for whom.
pub(super) fn wanted(req: &Request, making: Making) -> Create {
    Create {
        kind: making.kind,
        mode: convert::permissions(making.mode),
        umask: convert::permissions(making.umask),
        uid: req.uid(),
        gid: req.gid(),
        rdev: making.rdev,
        target: making.target,
    }
}

/// What the kernel asks to be made.
pub(super) struct Making {
    pub kind: Kind,
    pub mode: u32,
    pub umask: u32,
    pub rdev: u32,
    pub target: Vec<u8>,
}

impl Making {
    pub(super) fn new(kind: Kind, mode: u32, umask: u32) -> Self {
        Self {
            kind,
            mode,
            umask,
            rdev: 0,
            target: Vec::new(),
        }
    }
}
