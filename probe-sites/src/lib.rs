//! From the bytes of an ELF file to where uprobes go to see TLS cleartext, and why not where none can go.
//!
//! It opens no file, attaches nothing, and knows no process: bytes in ([`Source`]), data out. Files may
//! be damaged or hostile: whatever they claim is checked against what is there, and bounded. They may
//! be large: what is not looked at is not read.
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
mod file;
mod go;
mod libraries;
mod reason;
mod scan;
mod stripped;

pub use file::Source;
pub use go::GoOffsets;
pub use reason::Reason;
pub use scan::{
    BuildId, Condition, ExitSite, Exits, Family, Function, Goroutines, Instruction, Library,
    Machine, Register, Returns, Role, Scan, Site, Value, Why,
};

use elf::Image;
use file::File;

/// Finds the TLS libraries in a file, and where probes go.
#[must_use]
pub fn scan(file: &[u8]) -> Scan {
    scan_from(&file)
}

/// The same of a file that is somewhere else, of which only what is looked at is read.
#[must_use]
pub fn scan_from(source: &dyn Source) -> Scan {
    let file = &File::new(source);
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
        let reason = image.without_sections.clone();
        let reason = reason.or_else(|| content::trace(&image));
        scan.reasons.push(reason.unwrap_or(Reason::NoTls));
    }
    if file.is_too_much() {
        scan.reasons.push(Reason::TooMany("bytes to look at"));
    }
    scan
}

/// Body of the fuzz target `probe_sites`: scans, prints, and looks whether sites are what they are
/// said to be.
#[doc(hidden)]
pub fn fuzz_scan(file: &[u8]) {
    let scan = scan(file);
    let _ = scan.to_string();
    let sites = scan.found.iter().flat_map(|library| &library.functions);
    let sites = sites.flat_map(|function| {
        let exits = match &function.exits {
            Exits::Sites(exits) => exits.as_slice(),
            _ => &[],
        };
        let exits = exits.iter().map(|exit| &exit.site);
        exits
            .chain(&function.returns)
            .chain([&function.start, &function.entry])
    });
    for site in sites {
        let at = usize::try_from(site.file_offset).ok();
        let code = at.and_then(|at| file.get(at..)).unwrap_or_default();
        let first = code.first().copied();
        assert!(
            match site.instruction {
                Instruction::Nop => first == Some(0x90),
                Instruction::Push => matches!(first, Some(0x41 | 0x50..=0x57)),
                Instruction::Call => first == Some(0xe8),
                Instruction::Jump => matches!(first, Some(0xe9 | 0xeb)),
                Instruction::Branch(_) => matches!(first, Some(0x0f | 0x70..=0x7f)),
                Instruction::Stepped => first.is_some(),
            },
            "{site:?} is not there"
        );
    }
}

#[cfg(test)]
mod tests;
