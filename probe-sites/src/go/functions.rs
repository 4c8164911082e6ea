//! Go's table of functions, `.gopclntab` (Go's `runtime/symtab.go`, `cmd/link/internal/ld/pcln.go`).
//!
//! ```text
//! magic u32, 0, 0, quantum u8, pointer u8,
//! functions, files, text start (0 since Go 1.26), names, units, files, pcs, functions: 8 bytes each
//! names:     at `names`, each ends with NUL
//! functions: at `functions`, (entry u32, offset u32)…, end u32; at an offset: entry u32, name u32, …
//! ```

use std::collections::HashMap;

use crate::elf::{Image, Symbol, string_at};

/// Functions looked at, at most; the largest programs have some 300,000.
const MAX_FUNCTIONS: usize = 4_000_000;
/// Places looked at where no section says which is the table.
const MAX_PLACES: usize = 1_024;
/// Bytes that say what a table has.
const HEAD: usize = 8 + 8 * 8;
/// Little-endian magic of Go 1.20 and later, and of 1.18 and 1.19.
const MAGICS: [[u8; 4]; 2] = [[0xf1, 0xff, 0xff, 0xff], [0xf0, 0xff, 0xff, 0xff]];
/// What follows the magic on x86-64: padding, quantum of 1, pointers of 8 bytes.
const X86_64: [u8; 4] = [0, 0, 1, 8];
/// Where `moduledata` has its `text`: behind `pcHeader`, six slices, `findfunctab`, `minpc`, `maxpc`.
const MODULE_TEXT: u64 = 8 + 6 * 24 + 8 + 2 * 8;

/// A program's table of functions.
pub(crate) struct Table<'a> {
    address: u64,
    text_start: u64,
    names: &'a [u8],
    /// Entries, then what they point to.
    functions: &'a [u8],
    count: usize,
}

/// The beginning of a table.
struct Head {
    text_start: u64,
    names: u64,
    functions: u64,
    count: usize,
}

impl Head {
    /// Of a table in so many bytes, all of which may not be at hand.
    fn parse(bytes: &[u8], size: u64) -> Option<Self> {
        let known = MAGICS.iter().any(|magic| bytes.starts_with(magic));
        if !known || !bytes.get(4..)?.starts_with(&X86_64) {
            return None;
        }
        let word = |nth: usize| {
            let at = nth.checked_mul(8)?.checked_add(8)?;
            let word = bytes.get(at..)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        };
        let head = Self {
            count: usize::try_from(word(0)?).ok()?,
            text_start: word(2)?,
            names: word(3)?,
            functions: word(7)?,
        };
        // The table must at least hold what it says that it holds.
        let entries = (head.count as u64).checked_mul(8)?.checked_add(4)?;
        let holds = head.functions.checked_add(entries)? <= size && head.names <= size;
        (holds && head.count <= MAX_FUNCTIONS).then_some(head)
    }
}

/// A function of the table, relative to where the text begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<'a> {
    name: &'a [u8],
    entry: u32,
    size: u32,
}

impl<'a> Function<'a> {
    /// As a symbol, if the text begins there.
    pub(crate) fn at(&self, text: u64) -> Symbol<'a> {
        Symbol {
            name: self.name,
            address: text.wrapping_add(u64::from(self.entry)),
            size: u64::from(self.size),
        }
    }
}

impl<'a> Table<'a> {
    /// Finds it by its section, else by its magic.
    pub(crate) fn find(image: &Image<'a>) -> Option<Self> {
        let sections: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
        let by_name = sections.into_iter().find_map(|name| {
            let section = image.section(name)?;
            Self::parse(section.address, image.data(section)?)
        });
        by_name.or_else(|| {
            image.constants().find_map(|load| {
                MAGICS.iter().find_map(|magic| {
                    let magic = [*magic, X86_64].concat();
                    let places = image.file().places(load.range.clone(), &magic, MAX_PLACES);
                    places.into_iter().find_map(|at| {
                        let left = load.range.end.checked_sub(at)?;
                        // What is none is not worth being held.
                        Head::parse(&image.file().bytes_at::<HEAD>(at)?, left)?;
                        Self::parse(load.address_of(at)?, image.file().part(at, left)?)
                    })
                })
            })
        })
    }

    fn parse(address: u64, bytes: &'a [u8]) -> Option<Self> {
        let head = Head::parse(bytes, bytes.len() as u64)?;
        let part = |at: u64| bytes.get(usize::try_from(at).ok()?..);
        Some(Self {
            address,
            text_start: head.text_start,
            names: part(head.names)?,
            functions: part(head.functions)?,
            count: head.count,
        })
    }

    /// The functions of these names, in their order. Where assembly code calls one, there are two
    /// of its name: the function, and a short wrapper that passes arguments from the stack.
    pub(crate) fn functions(&self, names: &[&str]) -> Vec<Option<Function<'a>>> {
        let wanted: HashMap<&[u8], usize> = names
            .iter()
            .enumerate()
            .map(|(nth, name)| (name.as_bytes(), nth))
            .collect();
        let mut found = vec![None; names.len()];
        let entries = self.functions.chunks_exact(8).take(self.count);
        for (nth, entry) in entries.enumerate() {
            let Some(function) = self.function(nth, entry) else {
                continue;
            };
            if let Some(place) = wanted.get(function.name)
                && let Some(place) = found.get_mut(*place)
                && place.is_none_or(|other: Function<'_>| other.size < function.size)
            {
                *place = Some(function);
            }
        }
        found
    }

    fn function(&self, nth: usize, entry: &[u8]) -> Option<Function<'a>> {
        let start = word(entry, 0)?;
        let data = self
            .functions
            .get(usize::try_from(word(entry, 4)?).ok()?..)?;
        let name = string_at(self.names, usize::try_from(word(data, 4)?).ok()?)?;
        let next = word(self.functions, nth.checked_add(1)?.checked_mul(8)?)?;
        Some(Function {
            name,
            entry: start,
            size: next.checked_sub(start)?,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

/// Where the text begins that the table counts from.
///
/// The table says it before Go 1.26, the runtime's `moduledata` always, both after relocation;
/// without C in the program it is where `.text` begins. Whichever puts the beginning of a
/// function's stack check at every function that is known to have one is right.
pub(crate) fn text_start(image: &Image<'_>, table: &Table<'_>) -> Option<u64> {
    let checked = [
        "crypto/tls.(*Conn).Write",
        "crypto/tls.(*Conn).Read",
        "crypto/tls.(*Conn).handshakeContext",
        "net.(*netFD).Read",
        "net.(*netFD).Write",
        "runtime.newproc1",
        "fmt.Fprintf",
    ];
    let checked: Vec<Function<'_>> = table.functions(&checked).into_iter().flatten().collect();
    let fits = |text: &u64| {
        checked.len() >= 3
            && checked.iter().all(|function| {
                image
                    .code_at(function.at(*text).address)
                    .is_some_and(checks_stack)
            })
    };
    let section = image.section(b".text").map(|section| section.address);
    let candidates = [Some(table.text_start), section, module_text(image, table)];
    candidates.into_iter().flatten().find(fits)
}

/// Whether code begins with `cmp rsp, [r14+0x10]` or, in a large frame, with `lea r12, [rsp-n]`
/// (`cmd/internal/obj/x86`, `stacksplit`).
fn checks_stack(code: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 3] = [
        &[0x49, 0x3b, 0x66, 0x10],
        &[0x4c, 0x8d, 0x64, 0x24],
        &[0x4c, 0x8d, 0xa4, 0x24],
    ];
    BEGINNINGS.iter().any(|begin| code.starts_with(begin))
}

/// `text` of the `moduledata` that points to the table.
fn module_text(image: &Image<'_>, table: &Table<'_>) -> Option<u64> {
    image
        .pointers_to(table.address)
        .into_iter()
        .find_map(|module| {
            let text = image.pointer_at(module.checked_add(MODULE_TEXT)?)?;
            image.code_at(text).map(|_| text)
        })
}

/// The type word of a `*net.TCPConn` as a `net.Conn`: an `itab`, whose methods, in alphabetical
/// order 24 bytes on, are those of `*net.TCPConn`.
pub(crate) fn tcp_conn_type(image: &Image<'_>, table: &Table<'_>, text: u64) -> Option<u64> {
    const METHODS: u64 = 24;
    let methods = [
        "net.(*TCPConn).Close",
        "net.(*TCPConn).Read",
        "net.(*TCPConn).Write",
    ];
    let inherited = ["net.(*conn).Close", "net.(*conn).Read", "net.(*conn).Write"];
    // Places in `net.Conn`: Close, LocalAddr, Read, RemoteAddr, three Set…Deadline, Write.
    let places = [0, 2, 7];
    let own = table.functions(&methods);
    let inherited = table.functions(&inherited);
    let addresses: Vec<Vec<u64>> = own
        .iter()
        .zip(&inherited)
        .map(|pair| {
            let both = [pair.0, pair.1].into_iter().flatten();
            both.map(|function| function.at(text).address).collect()
        })
        .collect();
    let close = addresses.first()?;
    let candidates = close.iter().flat_map(|close| image.pointers_to(*close));
    let fits = |first: &u64| {
        places.iter().zip(&addresses).all(|(place, wanted)| {
            let at = first.checked_add(8_u64.saturating_mul(*place));
            at.and_then(|at| image.pointer_at(at))
                .is_some_and(|method| wanted.contains(&method))
        })
    };
    candidates
        .into_iter()
        .find(fits)
        .and_then(|first| first.checked_sub(METHODS))
}
