//! Where a call's result is seen at the least cost, proven or not at all.
//!
//! From every return instruction the place of the result is followed backwards through moves, as
//! long as nothing else touches it: at those points it is *known*. Then the last emulated
//! instruction on every way to a return is taken, where the result is known; ways whose result is
//! known to be a failure need none. A call that passes two of them is told by the later one. If
//! that is impossible for any way, the return instructions themselves are taken, or a uretprobe.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Instruction as Decoded, InstructionInfoFactory, Mnemonic, OpKind, Register as Machine,
    UsedMemory,
};

use crate::code::{Explorer, Flow, Next, Stack, Step, may_write, writes};
use crate::scan::{ExitSite, Exits, Instruction, Register, Returns, Site, Value, Why};

/// Finds the exits of a function, and its return instructions if they are known to be all.
pub(crate) fn exits(explorer: &Explorer<'_>, flow: &Flow, returns: Returns) -> (Exits, Vec<Site>) {
    let ends = return_sites(explorer, flow);
    if returns == Returns::Nothing {
        return (Exits::Unneeded, ends.unwrap_or_default());
    }
    let ends = match ends {
        Ok(ends) => ends,
        Err(why) => return (Exits::Uretprobe(why), Vec::new()),
    };
    if let Some(sites) = Proof::new(flow, returns).sites(explorer) {
        return (Exits::Sites(sites), ends);
    }
    let first = flow.steps.get(&flow.start);
    if first.is_some_and(|first| first.instruction.emulated()) {
        return (Exits::Uretprobe(Why::Cheaper), ends);
    }
    (Exits::Sites(stepped(&ends)), ends)
}

/// Exit probes on the return instructions themselves.
pub(crate) fn stepped(ends: &[Site]) -> Vec<ExitSite> {
    ends.iter()
        .map(|site| ExitSite {
            site: *site,
            value: Value::Register(Register::Rax),
            if_taken: None,
        })
        .collect()
}

/// The return instructions.
///
/// # Errors
///
/// Where they may not be all, why.
pub(crate) fn return_sites(explorer: &Explorer<'_>, flow: &Flow) -> Result<Vec<Site>, Why> {
    if !flow.tails.is_empty() {
        return Err(Why::TailCall);
    }
    if flow.incomplete {
        return Err(Why::NotUnderstood);
    }
    let ends = flow.steps.values().filter(|step| step.next == Next::Return);
    ends.map(|step| explorer.site(step).ok_or(Why::NotUnderstood))
        .collect()
}

/// Where the result is, seen from one point of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Register(Machine),
    /// On the stack, relative to `rsp` at the first instruction.
    Slot(i64),
    /// It is a constant, of a call that succeeds.
    Constant(i32),
    /// It says failure, whatever the number.
    Failure,
}

/// What is known of the result at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// No return is reached from there (or none has been found yet).
    Unreached,
    /// On all ways to a return it is there.
    At(Place),
    /// It is made later, or comes from different places.
    Unknown,
}

impl Known {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreached, known) | (known, Self::Unreached) => known,
            (one, two) if one == two => one,
            _ => Self::Unknown,
        }
    }
}

/// How many exit sites are passed from a point to the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passes {
    /// No return is reached.
    Unreached,
    Never,
    Always,
    Sometimes,
}

struct Proof<'a> {
    flow: &'a Flow,
    returns: Returns,
    predecessors: BTreeMap<u64, Vec<u64>>,
    /// Before each instruction.
    known: BTreeMap<u64, Known>,
}

impl<'a> Proof<'a> {
    fn new(flow: &'a Flow, returns: Returns) -> Self {
        let mut predecessors: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (address, step) in &flow.steps {
            for to in step.successors().into_iter().flatten() {
                predecessors.entry(to).or_default().push(*address);
            }
        }
        let mut proof = Self {
            flow,
            returns,
            predecessors,
            known: BTreeMap::new(),
        };
        proof.follow_backwards();
        proof
    }

    /// To the fixed point: at each instruction the knowledge changes twice at most.
    fn follow_backwards(&mut self) {
        let mut open: Vec<u64> = self.flow.steps.keys().copied().collect();
        while let Some(address) = open.pop() {
            let Some(step) = self.flow.steps.get(&address) else {
                continue;
            };
            let after = match step.next {
                Next::Return => Known::At(Place::Register(Machine::RAX)),
                _ => step
                    .successors()
                    .into_iter()
                    .flatten()
                    .fold(Known::Unreached, |known, to| known.join(self.before(to))),
            };
            let before = match after {
                Known::At(place) => self.through(step, place),
                other => other,
            };
            if before != self.before(address) {
                self.known.insert(address, before);
                open.extend(self.predecessors.get(&address).into_iter().flatten());
            }
        }
    }

    fn before(&self, address: u64) -> Known {
        *self.known.get(&address).unwrap_or(&Known::Unreached)
    }

    /// Where a result that is at `place` after an instruction is before it.
    fn through(&self, step: &Step, place: Place) -> Known {
        let decoded = &step.decoded;
        if decoded.is_call_near() || decoded.is_call_near_indirect() {
            return Known::Unknown;
        }
        if let Place::Register(register) = place
            && writes(decoded).contains(&register)
        {
            return self
                .source(step, register)
                .map_or(Known::Unknown, Known::At);
        }
        let mut factory = InstructionInfoFactory::new();
        let touched = factory.info(decoded).used_memory().iter();
        for memory in touched.filter(|memory| may_write(memory.access())) {
            let written = slot_of(memory, step.stack);
            let harmless = match (written, place) {
                // It may be the bytes that were read, or their count.
                (None, _) => false,
                (Some(written), Place::Slot(slot)) => {
                    let size = i64::try_from(memory.memory_size().size()).unwrap_or(i64::MAX);
                    written
                        .checked_sub(slot)
                        .is_some_and(|apart| apart >= 8 || apart.saturating_add(size) <= 0)
                }
                (Some(_), _) => true,
            };
            if !harmless {
                return Known::Unknown;
            }
        }
        Known::At(place)
    }

    /// Where an instruction that writes the result to a register has it from.
    fn source(&self, step: &Step, register: Machine) -> Option<Place> {
        let decoded = &step.decoded;
        if decoded.op0_kind() != OpKind::Register
            || decoded.op0_register().full_register() != register
        {
            return None;
        }
        let wide = matches!(self.returns, Returns::Count64 | Returns::Pointer);
        let size = decoded.op0_register().size();
        if size < if wide { 8 } else { 4 } {
            return self.constant(decoded);
        }
        match (decoded.mnemonic(), decoded.op1_kind()) {
            (Mnemonic::Mov, OpKind::Register) => {
                Some(Place::Register(decoded.op1_register().full_register()))
            }
            (Mnemonic::Movsxd, OpKind::Register) if !wide => {
                Some(Place::Register(decoded.op1_register().full_register()))
            }
            (Mnemonic::Mov, OpKind::Memory) if decoded.memory_index() == Machine::None => step
                .stack
                .slot(decoded.memory_base(), decoded.memory_displacement64())
                .map(Place::Slot),
            _ => self.constant(decoded),
        }
    }

    fn constant(&self, decoded: &Decoded) -> Option<Place> {
        let same = decoded.op1_kind() == OpKind::Register
            && decoded.op0_register() == decoded.op1_register();
        let size = decoded.op0_register().size();
        let constant = match decoded.mnemonic() {
            Mnemonic::Xor | Mnemonic::Sub if same && size >= 4 => 0,
            Mnemonic::Mov if size == 4 => decoded.try_immediate(1).ok()? as u32 as i32,
            Mnemonic::Mov if size == 8 => {
                i32::try_from(decoded.try_immediate(1).ok()?.cast_signed()).ok()?
            }
            Mnemonic::Or if size >= 4 && decoded.try_immediate(1).ok()? as u32 == u32::MAX => -1,
            _ => return None,
        };
        let least = if self.returns == Returns::Zero { 0 } else { 1 };
        Some(if constant < least {
            Place::Failure
        } else {
            Place::Constant(constant)
        })
    }

    /// The sites, if every way that matters passes exactly one.
    fn sites(&self, explorer: &Explorer<'_>) -> Option<Vec<ExitSite>> {
        let chosen = self.choose()?;
        let passes = self.passes(&chosen);
        let mut sites = Vec::new();
        for address in &chosen {
            let exit = self.site(explorer, self.flow.steps.get(address)?, &passes)?;
            let silent = exit.if_taken.is_none() && exit.value == Value::Nothing;
            sites.extend((!silent).then_some(exit));
        }
        Some(sites)
    }

    /// From each return backwards to the last emulated instruction at which the result is known.
    fn choose(&self) -> Option<BTreeSet<u64>> {
        let steps = &self.flow.steps;
        let ends = steps.iter().filter(|(_, step)| step.next == Next::Return);
        let mut open: Vec<u64> = ends.map(|(address, _)| *address).collect();
        let mut seen: BTreeSet<u64> = open.iter().copied().collect();
        let mut chosen = BTreeSet::new();
        while let Some(address) = open.pop() {
            let step = steps.get(&address)?;
            match self.before(address) {
                Known::At(Place::Failure) => continue,
                _ if self.candidate(step) => {
                    chosen.insert(address);
                    continue;
                }
                Known::At(_) if address != self.flow.start => {}
                _ => return None,
            }
            for from in self.predecessors.get(&address)? {
                if seen.insert(*from) {
                    open.push(*from);
                }
            }
        }
        Some(chosen)
    }

    fn candidate(&self, step: &Step) -> bool {
        match step.instruction {
            Instruction::Stepped | Instruction::Call => false,
            Instruction::Branch(_) => step
                .successors()
                .into_iter()
                .flatten()
                .all(|to| self.before(to) != Known::Unknown),
            Instruction::Nop | Instruction::Push | Instruction::Jump => {
                self.before(step.decoded.ip()) != Known::Unknown
            }
        }
    }

    /// From each point, whether a chosen site is passed before the return.
    fn passes(&self, chosen: &BTreeSet<u64>) -> BTreeMap<u64, Passes> {
        let mut passes: BTreeMap<u64, Passes> = BTreeMap::new();
        let mut open: Vec<u64> = self.flow.steps.keys().copied().collect();
        while let Some(address) = open.pop() {
            let Some(step) = self.flow.steps.get(&address) else {
                continue;
            };
            let now = if chosen.contains(&address) {
                Passes::Always
            } else if step.next == Next::Return {
                Passes::Never
            } else {
                let next = step.successors().into_iter().flatten();
                next.filter_map(|to| passes.get(&to).copied()).fold(
                    Passes::Unreached,
                    |one, two| match (one, two) {
                        (Passes::Unreached, passes) | (passes, Passes::Unreached) => passes,
                        (one, two) if one == two => one,
                        _ => Passes::Sometimes,
                    },
                )
            };
            if passes.insert(address, now) != Some(now) {
                open.extend(self.predecessors.get(&address).into_iter().flatten());
            }
        }
        passes
    }

    fn site(
        &self,
        explorer: &Explorer<'_>,
        step: &Step,
        passes: &BTreeMap<u64, Passes>,
    ) -> Option<ExitSite> {
        let value = |to: Option<u64>| -> Option<Value> {
            let Some(to) = to else {
                return Some(Value::Nothing);
            };
            match passes.get(&to).unwrap_or(&Passes::Unreached) {
                Passes::Unreached | Passes::Always => Some(Value::Nothing),
                Passes::Never => value_at(self.before(to), step.stack),
                Passes::Sometimes => None,
            }
        };
        let [behind, target] = step.successors().map(value);
        let (behind, target) = (behind?, target?);
        let site = explorer.site(step)?;
        Some(match step.next {
            Next::Jump(_) => exit(site, target, None),
            Next::Branch(to) if target == behind || !self.reached(to) => exit(site, behind, None),
            Next::Branch(_) if !self.reached(step.decoded.next_ip()) => exit(site, target, None),
            Next::Branch(_) => exit(site, behind, Some(target)),
            _ => exit(site, behind, None),
        })
    }

    /// Whether a return is reached from there.
    fn reached(&self, address: u64) -> bool {
        self.before(address) != Known::Unreached
    }
}

fn exit(site: Site, value: Value, if_taken: Option<Value>) -> ExitSite {
    ExitSite {
        site,
        value,
        if_taken,
    }
}

fn value_at(known: Known, stack: Stack) -> Option<Value> {
    /// Below `rsp` a signal handler may write, but for so many bytes (psABI 1.0, 3.2.2).
    const RED_ZONE: i64 = 128;
    Some(match known {
        Known::At(Place::Register(register)) => {
            let number = register.number();
            Value::Register(*Register::ALL.get(number)?)
        }
        Known::At(Place::Slot(slot)) => {
            let above = slot.checked_add(stack.shift?)?;
            if above < -RED_ZONE {
                return None;
            }
            Value::Stack(i32::try_from(above).ok()?)
        }
        Known::At(Place::Constant(constant)) => Value::Constant(constant),
        Known::At(Place::Failure) | Known::Unreached => Value::Nothing,
        Known::Unknown => return None,
    })
}

/// Where on the function's own stack an access is.
fn slot_of(memory: &UsedMemory, stack: Stack) -> Option<i64> {
    (memory.index() == Machine::None)
        .then(|| stack.slot(memory.base(), memory.displacement()))
        .flatten()
}
