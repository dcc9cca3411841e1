//! What commands print. A reader that has had enough (`barfs status | head`) is no failure, and never a panic, least of
//! all in a process that serves a mount; any other output that cannot be written fails the command once it is done.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit::{Exit, Failure, Outcome};

static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();
static UNREAD: AtomicBool = AtomicBool::new(false);

/// A line on standard output.
macro_rules! tell {
    () => { $crate::output::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::print(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use tell;

/// A line on standard error.
macro_rules! complain {
    ($($text:tt)*) => { $crate::output::print_error(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use complain;

/// Writes text to standard output.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    keep(io::stdout().write_fmt(text));
}

/// Writes text to standard error. Whoever closed it does not want to know.
pub(crate) fn print_error(text: fmt::Arguments<'_>) {
    drop(io::stderr().write_fmt(text));
}

fn keep(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            UNREAD.store(true, Ordering::Relaxed)
        }
        Err(error) => drop(UNWRITTEN.get_or_init(|| error)),
    }
}

/// Whether all that was printed so far may have been read: for what stands nowhere else.
pub(crate) fn may_be_read() -> bool {
    keep(io::stdout().flush());
    UNWRITTEN.get().is_none() && !UNREAD.load(Ordering::Relaxed)
}

/// Whether all that was printed so far was written, or nobody was there to read it.
///
/// # Errors
///
/// [`Exit::Failed`], with the first error of the system.
pub(crate) fn finish() -> Outcome<()> {
    keep(io::stdout().flush());
    match UNWRITTEN.get() {
        None => Ok(()),
        Some(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::new(Exit::Failed, message))
        }
    }
}
