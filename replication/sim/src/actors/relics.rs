//! What a liar answers with instead of what it has: things that were right once. Certificates that have successors, heads
//! of snapshots that nobody fetches any more, the beginning of the chain of hand-overs, and, to a member that lost its
//! disk, an old block as the newest.
//!
//! Nothing here is forged, so nothing here fails a check: whoever is told must not fall back behind what it knows.

use super::Machine;
use crate::rng::Rng;
use barfs_replication::{Control, MemberId};
use std::collections::BTreeMap;

/// Of each kind, the oldest are kept.
const KEPT: usize = 6;

/// What this liar has said, the first of each kind.
#[derive(Default)]
pub(super) struct Relics {
    said: BTreeMap<u8, Vec<Control>>,
}

/// The kinds that stay right for a while and are not bound to a question.
fn kind(control: &Control) -> Option<u8> {
    match control {
        Control::Vote(_) => Some(0),
        // One may be shown for the other: both are certificates.
        Control::Certificate(_) | Control::Pruned(_) => Some(1),
        Control::Head { .. } => Some(2),
        Control::Buckets { .. } => Some(3),
        Control::Handovers { .. } => Some(4),
        _ => None,
    }
}

impl Relics {
    /// What goes to `to` instead of this; `None` where there is nothing older.
    pub(super) fn instead(
        &mut self,
        machine: &Machine,
        to: MemberId,
        control: &Control,
        rng: &mut Rng,
    ) -> Option<Control> {
        if let Control::Newest { nonce, .. } = control {
            let oldest = |author: MemberId| {
                let mut of = machine.disk.blocks();
                let found = of.find(|block| block.reference().author == author)?;
                Some(found.bytes().to_vec())
            };
            return Some(Control::Newest {
                nonce: *nonce,
                newest: oldest(machine.id),
                yours: oldest(to).filter(|_| rng.per_mille(500)),
            });
        }
        let said = self.said.entry(kind(control)?).or_default();
        let older = rng.pick(said).filter(|older| *older != control).cloned();
        if said.len() < KEPT && !said.contains(control) {
            said.push(control.clone());
        }
        let mut older = older?;
        match (&mut older, control) {
            // Under the name of what was asked for.
            (
                Control::Buckets {
                    checkpoint, from, ..
                },
                Control::Buckets {
                    checkpoint: asked,
                    from: first,
                    ..
                },
            ) => (*checkpoint, *from) = (*asked, *first),
            (Control::Handovers { handovers }, _) => handovers.truncate(1),
            _ => {}
        }
        Some(older)
    }

    /// Something that it has said before, to be said to somebody who did not ask.
    pub(super) fn any(&self, rng: &mut Rng) -> Option<Control> {
        let said: Vec<&Control> = self.said.values().flatten().collect();
        let older = rng.pick(&said).map(|control| (*control).clone())?;
        Some(match older {
            Control::Certificate(certificate) if rng.per_mille(500) => Control::Pruned(certificate),
            other => other,
        })
    }
}
