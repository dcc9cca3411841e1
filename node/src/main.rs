//! The `barfs` command.

/// Shards and packs are allocated and freed by the megabyte: the system's allocator gives each back to the kernel and
/// faults it in again (docs/performance.md has the figures).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    barfs::cli::main()
}
