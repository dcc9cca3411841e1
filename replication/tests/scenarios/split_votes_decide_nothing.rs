use barfs_replication::{Event, VerifiedBlock};

use crate::script::{Script, refs};
use crate::world::m;

#[test]
fn votes_split_between_twins_wait_for_an_anchor() {
    let mut script = Script::new(7);
    let authors = [0, 1, 2, 3, 4, 5];
    let first = script.round(&authors, 1, &[]);
    let twin = script.block(3, 1, &[]);
    let half = |script: &mut Script, authors: &[u16], leader: &VerifiedBlock| {
        let mut parents = refs(&first);
        parents[3] = leader;
        script.round(authors, 2, &parents)
    };
    let mut second = half(&mut script, &[0, 1, 2], &first[3]);
    second.extend(half(&mut script, &[3, 4, 5], &twin));
    let mut of_liar = vec![second[3].clone()];
    script.show(&first);
    script.show(std::slice::from_ref(&twin));
    script.show(&second);
    let mut last = second;
    for round in 3..=5 {
        last = script.round(&authors, round, &refs(&last));
        script.show(&last);
        // The replica holds one twin and asks for the other by name, and for what its author built on it.
        script.show(std::slice::from_ref(&twin));
        script.show(&of_liar);
        of_liar.push(last[3].clone());
        assert_eq!(script.committed(), [], "round {round}");
    }
    last = script.round(&authors, 6, &refs(&last));
    script.show(&last);
    script.show(&of_liar);
    assert_eq!(script.committed()[0], (1, m(4)), "m3's slot is skipped");
    let accused: Vec<_> = script
        .events()
        .filter_map(|event| match event {
            Event::Equivocation { evidence } => Some(evidence.clone()),
            _ => None,
        })
        .collect();
    let [evidence] = accused.as_slice() else {
        panic!("accused once, not {}", accused.len());
    };
    let (a, b) = (evidence.0.reference(), evidence.1.reference());
    assert_eq!((a.author, a.round), (m(3), 1));
    assert_eq!((b.author, b.round), (m(3), 1));
    assert_ne!(a.digest, b.digest);
}

#[test]
fn of_delivered_twins_one_is_executed() {
    let mut script = Script::new(7);
    let authors = [0, 1, 2, 3, 4, 5];
    let first = script.round(&authors, 1, &[]);
    let twin = script.block(3, 1, &[]);
    let mut other = refs(&first);
    other[3] = &twin;
    let mut second = script.round(&[0, 1, 2], 2, &refs(&first));
    second.extend(script.round(&[3, 4, 5], 2, &other));
    let mut of_liar = vec![second[3].clone()];
    script.show(&first);
    script.show(&second);
    script.show(std::slice::from_ref(&twin));
    let mut last = second;
    for round in 3..=9 {
        last = script.round(&authors, round, &refs(&last));
        script.show(&last);
        script.show(&of_liar);
        of_liar.push(last[3].clone());
    }
    let committed = script.committed();
    let newest = committed.last().unwrap().0;
    assert!(newest >= 6, "{committed:?}");
    // Everything of the rounds before the newest leaders is delivered; the twins count as one.
    let whole_rounds = newest - 1;
    let leaders = committed
        .iter()
        .filter(|(round, _)| *round == newest)
        .count();
    let expected = whole_rounds * 6 + u64::try_from(leaders).unwrap();
    assert_eq!(script.replica.ledger().index(), expected);
}
