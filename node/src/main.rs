//! The `barfs` command.

/// Shards and packs are allocated and freed by the megabyte, which the system's allocator does with the kernel's help
/// each time. What this brings has not been measured by itself (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    barfs::cli::main()
}
