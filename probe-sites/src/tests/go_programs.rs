//! Go programs, as small as they can be.

use iced_x86::code_asm::*;

use super::fixture::{CODE, Fixture, assemble};
use crate::Reason;
use crate::scan::{Condition, Exits, Instruction, Role};

/// Each function of the programs below takes so many bytes.
const FUNCTION: u64 = 64;
const NAMES: [&str; 8] = [
    "crypto/tls.(*Conn).Write",
    "crypto/tls.(*Conn).Read",
    "crypto/tls.(*Conn).handshakeContext",
    "net.(*TCPConn).Close",
    "net.(*TCPConn).Read",
    "net.(*TCPConn).Write",
    "runtime.newproc1",
    "crypto/tls.(*Conn).writeRecordLocked",
];
/// Places in the data of the table of functions, the module's description, the itab.
const TABLE: usize = 0x100;
const MODULE: usize = 0x800;
const ITAB: usize = 0x900;

/// A program of Go 1.27, without symbols.
pub(super) fn go_program() -> Fixture {
    program("go1.27.3")
}

fn program(version: &str) -> Fixture {
    let mut fixture = Fixture::new(assemble(|a| {
        for nth in 0..NAMES.len() as u64 {
            function(a, CODE + nth * FUNCTION);
        }
    }));
    let mut data = b"\xff Go buildinf:\x08\x02".to_vec();
    data.resize(32, 0);
    data.push(version.len() as u8);
    data.extend(version.as_bytes());
    data.resize(TABLE, 0);
    data.extend(table());
    data.resize(MODULE, 0);
    data.extend(Fixture::data_address(TABLE).to_le_bytes());
    data.resize(MODULE + 176, 0);
    data.extend(CODE.to_le_bytes());
    data.resize(ITAB + 24, 0);
    for method in [3_u64, 9, 4, 9, 9, 9, 9, 5] {
        data.extend((CODE + method * FUNCTION).to_le_bytes());
    }
    fixture.data = data;
    fixture.sections.push((".go.buildinfo", 0..TABLE));
    fixture.sections.push((".gopclntab", TABLE..MODULE));
    fixture
}

/// A stack check, two returns, and the growth of the stack.
fn function(a: &mut CodeAssembler, start: u64) {
    let (mut grow, mut other) = (a.create_label(), a.create_label());
    a.cmp(rsp, qword_ptr(r14 + 0x10)).unwrap(); // 0
    a.jbe(grow).unwrap(); // 4
    a.test(rcx, rcx).unwrap();
    a.je(other).unwrap();
    a.ret().unwrap();
    a.set_label(&mut other).unwrap();
    a.xor(eax, eax).unwrap();
    a.ret().unwrap();
    a.set_label(&mut grow).unwrap();
    a.call(CODE + 0x800).unwrap();
    a.jmp(start).unwrap();
    let used = 4 + 2 + 3 + 2 + 1 + 2 + 1 + 5 + 2;
    a.db(&[0xcc].repeat(FUNCTION as usize - used)).unwrap();
}

/// The table of functions, as of Go 1.26: without the address of the text.
fn table() -> Vec<u8> {
    const HEADER: usize = 72;
    let mut names = Vec::new();
    let places: Vec<u32> = NAMES
        .iter()
        .map(|name| {
            let place = names.len() as u32;
            names.extend(name.as_bytes());
            names.push(0);
            place
        })
        .collect();
    let entries = NAMES.len() * 8 + 4;
    let mut functions = Vec::new();
    let mut details = Vec::new();
    for (nth, name) in places.iter().enumerate() {
        let entry = nth as u32 * FUNCTION as u32;
        functions.extend(entry.to_le_bytes());
        functions.extend(((entries + details.len()) as u32).to_le_bytes());
        details.extend(entry.to_le_bytes());
        details.extend(name.to_le_bytes());
    }
    functions.extend((NAMES.len() as u32 * FUNCTION as u32).to_le_bytes());
    let mut table = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let after = HEADER + names.len();
    for word in [NAMES.len(), 0, 0, HEADER, after, after, after, after] {
        table.extend((word as u64).to_le_bytes());
    }
    [table, names, functions, details].concat()
}

#[test]
fn functions_are_found_without_symbols_and_every_return_is_an_exit() {
    let scan = go_program().scan();
    let library = &scan.found[0];
    assert_eq!(library.version.as_deref(), Some("go1.27.3"));
    let roles: Vec<Role> = library.functions.iter().map(|it| it.role).collect();
    assert_eq!(
        roles,
        [
            Role::Write,
            Role::Read,
            Role::GoWriteRecord,
            Role::Handshake,
            Role::GoSpawn
        ]
    );
    let read = &library.functions[1];
    assert_eq!(read.start.address, CODE + FUNCTION);
    assert_eq!(read.entry.address, CODE + FUNCTION + 4);
    assert_eq!(read.entry.instruction, Instruction::Branch(Condition(6)));
    let Exits::Sites(exits) = &read.exits else {
        panic!("{read}")
    };
    let places: Vec<u64> = exits
        .iter()
        .map(|exit| exit.site.address - CODE - FUNCTION)
        .collect();
    assert_eq!(places, [11, 14]);
}

#[test]
fn the_type_of_a_tcp_connection_is_known_by_its_methods() {
    let go = go_program().scan().found[0].go.unwrap();
    assert_eq!(go.tcp_conn_type, Some(Fixture::data_address(ITAB)));
    assert_eq!((go.conn, go.descriptor), (0, 16));
}

#[test]
fn a_text_address_without_stack_checks_is_not_believed() {
    let mut program = go_program();
    program.data[MODULE + 176] ^= 0x40; // One function further.
    assert_eq!(program.scan().found.len(), 1, "the section's is right");
    for nth in 0..NAMES.len() {
        program.code[nth * FUNCTION as usize] = 0x48;
    }
    assert_eq!(
        program.scan().reasons,
        [Reason::Damaged("Go's text address")]
    );
}

#[test]
fn versions_before_the_register_convention_and_unknown_ones_are_refused() {
    for version in ["go1.16.15", "go1.20.1", "go1.28.0", "devel go1.28-1234"] {
        let reason = Reason::GoVersion(version.to_owned());
        assert_eq!(program(version).scan().reasons, [reason]);
    }
}

#[test]
fn a_go_program_without_tls_has_none() {
    let mut program = go_program();
    let names: Vec<usize> = (0..program.data.len() - 5)
        .filter(|at| program.data[*at..].starts_with(b"/tls."))
        .collect();
    for at in names {
        program.data[at + 1] = b'x';
    }
    assert_eq!(program.scan().reasons, [Reason::NoTls]);
}
