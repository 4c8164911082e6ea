//! The program `wirespan`: the library with the protocols of this repository.

use std::process::ExitCode;

fn main() -> ExitCode {
    wirespan::main(wirespan::protocols().build())
}
