//! Where the entry probe goes.

use iced_x86::code_asm::*;

use super::fixture::{CODE, CODE_OFFSET, Fixture};
use crate::scan::{Condition, Instruction};

/// Offset and instruction of the entry of `SSL_write` with this code.
fn entry(write: impl FnOnce(&mut CodeAssembler)) -> (u64, Instruction) {
    entry_of("SSL_write", write)
}

fn entry_of(name: &'static str, write: impl FnOnce(&mut CodeAssembler)) -> (u64, Instruction) {
    let entry = Fixture::of(name, write).function().entry;
    assert_eq!(entry.file_offset - CODE_OFFSET, entry.address - CODE);
    (entry.address - CODE, entry.instruction)
}

#[test]
fn first_jump_with_the_arguments_in_place_is_taken_and_the_stack_told() {
    let function = Fixture::of("SSL_write", |a| {
        let mut fail = a.create_label();
        a.sub(rsp, 0x18).unwrap();
        a.test(edx, edx).unwrap();
        a.js(fail).unwrap();
        a.set_label(&mut fail).unwrap();
        a.mov(eax, 1).unwrap();
        a.add(rsp, 0x18).unwrap();
        a.ret().unwrap();
    })
    .function();
    assert_eq!(function.entry.address, CODE + 6);
    assert_eq!(
        function.entry.instruction,
        Instruction::Branch(Condition(8))
    );
    assert_eq!(function.entry.stack_shift, Some(0x18));
    assert_eq!(function.start.stack_shift, Some(0));
}

#[test]
fn nothing_behind_a_write_to_an_argument() {
    let site = entry(|a| {
        a.mov(edx, edx).unwrap(); // The count, cut to 32 bits.
        a.nop().unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site, (0, Instruction::Stepped));
}

#[test]
fn write_to_a_register_that_is_no_argument_does_not_matter() {
    let site = entry(|a| {
        a.mov(rcx, rsp).unwrap(); // SSL_write has three arguments.
        a.push(r12).unwrap();
        a.pop(r12).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site, (3, Instruction::Push));
}

#[test]
fn nothing_at_a_place_that_is_jumped_to() {
    let site = entry(|a| {
        let mut again = a.create_label();
        a.xor(eax, eax).unwrap();
        a.set_label(&mut again).unwrap();
        a.nop().unwrap(); // Runs once for each round.
        a.inc(eax).unwrap();
        a.jne(again).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site, (0, Instruction::Stepped));
}

#[test]
fn where_a_table_is_jumped_through_only_what_moves_the_stack_is_safe() {
    let table = |a: &mut CodeAssembler| {
        a.test(edx, edx).unwrap();
        a.nop().unwrap(); // A case of the table might begin here.
        a.jmp(qword_ptr(rax * 8)).unwrap();
    };
    let safe = entry_of("SSL_set_fd", |a| {
        a.mov(eax, eax).unwrap();
        a.push(rbx).unwrap();
        table(a);
    });
    assert_eq!(safe, (2, Instruction::Push));
    let doubtful = entry_of("SSL_set_fd", |a| {
        a.sub(rsp, 8).unwrap();
        table(a);
    });
    assert_eq!(doubtful, (0, Instruction::Stepped));
}

#[test]
fn nops_that_only_some_kernels_emulate_and_prefixed_jumps_are_stepped_over() {
    let site = entry(|a| {
        a.db(&[0x66, 0x90]).unwrap(); // A nop of two bytes.
        a.db(&[0x0f, 0x1f, 0x44, 0, 0]).unwrap(); // One of five.
        a.db(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap(); // endbr64
        a.push(r15).unwrap();
        a.ret().unwrap();
    });
    assert_eq!(site, (11, Instruction::Push));
}
