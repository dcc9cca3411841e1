//! The protocol with deliberate defects, to prove that the simulator finds them, and with its insides open, so that
//! its commit rule can be exhausted by itself.
//!
//! Owns no protocol: `build.rs` makes this crate from the very sources of barfs-replication, changes the lines that
//! [`DEFECTS`] names so that each defect can be switched on, and makes everything public. So the shipped crate has no
//! seam for tests, and a rule that changes there changes here. A defect whose line is no longer there is not applied,
//! and the test that wants it says so. With nothing switched on this crate is barfs-replication.
#![allow(warnings, clippy::all)]

extern crate std;

include!(concat!(env!("OUT_DIR"), "/replication/lib.rs"));

include!("../defects.rs");

mod switch {
    use core::cell::Cell;
    std::thread_local! {
        pub(crate) static ACTIVE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
}

/// Switches on the defect called `name`, on this thread only, or none. False if its line was not found in the sources.
pub fn switch_on(name: Option<&str>) -> bool {
    let place = name.and_then(|name| DEFECTS.iter().position(|defect| defect.name == name));
    switch::ACTIVE.with(|active| active.set(place.unwrap_or(usize::MAX)));
    match place {
        Some(place) => APPLIED.contains(&place),
        None => name.is_none(),
    }
}

/// The defect that is on, on this thread.
pub fn active() -> Option<&'static str> {
    let place = switch::ACTIVE.with(core::cell::Cell::get);
    DEFECTS.get(place).map(|defect| defect.name)
}

/// Whether the defect with this place in [`DEFECTS`] is on. Called from the changed lines.
pub fn is_on(place: usize) -> bool {
    switch::ACTIVE.with(core::cell::Cell::get) == place
}

include!(concat!(env!("OUT_DIR"), "/applied.rs"));
