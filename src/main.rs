//! The `bailiwick` program.

fn main() -> std::process::ExitCode {
    bailiwick::cli::main()
}
