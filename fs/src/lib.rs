//! The encrypted volume of barfs.

mod store;

pub use store::{
    Batch, GroupHead, HEAD_BYTES_MAX, OverlayStore, PackInfo, PackNo, PackStore, Space, StoreError,
    VolumeId,
};
