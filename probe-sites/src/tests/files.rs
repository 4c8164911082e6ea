//! Whole files: what is said of those without sites, and of damaged ones.

use iced_x86::code_asm::*;
use std::cell::Cell;
use std::path::Path;

use proptest::prelude::*;

use super::fixture::{CODE, Fixture};
use super::go_programs::go_program;
use super::stripped_files;
use crate::elf::Image;
use crate::file::File;
use crate::scan::{Exits, Family, Machine};
use crate::{Reason, Source, fuzz_scan, scan, scan_from};

fn stub(a: &mut CodeAssembler) {
    a.push(rbx).unwrap();
    a.pop(rbx).unwrap();
    a.ret().unwrap();
}

/// A library with most kinds of code in it.
fn library() -> Fixture {
    let mut fixture = Fixture::of("SSL_read", |a| {
        let mut out = a.create_label();
        a.sub(rsp, 0x18).unwrap();
        a.test(edx, edx).unwrap();
        a.js(out).unwrap();
        a.call(CODE).unwrap();
        a.test(eax, eax).unwrap();
        a.jle(out).unwrap();
        a.mov(eax, dword_ptr(rsp + 8)).unwrap();
        a.set_label(&mut out).unwrap();
        a.add(rsp, 0x18).unwrap();
        a.ret().unwrap();
        a.jmp(qword_ptr(rax * 8 + 0x60_0000)).unwrap();
    });
    let size = fixture.code.len() as u64;
    fixture.functions.push(("SSL_write", 4, size - 4));
    fixture.functions.push(("gnutls_record_recv", 9, size - 9));
    fixture
}

#[test]
fn no_elf_file_and_no_tls_are_reasons_with_remedies() {
    assert_eq!(scan(b"#!/bin/sh\n").reasons, [Reason::NotElf]);
    assert_eq!(scan(b"").reasons, [Reason::NotElf]);
    assert_eq!(
        scan(b"\x7fELF\x02\x01").reasons,
        [Reason::Damaged("ELF header")]
    );
    let plain = Fixture::of("main", stub).scan();
    assert_eq!(plain.reasons, [Reason::NoTls]);
    assert!(plain.to_string().contains("→ its TLS may be in a library"));
}

#[test]
fn a_file_without_section_headers_says_so() {
    let mut file = library().file();
    file[60] = 0;
    assert_eq!(scan(&file).reasons, [Reason::NoSections]);
    let whole = library().file();
    let cut = &whole[..whole.len() - 64];
    assert_eq!(scan(cut).reasons, [Reason::Damaged("section headers")]);
}

#[test]
fn a_library_without_one_of_its_main_functions_says_so() {
    let scan = Fixture::of("SSL_read", stub).scan();
    assert_eq!(
        scan.reasons,
        [Reason::Missing(Family::OpenSsl, "SSL_write")]
    );
}

#[test]
fn a_library_for_another_machine_is_not_decoded() {
    let mut fixture = Fixture::of("SSL_read", stub);
    fixture.machine = 183;
    let scan = fixture.scan();
    assert_eq!(scan.reasons, [Reason::Machine(Machine::Aarch64)]);
    assert!(scan.found.is_empty());
}

#[test]
fn a_symbol_outside_of_the_code_is_named() {
    let mut fixture = Fixture::of("SSL_read", stub);
    fixture.functions.push(("SSL_write", 0x10_0000, 16));
    assert!(
        fixture
            .scan()
            .reasons
            .contains(&Reason::Outside("SSL_write"))
    );
}

#[test]
fn bytes_that_are_no_code_are_named() {
    let scan = Fixture::of("SSL_read", |a| a.db(&[0x06, 0x06]).unwrap()).scan();
    assert!(
        scan.reasons.contains(&Reason::NotCode("SSL_read")),
        "{scan}"
    );
}

#[test]
fn relatives_of_openssl_are_told_apart_by_what_only_they_have() {
    for (mark, family) in [
        ("SSL_CTX_set_custom_verify", Family::BoringSsl),
        ("SSL_CTX_load_verify_mem", Family::LibreSsl),
        ("SSL_CTX_new", Family::OpenSsl),
    ] {
        let mut fixture = Fixture::of("SSL_read", stub);
        fixture.functions.push((mark, 1, 1));
        assert_eq!(fixture.scan().found[0].family, family);
    }
}

#[test]
fn a_stripped_library_is_known_by_its_constants() {
    let mut fixture = Fixture::of("main", stub);
    fixture.data = b"....../src/ssl/ssl_lib.cc\0".to_vec();
    fixture.sections.push((".rodata", 0..fixture.data.len()));
    assert_eq!(
        fixture.scan().reasons,
        [Reason::Stripped(Family::BoringSsl)]
    );
}

#[test]
fn versions_are_read_from_constants() {
    let mut fixture = library();
    fixture.data = b"enable OpenSSL 3.0 provider\0OpenSSL 1.1.1w  11 Sep 2023\0".to_vec();
    fixture.sections.push((".rodata", 0..fixture.data.len()));
    let found = fixture.scan().found;
    assert_eq!(found[0].version.as_deref(), Some("1.1.1w"));
}

#[test]
fn an_endless_function_is_given_up() {
    // A jump to the next instruction, 100,000 times.
    let fixture = Fixture::of("SSL_read", |a| a.db(&[0xeb, 0].repeat(100_000)).unwrap());
    let function = fixture.function();
    assert!(matches!(function.exits, Exits::Uretprobe(_)));
}

#[test]
fn segments_that_claim_the_same_bytes_over_and_over_are_not_searched_each() {
    let mut file = library().file();
    let at = file.len();
    let headers: Vec<u8> = file[64..64 + 56].repeat(4_000);
    file.extend(headers);
    file.resize(file.len() + (64 << 20), 0);
    file[32..40].copy_from_slice(&(at as u64).to_le_bytes());
    file[56..58].copy_from_slice(&4_000_u16.to_le_bytes());
    // All 4,000 hold the whole file.
    for nth in 0..4_000 {
        let header = at + nth * 56;
        let size = file.len() as u64;
        file[header + 8..header + 16].copy_from_slice(&0_u64.to_le_bytes());
        file[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
    }
    let file = &file[..];
    let file = File::new(&file);
    assert_eq!(Image::parse(&file).unwrap().loads().count(), 1);
}

/// A file with so much behind it that nobody can hold it.
struct Large {
    file: Vec<u8>,
    read: Cell<usize>,
}

impl Source for Large {
    fn size(&self) -> u64 {
        1 << 40
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.read.set(self.read.get() + bytes.len());
        let start = self.file.len().min(offset as usize);
        let there = bytes.len().min(self.file.len() - start);
        bytes[..there].copy_from_slice(&self.file[start..start + there]);
        bytes[there..].fill(0);
        true
    }
}

#[test]
fn of_a_large_file_only_what_is_looked_at_is_read() {
    for file in [library(), go_program(), stripped_files::library()].map(|it| it.file()) {
        let expected = scan(&file);
        assert!(!expected.found.is_empty());
        let large = Large {
            file,
            read: Cell::new(0),
        };
        assert_eq!(scan_from(&large), expected);
        assert!(large.read.get() < 4 << 20, "{} bytes", large.read.get());
    }
}

#[test]
fn no_damaged_byte_makes_it_panic() {
    for file in [library(), go_program(), stripped_files::library()].map(|it| it.file()) {
        for at in 0..file.len() {
            for value in [0xff, file[at] ^ 1] {
                let mut damaged = file.clone();
                damaged[at] = value;
                fuzz_scan(&damaged);
            }
        }
    }
}

#[test]
fn no_extreme_word_makes_it_panic() {
    for file in [library(), go_program(), stripped_files::library()].map(|it| it.file()) {
        for at in (0..file.len() - 8).step_by(8) {
            for value in [u64::MAX, u64::MAX - 64, i64::MAX as u64, 0] {
                let mut extreme = file.clone();
                extreme[at..at + 8].copy_from_slice(&value.to_le_bytes());
                fuzz_scan(&extreme);
            }
        }
    }
}

/// `UPDATE_GOLDEN=1` writes them.
#[test]
fn the_seeds_of_the_fuzz_target_are_these_files() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/probe_sites");
    for (name, file) in [
        ("seed-library", library().file()),
        ("seed-go", go_program().file()),
    ] {
        let path = corpus.join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            std::fs::write(&path, &file).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == file, "{name} is another");
    }
}

#[test]
fn no_file_that_is_cut_off_makes_it_panic() {
    for file in [library(), go_program(), stripped_files::library()].map(|it| it.file()) {
        for end in (0..file.len()).step_by(61) {
            fuzz_scan(&file[..end]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Several words of the file are replaced by numbers that are large, or near something.
    #[test]
    fn no_hostile_numbers_make_it_panic(
        which in 0..3_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..0x2000, 0_u8..6), 1..6)
    ) {
        let fixtures = [library, go_program, stripped_files::library];
        let mut file = fixtures[which]().file();
        for (place, number, kind) in changes {
            let at = place.index(file.len() / 8 - 1) * 8;
            let number = match kind {
                0 => number,
                1 => u64::MAX - number,
                2 => CODE + number,
                3 => number << 32 | number,
                4 => i64::MAX as u64 - number,
                _ => 0x60_0000 + number,
            };
            file[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        fuzz_scan(&file);
    }

    /// Code of random bytes behind a function's symbol.
    #[test]
    fn no_random_code_makes_it_panic(code in prop::collection::vec(any::<u8>(), 1..600)) {
        let mut fixture = Fixture::new(code);
        let size = fixture.code.len() as u64;
        fixture.functions = vec![("SSL_read", 0, size), ("SSL_write_ex", size / 2, size)];
        fuzz_scan(&fixture.file());
    }

    #[test]
    fn no_random_bytes_make_it_panic(rest in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_scan(&[b"\x7fELF\x02\x01\x01".as_slice(), &rest].concat());
    }
}
