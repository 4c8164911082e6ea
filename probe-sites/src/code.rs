//! A function's x86-64 code as a graph: its instructions, what follows each, how the stack stands.
//!
//! The graph is explored from the first instruction along every direct jump, so code that the
//! compiler moved away (`.cold` parts) belongs to it. What cannot be followed is said, not guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction as Decoded, InstructionInfoFactory,
    InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register as Machine,
};

use crate::elf::{Image, Symbol};
use crate::reason::Reason;
use crate::scan::{Condition, Instruction, Site};

/// Instructions of one function looked at, at most.
const MAX_INSTRUCTIONS: usize = 5_000;
/// Longest instruction (Intel SDM volume 1, 2.3.11).
const LONGEST: usize = 15;

/// Functions of other libraries that do not return: what follows such a call is not reached by it.
const NEVER_RETURN: [&[u8]; 3] = [b"__stack_chk_fail", b"abort", b"__assert_fail"];

/// A function's code.
pub(crate) struct Flow {
    /// Its instructions by address.
    pub(crate) steps: BTreeMap<u64, Step>,
    /// Address of the first.
    pub(crate) start: u64,
    /// Where ways end with a jump into another function.
    pub(crate) tails: BTreeSet<Tail>,
    /// Whether some way could not be followed: a jump through a table, code beyond what is
    /// looked at or that is none.
    pub(crate) incomplete: bool,
}

/// Where a jump out of a function goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tail {
    /// To code of the same file.
    Address(u64),
    /// To a function by its name, which the loader resolves.
    Import(Vec<u8>),
    /// To where a register or memory says.
    Anywhere,
}

/// One instruction in its place.
pub(crate) struct Step {
    pub(crate) decoded: Decoded,
    /// How the kernel would run it under a probe.
    pub(crate) instruction: Instruction,
    pub(crate) next: Next,
    /// The stack before it runs.
    pub(crate) stack: Stack,
}

/// Where an instruction leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To the one behind it, also after a call.
    Fall,
    /// Somewhere else.
    Jump(u64),
    /// Somewhere else, or to the one behind it.
    Branch(u64),
    /// Back to the caller.
    Return,
    /// Out of what is known, or nowhere.
    Nowhere,
}

/// What is known of the stack, in bytes relative to `rsp` at the first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// How far `rsp` is below.
    pub(crate) shift: Option<i64>,
    /// How far `rbp` is below, where it is a frame pointer.
    pub(crate) frame: Option<i64>,
}

impl Stack {
    const AT_ENTRY: Self = Self {
        shift: Some(0),
        frame: None,
    };

    fn merge(self, other: Self) -> Self {
        Self {
            shift: self.shift.filter(|shift| Some(*shift) == other.shift),
            frame: self.frame.filter(|frame| Some(*frame) == other.frame),
        }
    }

    /// Where an operand `[rsp + n]` or `[rbp + n]` is, relative to `rsp` at the first instruction.
    pub(crate) fn slot(self, base: Machine, displacement: u64) -> Option<i64> {
        let below = match base {
            Machine::RSP => self.shift?,
            Machine::RBP => self.frame?,
            _ => return None,
        };
        displacement.cast_signed().checked_sub(below)
    }

    /// The stack after an instruction.
    fn after(self, decoded: &Decoded) -> Self {
        let mut stack = self;
        let changed = writes(decoded);
        if changed.contains(&Machine::RBP) {
            stack.frame = match decoded.code() {
                Code::Mov_r64_rm64 | Code::Mov_rm64_r64
                    if decoded.op1_register() == Machine::RSP =>
                {
                    self.shift
                }
                _ => None,
            };
        }
        if changed.contains(&Machine::RSP) {
            stack.shift = shift_after(self, decoded);
        }
        stack
    }
}

fn shift_after(stack: Stack, decoded: &Decoded) -> Option<i64> {
    let down = match decoded.mnemonic() {
        // What is called removes its own return address.
        Mnemonic::Call => 0,
        Mnemonic::Push | Mnemonic::Pop => {
            i64::from(decoded.stack_pointer_increment()).checked_neg()?
        }
        Mnemonic::Sub if decoded.op1_kind() != OpKind::Register => {
            decoded.try_immediate(1).ok()?.cast_signed()
        }
        Mnemonic::Add if decoded.op1_kind() != OpKind::Register => {
            decoded.try_immediate(1).ok()?.cast_signed().checked_neg()?
        }
        Mnemonic::Lea if decoded.memory_index() == Machine::None => {
            let base = decoded.memory_base();
            return stack
                .slot(base, decoded.memory_displacement64())?
                .checked_neg();
        }
        Mnemonic::Mov if decoded.op1_register() == Machine::RBP => return stack.frame,
        Mnemonic::Leave => return stack.frame?.checked_sub(8),
        _ => return None,
    };
    stack.shift?.checked_add(down)
}

/// The general registers, 64 bits wide, that an instruction may change.
pub(crate) fn writes(decoded: &Decoded) -> Vec<Machine> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info_options(decoded, InstructionInfoOptions::NO_MEMORY_USAGE);
    used.used_registers()
        .iter()
        .filter(|used| may_write(used.access()))
        .map(|used| used.register().full_register())
        .collect()
}

/// Whether an access may change what is accessed.
pub(crate) fn may_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// How Linux runs the instruction with these bytes under a uprobe: `branch_setup_xol_ops` and
/// `push_setup_xol_ops` of `arch/x86/kernel/uprobes.c`, less what only some versions emulate
/// (longer `nop`s) and prefixes.
fn instruction_of(bytes: &[u8]) -> Instruction {
    match *bytes {
        [0x90] => Instruction::Nop,
        [0x50..=0x57] | [0x41, 0x50..=0x57] => Instruction::Push,
        [0xe8, _, _, _, _] => Instruction::Call,
        [0xeb, _] | [0xe9, _, _, _, _] => Instruction::Jump,
        [opcode @ 0x70..=0x7f, _] | [0x0f, opcode @ 0x80..=0x8f, _, _, _, _] => {
            Instruction::Branch(Condition(opcode & 0xf))
        }
        _ => Instruction::Stepped,
    }
}

/// Every return instruction of a function whose code is compiled without data in it, found by going
/// through all of it; `None` if it is not code from one end to the other.
pub(crate) fn returns(image: &Image<'_>, function: Symbol<'_>) -> Option<Vec<Site>> {
    let size = usize::try_from(function.size).ok()?;
    let code = image.code_at(function.address)?.get(..size)?;
    let mut sites = Vec::new();
    for decoded in Decoder::with_ip(64, code, function.address, DecoderOptions::NONE)
        .iter()
        .take(MAX_INSTRUCTIONS)
    {
        if decoded.is_invalid() {
            return None;
        }
        if decoded.flow_control() == FlowControl::Return {
            sites.push(Site {
                file_offset: image.file_offset(decoded.ip())?,
                address: decoded.ip(),
                instruction: Instruction::Stepped,
                stack_shift: Some(0),
            });
        }
    }
    let bounded = size <= MAX_INSTRUCTIONS.checked_mul(LONGEST)?;
    (bounded && !sites.is_empty()).then_some(sites)
}

/// Explores functions of one file.
pub(crate) struct Explorer<'a> {
    image: &'a Image<'a>,
    /// What the slots of the global offset table import.
    imports: HashMap<u64, &'a [u8]>,
}

impl<'a> Explorer<'a> {
    /// For the functions of `image`.
    pub(crate) fn new(image: &'a Image<'a>) -> Self {
        Self {
            image,
            imports: image.imports(),
        }
    }

    /// The graph of one function.
    pub(crate) fn explore(&self, function: Symbol<'_>) -> Flow {
        let mut flow = Flow {
            steps: BTreeMap::new(),
            start: function.address,
            tails: BTreeSet::new(),
            incomplete: function.size == 0,
        };
        let inside = function.address..function.address.saturating_add(function.size);
        let mut open = vec![(function.address, Stack::AT_ENTRY)];
        while let Some((address, mut stack)) = open.pop() {
            if let Some(known) = flow.steps.get(&address) {
                stack = stack.merge(known.stack);
                if stack == known.stack {
                    continue;
                }
            } else if flow.steps.len() >= MAX_INSTRUCTIONS {
                flow.incomplete = true;
                break;
            }
            let Some((decoded, instruction)) = self.decode(address) else {
                flow.incomplete = true;
                continue;
            };
            let next = self.next(&decoded, stack, &inside, &mut flow);
            let after = stack.after(&decoded);
            let successors = successors(next, decoded.next_ip());
            open.extend(successors.into_iter().flatten().map(|to| (to, after)));
            let step = Step {
                decoded,
                instruction,
                next,
                stack,
            };
            flow.steps.insert(address, step);
        }
        flow
    }

    fn decode(&self, address: u64) -> Option<(Decoded, Instruction)> {
        let code = self.image.code_at(address)?;
        let code = code.get(..LONGEST).unwrap_or(code);
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let decoded = decoder.decode();
        let instruction = instruction_of(code.get(..decoded.len())?);
        (!decoded.is_invalid()).then_some((decoded, instruction))
    }

    fn next(
        &self,
        decoded: &Decoded,
        stack: Stack,
        inside: &std::ops::Range<u64>,
        flow: &mut Flow,
    ) -> Next {
        let mut away = |target| self.leaves(target, stack, inside, flow);
        match decoded.flow_control() {
            FlowControl::Next => Next::Fall,
            FlowControl::Call | FlowControl::IndirectCall => {
                if decoded.next_ip() == inside.end || self.never_returns(decoded) {
                    Next::Nowhere
                } else {
                    Next::Fall
                }
            }
            FlowControl::Return => Next::Return,
            FlowControl::UnconditionalBranch => {
                let target = decoded.near_branch_target();
                if away(target) {
                    Next::Nowhere
                } else {
                    Next::Jump(target)
                }
            }
            FlowControl::ConditionalBranch => {
                let target = decoded.near_branch_target();
                if away(target) {
                    Next::Fall
                } else {
                    Next::Branch(target)
                }
            }
            FlowControl::IndirectBranch => {
                if stack.shift == Some(0) {
                    let import = self.import_of(decoded).map(<[u8]>::to_vec);
                    flow.tails
                        .insert(import.map_or(Tail::Anywhere, Tail::Import));
                } else {
                    flow.incomplete = true;
                }
                Next::Nowhere
            }
            // `ud2` and `int3` end a way on purpose.
            FlowControl::Exception | FlowControl::Interrupt => Next::Nowhere,
            FlowControl::XbeginXabortXend => {
                flow.incomplete = true;
                Next::Nowhere
            }
        }
    }

    /// Whether a jump leaves the function, which is noted. Where the return address is on top of the
    /// stack, a jump away is a call in disguise; else it goes to a part that was moved away.
    fn leaves(
        &self,
        target: u64,
        stack: Stack,
        inside: &std::ops::Range<u64>,
        flow: &mut Flow,
    ) -> bool {
        if inside.is_empty() || inside.contains(&target) {
            return false;
        }
        match stack.shift {
            Some(0) => _ = flow.tails.insert(self.tail(target)),
            Some(_) => return false,
            None => flow.incomplete = true,
        }
        true
    }

    /// Whether a call goes, through a stub or the global offset table, to what never returns.
    fn never_returns(&self, call: &Decoded) -> bool {
        let slot = match call.flow_control() {
            FlowControl::IndirectCall => Some(call),
            _ => None,
        };
        let name = match slot {
            Some(call) => self.import_of(call),
            None => self.stub(call.near_branch_target()),
        };
        name.is_some_and(|name| NEVER_RETURN.contains(&name))
    }

    fn tail(&self, target: u64) -> Tail {
        let import = self.stub(target).map(<[u8]>::to_vec);
        import.map_or(Tail::Address(target), Tail::Import)
    }

    /// The import that a stub in the procedure linkage table jumps to: `[endbr64] [bnd] jmp [slot]`.
    fn stub(&self, address: u64) -> Option<&'a [u8]> {
        let (mut decoded, _) = self.decode(address)?;
        if decoded.code() == Code::Endbr64 {
            decoded = self.decode(decoded.next_ip())?.0;
        }
        if decoded.flow_control() != FlowControl::IndirectBranch {
            return None;
        }
        self.import_of(&decoded)
    }

    fn import_of(&self, decoded: &Decoded) -> Option<&'a [u8]> {
        if !decoded.is_ip_rel_memory_operand() {
            return None;
        }
        self.imports.get(&decoded.ip_rel_memory_address()).copied()
    }

    /// The first instruction of an explored function, and its place.
    ///
    /// # Errors
    ///
    /// Where the file has no code there, or what it has is none.
    pub(crate) fn start(&self, flow: &Flow, name: &'static str) -> Result<Site, Reason> {
        if self.image.code_at(flow.start).is_none() {
            return Err(Reason::Outside(name));
        }
        let first = flow.steps.get(&flow.start);
        first
            .and_then(|first| self.site(first))
            .ok_or(Reason::NotCode(name))
    }

    /// A place for a probe.
    pub(crate) fn site(&self, step: &Step) -> Option<Site> {
        let address = step.decoded.ip();
        Some(Site {
            file_offset: self.image.file_offset(address)?,
            address,
            instruction: step.instruction,
            stack_shift: step.stack.shift.and_then(|shift| u32::try_from(shift).ok()),
        })
    }
}

impl Flow {
    /// Where every call ends, if all end with a jump into the same other function.
    pub(crate) fn forwards(&self) -> Option<&Tail> {
        let returns = self.steps.values().any(|step| step.next == Next::Return);
        let only = self.tails.first().filter(|_| self.tails.len() == 1);
        only.filter(|_| !returns && !self.incomplete)
    }
}

/// The addresses that an instruction leads to: the one behind it first.
pub(crate) fn successors(next: Next, behind: u64) -> [Option<u64>; 2] {
    match next {
        Next::Fall => [Some(behind), None],
        Next::Jump(to) => [None, Some(to)],
        Next::Branch(to) => [Some(behind), Some(to)],
        Next::Return | Next::Nowhere => [None, None],
    }
}

impl Step {
    /// As [`successors`].
    pub(crate) fn successors(&self) -> [Option<u64>; 2] {
        successors(self.next, self.decoded.next_ip())
    }
}
