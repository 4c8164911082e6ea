//! Where a function's arguments are seen at the least cost.

use std::collections::BTreeSet;

use iced_x86::Register as Machine;

use crate::code::{Explorer, Flow, Next, writes};
use crate::scan::Site;

/// Registers of arguments in the System V calling convention (psABI 1.0, 3.2.3).
pub(crate) const SYSTEM_V: [Machine; 6] = [
    Machine::RDI,
    Machine::RSI,
    Machine::RDX,
    Machine::RCX,
    Machine::R8,
    Machine::R9,
];

/// Registers of arguments in Go's calling convention (`src/cmd/compile/abi-internal.md`).
pub(crate) const GO: [Machine; 9] = [
    Machine::RAX,
    Machine::RBX,
    Machine::RCX,
    Machine::RDI,
    Machine::RSI,
    Machine::R8,
    Machine::R9,
    Machine::R10,
    Machine::R11,
];

/// The first instruction of the function that the kernel emulates while `arguments` are still in
/// their registers and every call passes it, once; else the function's first.
///
/// That is: on the straight line from the first instruction, up to and including the first jump
/// or call; not behind a write to one of the registers; not behind an instruction that is jumped
/// to. A jump through a table may lead to any place that was not seen, but not to one before an
/// instruction that moves `rsp`: going round there would move the stack without end.
pub(crate) fn entry(explorer: &Explorer<'_>, flow: &Flow, arguments: &[Machine]) -> Option<Site> {
    let targets: BTreeSet<u64> = flow.steps.values().filter_map(target).collect();
    let first = flow.steps.get(&flow.start)?;
    let mut line = Vec::new();
    let mut at = flow.start;
    let mut once = 0;
    while let Some(step) = flow.steps.get(&at) {
        if at != flow.start && targets.contains(&at) {
            break;
        }
        line.push(step);
        let changed = writes(&step.decoded);
        if changed.contains(&Machine::RSP) {
            once = line.len();
        }
        let line_ends = step.next != Next::Fall || step.decoded.is_call_near();
        if line_ends || changed.iter().any(|register| arguments.contains(register)) {
            break;
        }
        at = step.decoded.next_ip();
    }
    if flow.incomplete {
        line.truncate(once.max(1));
    }
    let cheap = line.iter().find(|step| step.instruction.emulated());
    explorer.site(cheap.copied().unwrap_or(first))
}

fn target(step: &crate::code::Step) -> Option<u64> {
    match step.next {
        Next::Jump(to) | Next::Branch(to) => Some(to),
        _ => None,
    }
}
