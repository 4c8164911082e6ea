//! Libraries without symbols, known by the errors that their functions report.

use iced_x86::code_asm::*;

use super::fixture::{CODE, Fixture, assemble};
use crate::Reason;
use crate::scan::{Family, Role};

/// Each function of the files below takes so many bytes, but for the last, which takes twice as many.
const FUNCTION: u64 = 0x100;
const FILE: &[u8] = b"third_party/boringssl/ssl/ssl_lib.cc\0";
/// Places in the data: the file's name first, then the tables for unwinding.
const HEADER: usize = 0x100;
const FRAMES: usize = 0x200;

/// `ERR_put_error(16, 0, reason, file, line)`.
fn report(a: &mut CodeAssembler, (reason, line): (u32, u32), callee: u64) {
    a.mov(r8d, line).unwrap();
    a.mov(ecx, Fixture::data_address(0) as u32).unwrap();
    a.mov(edx, reason).unwrap();
    a.xor(esi, esi).unwrap();
    a.mov(edi, 16).unwrap();
    a.call(callee).unwrap();
}

/// Functions that report these errors, and call what the last argument says.
fn boringssl(functions: &[(&[(u32, u32)], u64)]) -> Fixture {
    let mut code = Vec::new();
    for (nth, (errors, callee)) in functions.iter().enumerate() {
        // Assembled at the beginning, hence everything is further away by where it will be.
        let moved = |address: u64| address - nth as u64 * FUNCTION;
        code.extend(assemble(|a| {
            a.push(rbx).unwrap();
            a.call(moved(*callee)).unwrap();
            for error in *errors {
                report(a, *error, moved(CODE + 0x10_0000));
            }
            a.pop(rbx).unwrap();
            a.ret().unwrap();
        }));
        code.resize((nth + 1) * FUNCTION as usize, 0xcc);
    }
    code.resize(code.len() + FUNCTION as usize, 0xcc);
    let mut fixture = Fixture::new(code);
    let mut data = FILE.to_vec();
    data.resize(HEADER, 0);
    data.extend([1, 0x1b, 3, 0x3b, 0, 0, 0, 0, functions.len() as u8, 0, 0, 0]);
    let header = Fixture::data_address(HEADER);
    for nth in 0..functions.len() as u64 {
        let start = CODE + nth * FUNCTION;
        let frame = Fixture::data_address(FRAMES) + 16 * nth;
        for address in [start, frame] {
            data.extend((address.wrapping_sub(header) as u32).to_le_bytes());
        }
    }
    let table = HEADER..data.len();
    data.resize(FRAMES, 0);
    for nth in 0..functions.len() {
        let last = nth + 1 == functions.len();
        let size = FUNCTION as u32 * if last { 2 } else { 1 };
        data.extend([[0; 4], [0; 4], [0; 4], size.to_le_bytes()].concat());
    }
    fixture.data = data;
    fixture.sections.push((".rodata", 0..FILE.len()));
    fixture.sections.push((".eh_frame_hdr", table));
    fixture
}

const WRITE: &[(u32, u32)] = &[(66, 956), (226, 961), (215, 976), (111, 982)];
const READ: &[(u32, u32)] = &[(66, 935)];
/// The first function, which waits for the handshake.
const INNER: u64 = CODE;
const INNER_REPORTS: &[(u32, u32)] = &[(226, 843), (215, 876)];

fn stripped() -> Reason {
    Reason::Stripped(Family::BoringSsl)
}

pub(super) fn library() -> Fixture {
    boringssl(&[
        (&[(226, 843), (215, 876)], INNER),
        (WRITE, INNER),
        (READ, INNER),
        (READ, INNER),
    ])
}

#[test]
fn boringssl_is_found_by_its_errors() {
    let scan = library().scan();
    assert_eq!(scan.reasons, []);
    assert_eq!(scan.found[0].family, Family::BoringSsl);
    let functions = &scan.found[0].functions;
    let found: Vec<(Role, u64)> = functions
        .iter()
        .map(|it| (it.role, (it.start.address - CODE) / FUNCTION))
        .collect();
    assert_eq!(found, [(Role::Write, 1), (Role::Read, 3), (Role::Peek, 2)]);
}

#[test]
fn two_that_fit_are_none() {
    let write = (WRITE, INNER);
    let read = (READ, INNER);
    let twice = boringssl(&[(INNER_REPORTS, INNER), write, write, read, read]);
    assert_eq!(twice.scan().reasons, [stripped()]);
}

#[test]
fn readers_that_do_not_wait_for_the_handshake_are_none() {
    let other = CODE + 0x10_0000; // What reports errors.
    let readers = [(READ, other), (READ, other)];
    let none = boringssl(&[
        (INNER_REPORTS, INNER),
        (WRITE, INNER),
        readers[0],
        readers[1],
    ]);
    assert_eq!(none.scan().reasons, [stripped()]);
}

#[test]
fn a_reader_without_a_copy_of_the_other_is_none() {
    let one = boringssl(&[(INNER_REPORTS, INNER), (WRITE, INNER), (READ, INNER)]);
    assert_eq!(one.scan().reasons, [stripped()]);
}
