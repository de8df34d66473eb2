//! The operator's binary: everything is in the library, so that tests can call it.

use std::process::ExitCode;

fn main() -> ExitCode {
    bulkhead::run(std::env::args_os())
}
