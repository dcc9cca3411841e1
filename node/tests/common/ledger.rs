//! What several nodes say of one ledger.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::time::Duration;

use serde_json::Value;

use crate::common::{Group, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

/// What node `index` says of itself.
pub fn node(group: &Group, index: usize) -> Value {
    group.cluster.status(index, &group.home).unwrap()["node"].clone()
}

/// Same commands, same state, same committee at all of these.
pub fn assert_one_ledger(group: &Group, nodes: &[usize]) {
    let what = format!("the ledger of {nodes:?} is the same");
    eventually(PATIENCE, &what, || {
        let at = |index: &usize| {
            let node = node(group, *index);
            ["ledger_index", "state_root", "epoch"].map(|field| node[field].clone())
        };
        let all: Vec<_> = nodes.iter().map(at).collect();
        all.iter().all(|one| *one == all[0] && one[1].is_string())
    });
}

/// Node `index` takes part: it sits and signs blocks that the ledger moves on with.
pub fn wait_until_it_takes_part(group: &Group, index: usize) {
    eventually(PATIENCE, "the new member takes part", || {
        let (new, old) = (node(group, index), node(group, 0));
        new["seated"] == true
            && new["own_round"].as_u64() > Some(0)
            && new["ledger_index"].as_u64() >= old["ledger_index"].as_u64()
    });
}
