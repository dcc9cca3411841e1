//! A mark orders a question: whoever has executed it has executed all that was executed anywhere before it was asked.

use barfs_replication::*;

use crate::book::{Book, by_device};
use crate::world::{World, m};

#[test]
fn a_mark_comes_after_all_that_was_executed_before_it_was_asked() {
    let mut world = World::new(5);
    for turn in 0..10_u8 {
        let ticket = world.note(m(u16::from(turn) % 5), "before");
        world.finish(ticket);
        let told = world.ledger(m(u16::from(turn) % 5)).index();
        let nonce = [turn; 16];
        let asked = m(u16::from(turn + 1) % 5);
        let ticket = world.submit(asked, Command::ReadMark { nonce });
        assert_eq!(world.finish(ticket), Outcome::Applied(Effect::Done));
        assert!(
            world.ledger(asked).index() > told,
            "the mark was executed before what had been executed"
        );
    }
    let seen = |world: &World| {
        let of = world.events.iter().filter(|(who, _)| *who == m(4));
        let marks = of.filter_map(|(_, event)| match event {
            Event::Ledger(LedgerEvent::Marked { nonce }) => Some(nonce[0]),
            _ => None,
        });
        marks.collect::<Vec<_>>()
    };
    let all: Vec<u8> = (0..10).collect();
    assert!(
        world.run_until(10_000, |world| seen(world) == all),
        "another member saw {:?}",
        seen(&world)
    );
}

#[test]
fn only_members_put_marks() {
    let mut book = Book::new(4, Params::default());
    book.acquire(1);
    let mark = Command::ReadMark { nonce: [1; 16] };
    let root = book.ledger.root();
    for issuer in [by_device(1), Issuer::Recovery(m(0))] {
        assert_eq!(book.refused(issuer, mark.clone()), Refusal::NotAllowed);
    }
    assert_eq!(book.must(Issuer::Member(m(0)), mark), Effect::Done);
    assert_eq!(book.ledger.root(), root, "a mark changes nothing");
}
