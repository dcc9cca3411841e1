//! Who leads, who follows, and when.
#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

fn nearby() -> Nearby {
    Nearby::new(Courtesy::new().unwrap())
}

#[test]
fn only_questions_of_one_thread_that_follow_closely_make_a_row() {
    let nearby = nearby();
    // Other work may keep this thread from asking closely: only what was counted is judged.
    let row = |asker, times: u32| (0..times).map(|_| nearby.row_of(asker)).max().unwrap();
    assert!(
        row(7, 1000) >= ALONE,
        "a thousand in a row, however busy the machine"
    );
    assert_eq!(nearby.row_of(8), 0, "somebody else");
    assert_eq!(nearby.row_of(7), 0, "it again, after somebody else");
    nearby.asked.store(0, Ordering::Relaxed);
    std::thread::sleep(CLOSE + Duration::from_millis(1));
    assert_eq!(nearby.row_of(7), 0, "the same, late");
}

#[test]
fn one_leads_and_the_others_go_on_when_it_takes_long_or_somebody_else_asks() {
    let nearby = nearby();
    let ask = || nearby.asked.store(nearby.now(), Ordering::Relaxed);
    ask();
    nearby.processor.store(0, Ordering::Relaxed);
    assert_eq!(
        [1, 2, 1].map(|thread| nearby.part_of(thread)),
        [Part::Leads, Part::Follows, Part::Leads]
    );
    // However long this thread has to wait for a processor, these end by themselves.
    nearby.follow(2);
    nearby.busy.store(0, Ordering::Relaxed);
    ask();
    nearby.follow(2);
    std::thread::scope(|scope| {
        nearby.busy.store(0, Ordering::Relaxed);
        ask();
        let follower = scope.spawn(|| nearby.follow(2));
        nearby.spread();
        follower.join().unwrap();
    });
    assert!(!nearby.one_leads());
    nearby.processor.store(0, Ordering::Relaxed);
    ask();
    std::thread::scope(|scope| {
        nearby.leader.store(1, Ordering::Relaxed);
        let follower = scope.spawn(|| nearby.follow(2));
        nearby.hand_over();
        follower.join().unwrap();
    });
    assert_ne!(
        nearby.leader.load(Ordering::Relaxed),
        1,
        "it has handed over"
    );
    nearby.processor.store(1, Ordering::Relaxed);
    nearby.spread();
    assert_eq!(nearby.part_of(2), Part::Leads, "who asks next begins anew");
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_is_found_and_one_that_stays_there_runs_anywhere_again() {
    let processors = || std::thread::available_parallelism().unwrap().get();
    let stayed = std::thread::spawn(move || {
        let before = processors();
        stay_on(processor_of(std::process::id()).unwrap());
        let on_one = processors();
        stay_on(ANYWHERE);
        (before, on_one, processors(), STAYS.get())
    });
    let (before, on_one, after, stays) = stayed.join().unwrap();
    assert_eq!((on_one, after, stays), (1, before, ANYWHERE));
    assert_eq!(processor_of(u32::MAX), None, "nobody has that number");
}
