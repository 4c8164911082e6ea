//! Prints where probes would go in each file named: `cargo run -p wirespan-probe-sites --example scan -- FILE…`

use std::{env, fs};

fn main() {
    for path in env::args().skip(1) {
        match fs::read(&path) {
            Ok(file) => println!("{path}: {}\n", wirespan_probe_sites::scan(&file)),
            Err(error) => eprintln!("{path}: {error}"),
        }
    }
}
