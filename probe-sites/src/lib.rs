//! From the bytes of an ELF file to where uprobes go to see TLS cleartext, and why not where none can go.
//!
//! It reads no file, attaches nothing, and knows no process: bytes in, data out. Files may be
//! damaged or hostile: whatever they claim is checked against what is there, and bounded.
//!
//! A uprobe's cost depends on the instruction under it: the kernel emulates some, and steps over
//! the others with a debug exception. So a [`Site`] is sought on one of the former, where the
//! arguments are still in place ([`Function::entry`]) and where the result is known
//! ([`Function::exits`]). Each is proven by decoding the whole function, or not used.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod code;
mod content;
mod display;
mod elf;
mod entry;
mod exits;
mod go;
mod libraries;
mod reason;
mod scan;

pub use go::GoOffsets;
pub use reason::Reason;
pub use scan::{
    BuildId, Condition, ExitSite, Exits, Family, Function, Instruction, Library, Machine, Register,
    Returns, Role, Scan, Site, Value, Why,
};

use elf::Image;

/// Finds the TLS libraries in a file, and where probes go.
#[must_use]
pub fn scan(file: &[u8]) -> Scan {
    let mut scan = Scan::default();
    let image = match Image::parse(file) {
        Ok(image) => image,
        Err(reason) => {
            scan.reasons.push(reason);
            return scan;
        }
    };
    scan.machine = Some(image.machine);
    scan.build_id = image.build_id();
    go::scan(&image, &mut scan);
    libraries::scan(&image, &mut scan);
    if scan.found.is_empty() && scan.reasons.is_empty() {
        let trace = content::trace(&image);
        scan.reasons.push(trace.unwrap_or(Reason::NoTls));
    }
    scan
}
