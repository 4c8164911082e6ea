//! Where the result is seen.

use iced_x86::code_asm::*;

use super::fixture::{CODE, Fixture, assemble};
use crate::scan::{Condition, Exits, Instruction, Register, Value, Why};

/// Offset, instruction, value, value if taken.
type Exit = (u64, Instruction, Value, Option<Value>);

const RAX: Value = Value::Register(Register::Rax);

fn exits(name: &'static str, write: impl FnOnce(&mut CodeAssembler)) -> Vec<Exit> {
    match Fixture::of(name, write).function().exits {
        Exits::Sites(sites) => sites
            .iter()
            .map(|exit| {
                let site = exit.site;
                (
                    site.address - CODE,
                    site.instruction,
                    exit.value,
                    exit.if_taken,
                )
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

/// A call of something, five bytes.
fn call(a: &mut CodeAssembler) {
    a.call(CODE + 0x10_0000).unwrap();
}

#[test]
fn the_check_of_the_stack_protector_sees_every_result() {
    let exits = exits("SSL_read", |a| {
        let (mut out, mut smashed) = (a.create_label(), a.create_label());
        a.sub(rsp, 0x18).unwrap(); // 0
        call(a); // 4
        a.test(eax, eax).unwrap(); // 9
        a.jle(out).unwrap(); // 11
        a.mov(eax, dword_ptr(rsp)).unwrap(); // 13
        a.set_label(&mut out).unwrap();
        a.cmp(rdx, rcx).unwrap(); // 16
        a.jne(smashed).unwrap(); // 19
        a.add(rsp, 0x18).unwrap();
        a.ret().unwrap();
        a.set_label(&mut smashed).unwrap();
        a.ud2().unwrap();
    });
    assert_eq!(exits, [(19, Instruction::Branch(Condition(5)), RAX, None)]);
}

#[test]
fn a_jump_tells_either_way() {
    let exits = exits("SSL_read", |a| {
        let mut out = a.create_label();
        a.sub(rsp, 0x18).unwrap();
        call(a);
        a.test(eax, eax).unwrap();
        a.jle(out).unwrap(); // 11
        a.mov(eax, dword_ptr(rsp + 8)).unwrap();
        a.set_label(&mut out).unwrap();
        a.add(rsp, 0x18).unwrap();
        a.ret().unwrap();
    });
    let jump = Instruction::Branch(Condition(0xe));
    assert_eq!(exits, [(11, jump, Value::Stack(8), Some(RAX))]);
}

#[test]
fn results_are_followed_through_registers_and_the_frame() {
    let exits = exits("SSL_sendfile", |a| {
        let mut smashed = a.create_label();
        a.mov(rax, rax).unwrap(); // 0: stepped, so that a uretprobe is not the cheaper.
        a.push(rbp).unwrap(); // 3
        a.mov(rbp, rsp).unwrap(); // 4
        a.sub(rsp, 0x20).unwrap(); // 7
        call(a); // 11
        a.jne(smashed).unwrap(); // 16
        a.mov(rbx, qword_ptr(rbp - 8)).unwrap();
        a.mov(rax, rbx).unwrap();
        a.leave().unwrap();
        a.ret().unwrap();
        a.set_label(&mut smashed).unwrap();
        a.ud2().unwrap();
    });
    let jump = Instruction::Branch(Condition(5));
    // rbp is 8 below the return address, rsp 0x20 below rbp.
    assert_eq!(exits, [(16, jump, Value::Stack(0x18), None)]);
}

#[test]
fn a_call_that_passes_two_sites_is_told_by_the_later() {
    let exits = exits("SSL_read", |a| {
        let mut out = a.create_label();
        a.sub(rsp, 8).unwrap();
        call(a);
        a.mov(ebx, eax).unwrap(); // 9
        a.je(out).unwrap(); // 11: taken, nothing follows
        a.nop().unwrap(); // 13: not taken, this tells
        a.set_label(&mut out).unwrap();
        a.mov(eax, ebx).unwrap();
        a.add(rsp, 8).unwrap();
        a.ret().unwrap();
    });
    let kept = Value::Register(Register::Rbx);
    assert_eq!(
        exits,
        [
            (
                11,
                Instruction::Branch(Condition(4)),
                Value::Nothing,
                Some(kept)
            ),
            (13, Instruction::Nop, kept, None),
        ]
    );
}

#[test]
fn calls_that_fail_need_no_site() {
    let exits = exits("SSL_write", |a| {
        let (mut fail, mut smashed) = (a.create_label(), a.create_label());
        a.sub(rsp, 8).unwrap(); // 0
        a.js(fail).unwrap(); // 4
        call(a); // 6
        a.jne(smashed).unwrap(); // 11
        a.add(rsp, 8).unwrap();
        a.ret().unwrap();
        a.set_label(&mut fail).unwrap();
        call(a);
        a.mov(eax, -1).unwrap();
        a.add(rsp, 8).unwrap();
        a.ret().unwrap();
        a.set_label(&mut smashed).unwrap();
        a.ud2().unwrap();
    });
    assert_eq!(exits, [(11, Instruction::Branch(Condition(5)), RAX, None)]);
}

/// A wrapper whose result is made behind its call: no emulated instruction sees it.
fn clamped(a: &mut CodeAssembler) {
    call(a);
    a.xor(edx, edx).unwrap();
    a.test(eax, eax).unwrap();
    a.cmovs(eax, edx).unwrap();
    a.ret().unwrap();
}

#[test]
fn where_nothing_is_proven_the_returns_are_stepped_over() {
    let exits = exits("SSL_read_ex", |a| {
        a.mov(rax, rax).unwrap(); // 0
        clamped(a); // 3
    });
    assert_eq!(exits, [(15, Instruction::Stepped, RAX, None)]);
}

#[test]
fn a_uretprobe_is_taken_where_it_is_cheaper_than_the_returns() {
    let function = Fixture::of("SSL_read_ex", clamped).function();
    assert_eq!(function.exits, Exits::Uretprobe(Why::Cheaper));
    assert_eq!(function.entry, function.start);
    assert_eq!(function.returns.len(), 1);
}

#[test]
fn bytes_and_their_count_must_stand_before_the_exit() {
    let late = |name: &'static str, after: fn(&mut CodeAssembler)| {
        exits(name, |a| {
            let mut smashed = a.create_label();
            a.mov(rax, rax).unwrap();
            call(a); // 3
            a.jne(smashed).unwrap(); // 8
            after(a); // 10
            a.ret().unwrap();
            a.set_label(&mut smashed).unwrap();
            a.ud2().unwrap();
        })[0]
            .0
    };
    for name in ["SSL_read", "SSL_read_ex"] {
        assert_eq!(late(name, |a| a.mov(edx, 1).unwrap()), 8);
        assert_eq!(late(name, |a| a.mov(qword_ptr(rcx), rdx).unwrap()), 13);
        assert_eq!(late(name, |a| a.movsb().unwrap()), 11);
    }
}

#[test]
fn a_call_that_ends_in_an_unknown_function_needs_a_uretprobe() {
    let function = Fixture::of("SSL_read", |a| a.jmp(rax).unwrap()).function();
    assert_eq!(function.exits, Exits::Uretprobe(Why::TailCall));
    assert!(function.returns.is_empty());
}

#[test]
fn a_function_that_only_goes_on_into_another_needs_no_probe() {
    let code = assemble(|a| {
        a.xor(ecx, ecx).unwrap(); // 0
        a.jmp(CODE + 16).unwrap(); // 2
        a.nops_with_size(12).unwrap(); // 4
        a.ret().unwrap(); // 16
    });
    let mut fixture = Fixture::new(code);
    fixture.functions.push(("gnutls_record_send", 0, 4));
    fixture.functions.push(("gnutls_record_send2", 16, 1));
    let scan = fixture.scan();
    let functions = &scan.found[0].functions;
    let first = functions.iter().find(|it| it.start.address == CODE);
    assert_eq!(
        first.unwrap().exits,
        Exits::Forwards("gnutls_record_send2".into())
    );
}

#[test]
fn code_that_was_moved_away_belongs_to_the_function() {
    let code = assemble(|a| {
        let (mut cold, mut back) = (a.create_label(), a.create_label());
        a.push(rbx).unwrap(); // 0
        call(a); // 1
        a.js(cold).unwrap(); // 6
        a.nop().unwrap(); // 8
        a.set_label(&mut back).unwrap();
        a.pop(rbx).unwrap();
        a.ret().unwrap(); // 10
        a.nops_with_size(5).unwrap();
        a.set_label(&mut cold).unwrap();
        call(a); // 16
        a.jmp(back).unwrap(); // 21
    });
    let mut fixture = Fixture::new(code);
    fixture.functions.push(("SSL_read", 0, 11));
    let function = fixture.function();
    let Exits::Sites(sites) = &function.exits else {
        panic!("{function}")
    };
    let places: Vec<u64> = sites.iter().map(|exit| exit.site.address - CODE).collect();
    assert_eq!(places, [8, 21], "{function}");
    assert_eq!(function.returns.len(), 1);
}
