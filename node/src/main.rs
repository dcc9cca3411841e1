//! The `barfs` command.

use std::io::Write;

/// Shards and packs are allocated and freed by the megabyte, which the system's allocator does with the kernel's help
/// each time. What this brings has not been measured by itself (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    let code = barfs::cli::main();
    // A stream that cannot be written to has nobody who would read that it cannot.
    drop(std::io::stdout().flush());
    drop(std::io::stderr().flush());
    // SAFETY: ends the process and does nothing else. Everything that must be durable is by now. exit(3) would destroy
    // RocksDB's globals first, while a thread that was left to itself (a reader that asks the group for news) may still
    // use them: that ended in SIGABRT.
    unsafe { libc::_exit(i32::from(code)) }
}
