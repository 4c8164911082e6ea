//! Exit sites against running the code: random small functions are run on random ways through
//! them, and what a probe would note must be what the function returns.

use iced_x86::code_asm::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::fixture::{CODE, Fixture};
use crate::scan::{Condition, Exits, Function, Instruction, Register, Scan, Value};

/// Whether a processor with these flags takes a jump of that condition.
fn holds(condition: Condition, flags: u64) -> bool {
    let [carry, parity, zero, sign, overflow] = [0, 2, 6, 7, 11].map(|bit| flags >> bit & 1 == 1);
    let holds = match condition.0 >> 1 & 7 {
        0 => overflow,
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => sign,
        5 => parity,
        6 => sign != overflow,
        _ => zero || sign != overflow,
    };
    holds != (condition.0 & 1 == 1)
}

/// One instruction. Numbers of registers and slots are taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Constant(usize, i32),
    Move(usize, usize),
    Load(usize, usize),
    Store(usize, usize),
    /// Changes `rax` and, as far as is known, nothing else.
    Call,
    Nop,
    PushPop(usize),
    /// Sets the flags.
    Compare(usize, usize),
    /// `jle` to the operation of that number.
    Branch(usize),
    Jump(usize),
    Return,
}

const REGISTERS: [AsmRegister32; 3] = [eax, ebx, ebp];
const WIDE: [AsmRegister64; 3] = [rax, rbx, rbp];
/// The frame: slots of 8 bytes each.
const SLOTS: usize = 3;
const FRAME: i32 = 24;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0..3_usize, -2..3).prop_map(|(to, number)| Op::Constant(to, number)),
        3 => (0..3_usize, 0..3_usize).prop_map(|(to, from)| Op::Move(to, from)),
        2 => (0..3_usize, 0..SLOTS).prop_map(|(to, from)| Op::Load(to, from)),
        2 => (0..SLOTS, 0..3_usize).prop_map(|(to, from)| Op::Store(to, from)),
        3 => Just(Op::Call),
        2 => Just(Op::Nop),
        1 => (0..3_usize).prop_map(Op::PushPop),
        2 => (0..3_usize, 0..3_usize).prop_map(|(a, b)| Op::Compare(a, b)),
        3 => any::<usize>().prop_map(Op::Branch),
        2 => any::<usize>().prop_map(Op::Jump),
        1 => Just(Op::Return),
    ]
}

/// Assembles the operations; gives each one's address, of the nth its first instruction.
fn assemble(ops: &[Op]) -> (Vec<u8>, Vec<u64>) {
    let mut a = CodeAssembler::new(64).unwrap();
    let mut labels: Vec<CodeLabel> = ops.iter().map(|_| a.create_label()).collect();
    a.mov(rcx, rcx).unwrap(); // Stepped, so that a uretprobe is not the cheaper.
    a.sub(rsp, FRAME).unwrap();
    let mut starts = Vec::new();
    for (nth, op) in ops.iter().enumerate() {
        a.set_label(&mut labels[nth]).unwrap();
        starts.push(a.instructions().len());
        match *op {
            Op::Constant(to, number) => a.mov(REGISTERS[to], number),
            Op::Move(to, from) => a.mov(WIDE[to], WIDE[from]),
            Op::Load(to, from) => a.mov(REGISTERS[to], dword_ptr(rsp + from as i32 * 8)),
            Op::Store(to, from) => a.mov(qword_ptr(rsp + to as i32 * 8), WIDE[from]),
            Op::Call => a.call(CODE + 0x10_0000),
            Op::Nop => a.nop(),
            Op::PushPop(which) => a.push(WIDE[which]).and_then(|()| a.pop(WIDE[which])),
            Op::Compare(one, two) => a.cmp(REGISTERS[one], REGISTERS[two]),
            Op::Branch(to) => a.jle(labels[to % ops.len()]),
            Op::Jump(to) => a.jmp(labels[to % ops.len()]),
            Op::Return => a.add(rsp, FRAME).and_then(|()| a.ret()),
        }
        .unwrap();
    }
    let result = a
        .assemble_options(
            CODE,
            iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS,
        )
        .unwrap();
    let offsets = &result.inner.new_instruction_offsets;
    let addresses = starts.iter().map(|nth| CODE + u64::from(offsets[*nth]));
    (result.inner.code_buffer.clone(), addresses.collect())
}

/// The machine that runs them.
struct Run<'a> {
    function: &'a Function,
    registers: [i32; 3],
    slots: [i32; SLOTS],
    flags: u64,
    /// What calls return, in turn.
    calls: &'a [i32],
    /// What probes noted.
    noted: Vec<i32>,
}

impl Run<'_> {
    /// Runs to a return, and gives the result; `None` if it goes round too long.
    fn run(&mut self, ops: &[Op], addresses: &[u64]) -> Option<i32> {
        let mut at = 0;
        for _ in 0..200 {
            // The last operation is a return: nothing runs beyond.
            let op = &ops[at];
            let probed = match op {
                Op::Return => addresses[at] + 4, // Behind `add`.
                _ => addresses[at],
            };
            self.probe(probed);
            at += 1;
            match *op {
                Op::Constant(to, number) => self.registers[to] = number,
                Op::Move(to, from) => self.registers[to] = self.registers[from],
                Op::Load(to, from) => self.registers[to] = self.slots[from],
                Op::Store(to, from) => self.slots[to] = self.registers[from],
                Op::Call => {
                    self.registers[0] = *self.calls.first()?;
                    self.calls = &self.calls[1..];
                }
                Op::Compare(one, two) => self.compare(one, two),
                Op::Branch(to) if self.at_most() => at = to % ops.len(),
                Op::Jump(to) => at = to % ops.len(),
                Op::Return => return Some(self.registers[0]),
                Op::Nop | Op::PushPop(_) | Op::Branch(_) => {}
            }
        }
        None
    }

    fn compare(&mut self, one: usize, two: usize) {
        let (one, two) = (self.registers[one], self.registers[two]);
        let (difference, overflow) = one.overflowing_sub(two);
        let flag = |set: bool, bit: u32| u64::from(set) << bit;
        self.flags = flag(difference == 0, 6) | flag(difference < 0, 7) | flag(overflow, 11);
    }

    fn at_most(&self) -> bool {
        let bit = |bit: u32| self.flags >> bit & 1 == 1;
        bit(6) || bit(7) != bit(11)
    }

    /// What the kernel's program would do.
    fn probe(&mut self, address: u64) {
        let Exits::Sites(exits) = &self.function.exits else {
            return;
        };
        let Some(exit) = exits.iter().find(|exit| exit.site.address == address) else {
            return;
        };
        let value = match (exit.site.instruction, exit.if_taken) {
            (Instruction::Branch(condition), Some(taken)) if holds(condition, self.flags) => taken,
            _ => exit.value,
        };
        let noted = match value {
            Value::Register(Register::Rax) => self.registers[0],
            Value::Register(Register::Rbx) => self.registers[1],
            Value::Register(Register::Rbp) => self.registers[2],
            Value::Stack(above) => self.slots[above as usize / 8],
            Value::Constant(constant) => constant,
            Value::Nothing => return,
            Value::Register(other) => panic!("{other} is not used"),
        };
        self.noted.push(noted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn probes_note_each_positive_result_once(
        ops in prop::collection::vec(op(), 2..14),
        runs in prop::collection::vec((prop::array::uniform3(-2..3), prop::collection::vec(-2..3, 60)), 6)
    ) {
        let ops = [ops, vec![Op::Return]].concat();
        let (code, addresses) = assemble(&ops);
        let scan = scan(&code);
        // A function that can only fail is none.
        let Some(function) = scan.found.first().and_then(|it| it.functions.first()) else {
            return Ok(());
        };
        for (registers, calls) in &runs {
            let mut machine = Run {
                function,
                registers: *registers,
                slots: *registers,
                flags: 0,
                calls,
                noted: Vec::new(),
            };
            let Some(result) = machine.run(&ops, &addresses) else {
                continue;
            };
            let noted: Vec<i32> = machine.noted.iter().copied().filter(|it| *it > 0).collect();
            if let Exits::Sites(_) = function.exits {
                let expected: &[i32] = if result > 0 { &[result] } else { &[] };
                prop_assert_eq!(noted, expected, "{}\n{:#?}", function, ops);
            }
        }
    }
}

/// The test above is worth something only if sites are proven often.
#[test]
fn sites_are_emulated_in_a_good_part_of_them() {
    let mut runner = TestRunner::deterministic();
    let functions = prop::collection::vec(op(), 2..14);
    let mut proven = 0;
    for _ in 0..300 {
        let mut ops = functions.new_tree(&mut runner).unwrap().current();
        ops.push(Op::Return);
        let scan = scan(&assemble(&ops).0);
        let function = scan.found.first().and_then(|it| it.functions.first());
        let all_emulated = function.is_some_and(|function| match &function.exits {
            Exits::Sites(exits) => exits.iter().all(|it| it.site.instruction.emulated()),
            _ => false,
        });
        proven += usize::from(all_emulated);
    }
    assert!(proven > 50, "{proven} of 300");
}

fn scan(code: &[u8]) -> Scan {
    let mut fixture = Fixture::new(code.to_vec());
    fixture.functions.push(("SSL_read", 0, code.len() as u64));
    fixture.scan()
}
