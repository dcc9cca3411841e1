//! The group as it was founded, and who sits in it now, as far as this node's replica knows.
//!
//! The replica decides what the rosters are; this room only lets everybody else look them up without asking the thread
//! that owns it. Keys of the newest few epochs are known, so that whoever is a little behind, or has just left, is still
//! served.

use std::sync::Arc;

use barfs_crypto::NodeId;
use barfs_replication::{Genesis, GroupId, MemberCard, MemberId};
use parking_lot::RwLock;

/// See the module.
pub struct Rosters {
    founding: Arc<Genesis>,
    known: RwLock<Known>,
}

/// What is known at one moment.
#[derive(Clone)]
struct Known {
    /// The one that the replica works under.
    present: Arc<Genesis>,
    /// The newest few, the present one among them, oldest first.
    all: Arc<[Arc<Genesis>]>,
}

impl Rosters {
    /// A group of which nothing but its founding is known.
    pub fn new(founding: Arc<Genesis>) -> Self {
        let known = Known {
            present: Arc::clone(&founding),
            all: Arc::from([Arc::clone(&founding)]),
        };
        Self {
            founding,
            known: RwLock::new(known),
        }
    }

    /// The group as it was founded.
    pub fn founding(&self) -> &Arc<Genesis> {
        &self.founding
    }

    /// The group's id.
    pub fn group(&self) -> GroupId {
        self.founding.group_id()
    }

    /// The group under the roster that the replica works under.
    pub fn present(&self) -> Arc<Genesis> {
        Arc::clone(&self.known.read().present)
    }

    /// The newest rosters, oldest first: blocks may be of any of them.
    pub fn all(&self) -> Arc<[Arc<Genesis>]> {
        Arc::clone(&self.known.read().all)
    }

    /// What the replica knows now.
    pub fn set(&self, present: Arc<Genesis>, all: Vec<Arc<Genesis>>) {
        *self.known.write() = Known {
            present,
            all: all.into(),
        };
    }

    /// Whose node key this is, in any of the newest rosters.
    pub fn member_of(&self, key: NodeId) -> Option<MemberId> {
        let all = self.all();
        all.iter().rev().find_map(|roster| roster.member_of(key))
    }

    /// A member's newest card.
    pub fn card(&self, member: MemberId) -> Option<MemberCard> {
        let all = self.all();
        all.iter()
            .rev()
            .find_map(|roster| roster.member(member).cloned())
    }
}
