use crate::script::{Script, refs};
use crate::world::m;

#[test]
fn a_leader_with_certificates_of_a_quorum_is_committed() {
    let mut script = Script::new(4);
    let first = script.round(&[0, 1, 2], 1, &[]);
    let second = script.round(&[0, 1, 2], 2, &refs(&first));
    let third = script.round(&[0, 1, 2], 3, &refs(&second));
    script.show(&first);
    script.show(&second);
    script.show(&third[..2]);
    assert_eq!(script.committed(), [], "two certificates are not a quorum");
    assert_eq!(script.replica.ledger().index(), 0);
    script.show(&third[2..]);
    // Round 1 is led by m2 and m3; m3 sent nothing, which round 2 settles.
    assert_eq!(script.committed(), [(1, m(2))]);
    assert_eq!(
        script.replica.ledger().index(),
        1,
        "m2's block alone is in its history"
    );
    let fourth = script.round(&[0, 1, 2], 4, &refs(&third));
    script.show(&fourth);
    assert_eq!(script.committed(), [(1, m(2)), (2, m(0)), (2, m(1))]);
    assert_eq!(
        script.replica.ledger().index(),
        5,
        "rounds 1 and the leaders of 2"
    );
}
