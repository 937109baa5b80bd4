//! Parses arguments, calls a sub-command, sets the exit code.

fn main() -> std::process::ExitCode {
    cdrd::cli::main()
}
