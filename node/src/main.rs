//! The `barfs` command.

fn main() -> std::process::ExitCode {
    barfs::cli::main()
}
