//! The sites of this machine's OpenSSL, against what another disassembler shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use wirespan_probe_sites::{Exits, Function, Instruction, Register, Site, Value, scan};

const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
    "/usr/lib64/libssl.so.3",
    "/usr/lib/x86_64-linux-gnu/libssl.so.1.1",
    "/usr/lib64/libssl.so.1.1",
];

/// Mnemonic and operands by address.
type Listing = BTreeMap<u64, (String, String)>;

fn listing(path: &str) -> Option<Listing> {
    let arguments = ["-d", "--no-show-raw-insn", "-w", path];
    let output = Command::new("objdump").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let lines = text.lines().filter_map(|line| {
        let (address, instruction) = line.split_once(":\t")?;
        let address = u64::from_str_radix(address.trim(), 16).ok()?;
        let instruction = instruction.split(['#', '<']).next()?.trim();
        let (mnemonic, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
        Some((address, (mnemonic.to_owned(), operands.trim().to_owned())))
    });
    Some(lines.collect()).filter(|listing: &Listing| !listing.is_empty())
}

/// Whether an instruction in AT&T's notation has one of the registers as its destination.
fn changes(line: &(String, String), registers: &[&str]) -> bool {
    let compares = ["cmp", "test", "push", "nop"];
    let destination = line.1.rsplit(',').next().unwrap_or_default();
    registers.contains(&destination) && !compares.iter().any(|it| line.0.starts_with(it))
}

/// Names of the registers of the first arguments, whole and in parts.
fn arguments(count: u8) -> Vec<&'static str> {
    let names = [
        ["%rdi", "%edi", "%di", "%dil"],
        ["%rsi", "%esi", "%si", "%sil"],
        ["%rdx", "%edx", "%dx", "%dl"],
        ["%rcx", "%ecx", "%cx", "%cl"],
        ["%r8", "%r8d", "%r8w", "%r8b"],
    ];
    names.into_iter().take(count.into()).flatten().collect()
}

fn check_site(listing: &Listing, site: &Site, function: &Function) {
    let (mnemonic, _) = listing
        .get(&site.address)
        .expect("an instruction begins there");
    let expected = match site.instruction {
        Instruction::Branch(condition) => format!("j{condition}"),
        Instruction::Stepped => mnemonic.clone(),
        other => other.to_string(),
    };
    assert_eq!(*mnemonic, expected, "{function}");
}

/// Nothing before the entry jumps, calls, or changes an argument; nothing jumps to between.
fn check_entry(listing: &Listing, function: &Function) {
    let (start, entry) = (function.start.address, function.entry.address);
    let arguments = arguments(function.role.arguments());
    for (address, line) in listing.range(start..entry) {
        let leaves = ["j", "call", "ret"].iter().any(|it| line.0.starts_with(it));
        assert!(
            !leaves && !changes(line, &arguments),
            "{address:x} in {function}"
        );
    }
    let inside = start + 1..=entry;
    let joined = listing.values().any(|(mnemonic, target)| {
        let target = u64::from_str_radix(target, 16);
        mnemonic.starts_with('j') && target.is_ok_and(|target| inside.contains(&target))
    });
    assert!(!joined, "{function}");
}

/// Behind an exit that has its result in `rax`, nothing changes it before the return.
fn check_exits(listing: &Listing, function: &Function) -> usize {
    let Exits::Sites(exits) = &function.exits else {
        return 0;
    };
    let rax = ["%rax", "%eax", "%ax", "%al"];
    let mut checked = 0;
    for exit in exits
        .iter()
        .filter(|exit| exit.value == Value::Register(Register::Rax))
    {
        let rest = listing.range(exit.site.address..);
        let mut rest = rest.take_while(|(_, line)| !line.0.starts_with("ret"));
        let changed = rest.find(|(_, line)| changes(line, &rax));
        assert_eq!(changed, None, "{function}");
        checked += 1;
    }
    checked
}

#[test]
fn sites_are_what_another_disassembler_shows() {
    let Some(path) = PLACES.into_iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: no libssl on this machine");
        return;
    };
    let Some(listing) = listing(path) else {
        eprintln!("skipped: no objdump on this machine");
        return;
    };
    let found = scan(&std::fs::read(path).unwrap()).found;
    let mut exits = 0;
    for function in &found[0].functions {
        let exit_sites = match &function.exits {
            Exits::Sites(exits) => exits.as_slice(),
            _ => &[],
        };
        let sites = exit_sites.iter().map(|exit| &exit.site);
        for site in sites
            .chain(&function.returns)
            .chain([&function.start, &function.entry])
        {
            check_site(&listing, site, function);
        }
        for site in &function.returns {
            assert_eq!(listing[&site.address].0, "ret", "{function}");
        }
        check_entry(&listing, function);
        exits += check_exits(&listing, function);
    }
    assert!(found[0].functions.len() > 10 && exits > 3);
}
