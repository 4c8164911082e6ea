//! Functions of TLS libraries in files without symbols, found by the errors that they report.
//!
//! The libraries name their source file, and the line or the function, where they report an error, and
//! tables for unwinding say where functions begin and end. Which errors a function reports tells
//! which it is. Whatever is not the only one that fits is not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::ops::Range;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, OpKind, Register};

use crate::content;
use crate::elf::{Image, Load, Symbol};
use crate::scan::{Family, Role};

/// Strings looked for at most; a name is in a file a few times.
const MAX_STRINGS: usize = 8;
/// Longest path of a source file.
const LONGEST_PATH: u64 = 4_096;
/// Largest function looked into.
const MAX_FUNCTION: u64 = 64 * 1024;

/// Reasons of BoringSSL's errors (`openssl/err.h`, `openssl/ssl.h`).
const SHOULD_NOT_HAVE_BEEN_CALLED: u32 = 66;
const BAD_LENGTH: u32 = 111;
const SSL_HANDSHAKE_FAILURE: u32 = 215;
const UNINITIALIZED: u32 = 226;
/// The library's number in its errors (`ERR_LIB_SSL`).
const LIBRARY: u32 = 16;

/// `SSL_write`, `SSL_read` and `SSL_peek` of BoringSSL; `None` if any is not certain.
///
/// `SSL_write` is the only function that reports its three or four errors. `SSL_read` and `SSL_peek`
/// report one, in the same line, because the first contains the second, and call the same function.
pub(crate) fn boringssl(image: &Image<'_>) -> Option<Vec<Found>> {
    let files = strings(image, b"ssl/ssl_lib.cc");
    let code = Unwound::read(image)?;
    let mut reports = BTreeMap::new();
    for (place, _) in references(image, &files) {
        if let Some(function) = code.around(place) {
            reports
                .entry((function.start, function.end))
                .or_insert_with(|| reported(image, &function, &files));
        }
    }
    let (write, lines) = only(reports.iter().filter(|(_, reports)| of_write(reports)))?;
    let first = lines.iter().map(|report| report.line).min()?;
    // In the source they stand right before `SSL_write`.
    let before = first.saturating_sub(64)..first;
    let reads = reports
        .iter()
        .filter_map(|(function, reports)| match reports[..] {
            [
                Report {
                    reason: SHOULD_NOT_HAVE_BEEN_CALLED,
                    line,
                },
            ] if before.contains(&line) => Some((*function, line)),
            _ => None,
        });
    let mut reads: Vec<((u64, u64), u32)> = reads.collect();
    reads.sort_by_key(|((start, end), _)| end.saturating_sub(*start));
    let [(peek, line), (read, same_line)] = reads[..] else {
        return None;
    };
    // What both call waits for the handshake, as `SSL_write` does.
    let waits = |callee: &u64| {
        let function = reports.iter().find(|((start, _), _)| start == callee);
        function.is_some_and(|(_, reports)| {
            let reasons = [SSL_HANDSHAKE_FAILURE, UNINITIALIZED];
            reasons
                .iter()
                .all(|it| reports.iter().any(|report| report.reason == *it))
        })
    };
    let shared = calls(image, peek)
        .intersection(&calls(image, read))
        .any(waits);
    let larger = peek.1.abs_diff(peek.0) < read.1.abs_diff(read.0);
    (line == same_line && larger && shared).then(|| {
        vec![
            Found::new("SSL_write", Role::Write, *write),
            Found::new("SSL_read", Role::Read, read),
            Found::new("SSL_peek", Role::Peek, peek),
        ]
    })
}

/// Whether a function reports what `SSL_write` does: three errors, in newer versions a fourth.
fn of_write(reports: &[Report]) -> bool {
    let reasons: BTreeSet<u32> = reports.iter().map(|report| report.reason).collect();
    let always = [
        SHOULD_NOT_HAVE_BEEN_CALLED,
        SSL_HANDSHAKE_FAILURE,
        UNINITIALIZED,
    ];
    let mut others = reasons.iter().filter(|reason| !always.contains(reason));
    always.iter().all(|reason| reasons.contains(reason))
        && others.all(|reason| *reason == BAD_LENGTH)
}

/// The functions of OpenSSL 3 that have the code of `ssl_read_internal` or `ssl_write_internal`,
/// whose errors tell its name: the function itself, which `SSL_read` and `SSL_read_ex` call,
/// and where the compiler copied it, these too.
pub(crate) fn openssl(image: &Image<'_>) -> Option<Vec<Found>> {
    let version = content::version(image, Family::OpenSsl)?;
    let mut numbers = version.split('.').map_while(|it| it.parse::<u32>().ok());
    let write = match (numbers.next()?, numbers.next()?) {
        (3, 0..=2) => Role::WriteEx,
        (3.., _) => Role::WriteEx2,
        _ => return None,
    };
    // What both have, the own name of the function with another signature, and of one that contains it.
    let kinds = [
        ["ssl_write_internal", "SSL_write", "SSL_write_early_data"],
        ["ssl_read_internal", "SSL_read", "SSL_read_early_data"],
    ];
    let roles = [(Role::Write, write), (Role::Read, Role::ReadEx)];
    let places = kinds.map(|names| names.map(|name| exact_strings(image, name.as_bytes())));
    let files = strings(image, b"ssl/ssl_lib.c");
    let all: Vec<u64> = places
        .iter()
        .flatten()
        .flatten()
        .chain(&files)
        .copied()
        .collect();
    let code = Unwound::read(image)?;
    let references = references(image, &all);
    let library = code.users(&references, &files);
    let mut found = Vec::new();
    for ((names, places), (plain_role, inner_role)) in kinds.iter().zip(&places).zip(roles) {
        let [inner, plain, early] = places.each_ref().map(|it| code.users(&references, it));
        let before = found.len();
        for function in inner
            .intersection(&library)
            .filter(|it| !early.contains(it))
        {
            let own = plain.contains(function);
            let (name, role) = if own {
                (names[1], plain_role)
            } else {
                (names[0], inner_role)
            };
            found.push(Found::new(name, role, *function));
        }
        if found.len() == before {
            return None;
        }
    }
    Some(found)
}

/// A function, by what it does.
pub(crate) struct Found {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) symbol: Symbol<'static>,
}

impl Found {
    fn new(name: &'static str, role: Role, (start, end): (u64, u64)) -> Self {
        let symbol = Symbol {
            name: name.as_bytes(),
            address: start,
            size: end.saturating_sub(start),
        };
        Self { name, role, symbol }
    }
}

/// Beginnings and ends of functions.
type Functions = BTreeSet<(u64, u64)>;

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Addresses of the strings that end with `end`.
fn strings(image: &Image<'_>, end: &[u8]) -> Vec<u64> {
    let bytes = [end, b"\0"].concat();
    constants(image, &bytes)
        .filter_map(|(load, place)| {
            let before = image.file().end_of(load.range.start..place, LONGEST_PATH)?;
            let length = before.iter().rev().take_while(|byte| **byte != 0).count();
            load.address_of(place)?.checked_sub(length as u64)
        })
        .take(MAX_STRINGS)
        .collect()
}

/// Addresses at which a string is just `text`; it may be the end of a longer one, which linkers share.
fn exact_strings(image: &Image<'_>, text: &[u8]) -> Vec<u64> {
    let bytes = [text, b"\0"].concat();
    let places = constants(image, &bytes);
    places
        .filter_map(|(load, place)| load.address_of(place))
        .take(MAX_STRINGS)
        .collect()
}

/// Where in the file the constants have some bytes, and in which segment.
fn constants(image: &Image<'_>, bytes: &[u8]) -> impl Iterator<Item = (Load, u64)> {
    image.constants().flat_map(|load| {
        let places = image.file().places(load.range.clone(), bytes, MAX_STRINGS);
        places.into_iter().map(move |place| (load.clone(), place))
    })
}

/// Places in the code that refer to one of the addresses, and to which, by 32 bits: relative to the
/// end of these bytes, as every call and `lea` does, or absolute. Some are none, by chance.
fn references(image: &Image<'_>, targets: &[u64]) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for load in image.code() {
        image.file().windows(load.range.clone(), 3, |offset, code| {
            let Some(start) = load.address_of(offset) else {
                return true;
            };
            let places = iter::successors(Some(start), |place: &u64| place.checked_add(1));
            for (place, bytes) in places.zip(code.windows(4)) {
                let Some(word) = bytes.first_chunk().map(|word| i32::from_le_bytes(*word)) else {
                    continue;
                };
                let end = place.wrapping_add(4);
                let relative = end.wrapping_add_signed(word.into());
                let absolute = u64::from(word.cast_unsigned());
                let target = targets
                    .iter()
                    .find(|it| **it == relative || **it == absolute);
                found.extend(target.map(|target| (place, *target)));
            }
            false
        });
    }
    found
}

/// An error that a function reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    reason: u32,
    line: u32,
}

/// The errors that a function reports: calls of `ERR_put_error(library, 0, reason, file, line)`.
fn reported(image: &Image<'_>, function: &Range<u64>, files: &[u64]) -> Vec<Report> {
    let mut reports = Vec::new();
    let (mut library, mut reason, mut line, mut file) = (None, None, None, false);
    for decoded in instructions(image, function) {
        let constant = match decoded.code() {
            Code::Mov_r32_imm32 => Some(decoded.immediate32()),
            _ => None,
        };
        let target = match decoded.code() {
            Code::Lea_r64_m if decoded.is_ip_rel_memory_operand() => {
                Some(decoded.ip_rel_memory_address())
            }
            _ => constant.map(u64::from),
        };
        if decoded.op_count() > 0 && decoded.op0_kind() == OpKind::Register {
            match decoded.op0_register().full_register() {
                Register::RDI => library = constant,
                Register::RDX => reason = constant,
                Register::R8 => line = constant,
                Register::RCX => file = target.is_some_and(|target| files.contains(&target)),
                _ => {}
            }
        }
        if decoded.is_call_near() {
            if let (true, Some(LIBRARY), Some(reason), Some(line)) = (file, library, reason, line) {
                reports.push(Report { reason, line });
            }
            (library, reason, line, file) = (None, None, None, false);
        }
    }
    reports
}

/// What a function calls.
fn calls(image: &Image<'_>, (start, end): (u64, u64)) -> BTreeSet<u64> {
    instructions(image, &(start..end))
        .filter(Instruction::is_call_near)
        .map(|call| call.near_branch_target())
        .collect()
}

fn instructions<'a>(
    image: &Image<'a>,
    function: &Range<u64>,
) -> impl Iterator<Item = Instruction> + use<'a> {
    let size = function
        .end
        .saturating_sub(function.start)
        .min(MAX_FUNCTION);
    let code = image.code_at(function.start).unwrap_or_default();
    let code = usize::try_from(size).ok().and_then(|size| code.get(..size));
    let code = code.unwrap_or_default();
    let mut decoder = Decoder::with_ip(64, code, function.start, DecoderOptions::NONE);
    iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

/// Where functions begin and end, by the tables for unwinding (LSB 5.0, 10.6: `.eh_frame`,
/// `.eh_frame_hdr`).
struct Unwound<'a> {
    image: &'a Image<'a>,
    /// Pairs of words relative to the header: a function's beginning, its description; in order.
    table: &'a [u8],
    header: u64,
}

impl<'a> Unwound<'a> {
    /// The version, and how pointers are written in what all compilers make: the table is sorted,
    /// its words are relative to the header.
    const KNOWN: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

    fn read(image: &'a Image<'a>) -> Option<Self> {
        let section = image.section(b".eh_frame_hdr")?;
        let data = image.data(section)?;
        data.starts_with(&Self::KNOWN).then(|| Self {
            image,
            table: data.get(12..).unwrap_or_default(),
            header: section.address,
        })
    }

    fn entry(&self, nth: usize) -> Option<(u64, u64)> {
        let entry = self.table.get(nth.checked_mul(8)?..)?;
        let word = |at: usize| {
            let word = entry.get(at..)?.first_chunk()?;
            Some(
                self.header
                    .wrapping_add_signed(i32::from_le_bytes(*word).into()),
            )
        };
        Some((word(0)?, word(4)?))
    }

    /// The functions that refer to one of the targets.
    fn users(&self, references: &[(u64, u64)], targets: &[u64]) -> Functions {
        references
            .iter()
            .filter(|(_, target)| targets.contains(target))
            .filter_map(|(place, _)| self.around(*place))
            .map(|function| (function.start, function.end))
            .collect()
    }

    /// The function around an address.
    fn around(&self, address: u64) -> Option<Range<u64>> {
        let (mut low, mut high) = (0, self.table.len() / 8);
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle)?.0 <= address {
                low = middle.checked_add(1)?;
            } else {
                high = middle;
            }
        }
        let (start, description) = self.entry(low.checked_sub(1)?)?;
        // Length, offset of the common part, beginning, length of the code: 4 bytes each.
        let size = self.image.bytes_at(description.checked_add(12)?)?;
        let end = start.checked_add(u32::from_le_bytes(size).into())?;
        (start..end).contains(&address).then_some(start..end)
    }
}
