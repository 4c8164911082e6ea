//! What the scanner needs of an ELF file: segments, sections, symbols, stubs of imported functions.
//!
//! Offsets and sizes come from a file that may be damaged or hostile: each is checked where it is
//! used, and nothing is allocated by a number that the file merely claims.

use std::cell::OnceCell;
use std::collections::HashMap;

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::header::{EI_DATA, ELFDATA2LSB, EM_AARCH64, EM_X86_64, Header};
use goblin::elf::program_header::{PF_X, PT_LOAD, PT_NOTE};
use goblin::elf::reloc::{R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, R_X86_64_RELATIVE};
use goblin::elf::section_header::{
    SHF_COMPRESSED, SHT_DYNSYM, SHT_NOBITS, SHT_NOTE, SHT_RELA, SHT_SYMTAB,
};
use goblin::elf::sym::{STT_FUNC, Sym, Symtab};
use goblin::elf::{Elf, ProgramHeader, Reloc, RelocSection, SectionHeader};
use memchr::{memchr, memmem};

use crate::reason::Reason;
use crate::scan::{BuildId, Machine};

/// Headers read of each kind at most. Real files have some ten segments and some fifty sections;
/// object files made with one section for each function are not what is attached to.
const MAX_HEADERS: usize = 4_096;
/// Symbols looked at, at most; a browser with all its symbols has about one million.
const MAX_SYMBOLS: usize = 4_000_000;
/// Longest name that is read to its end; those that are looked for are shorter.
const MAX_NAME: usize = 256;
/// Relocations looked at, at most.
const MAX_RELOCATIONS: usize = 1_000_000;
/// Places of one pointer looked at, at most.
const MAX_POINTERS: usize = 1_024;
/// Bytes of the file that may belong to two segments, in all.
const SHARED: u64 = 1 << 20;
/// Notes looked at in one segment at most.
const MAX_NOTES: usize = 64;

/// An ELF file's headers, with its bytes.
pub(crate) struct Image<'a> {
    /// The whole file.
    pub(crate) bytes: &'a [u8],
    /// What it was compiled for.
    pub(crate) machine: Machine,
    /// Why there are no sections, if there are none.
    pub(crate) without_sections: Option<Reason>,
    segments: Vec<ProgramHeader>,
    sections: Vec<Section<'a>>,
    context: Ctx,
    /// Pointers that the loader fills in: place and value before the file is moved.
    pointers: OnceCell<HashMap<u64, u64>>,
}

/// One section, its name resolved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) kind: u32,
    pub(crate) address: u64,
    flags: u64,
    offset: u64,
    size: u64,
    link: u32,
}

impl Section<'_> {
    /// Whether its bytes are compressed (`SHF_COMPRESSED`).
    pub(crate) fn compressed(self) -> bool {
        self.flags & u64::from(SHF_COMPRESSED) != 0
    }
}

/// A function that the file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) address: u64,
    /// Bytes of code; 0 if the file does not say.
    pub(crate) size: u64,
}

impl<'a> Image<'a> {
    /// Reads the headers.
    ///
    /// # Errors
    ///
    /// `NotElf`, or `Damaged` where the headers contradict the file. Sections that cannot be read
    /// are no error: a program runs without them.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Reason> {
        if !bytes.starts_with(b"\x7fELF") {
            return Err(Reason::NotElf);
        }
        let header = Elf::parse_header(bytes).map_err(|_| Reason::Damaged("ELF header"))?;
        let endian = if header.e_ident[EI_DATA] == ELFDATA2LSB {
            Endian::Little
        } else {
            Endian::Big
        };
        let container = header
            .container()
            .map_err(|_| Reason::Damaged("ELF header"))?;
        let context = Ctx::new(container, endian);
        let machine = match (header.e_machine, container) {
            (EM_X86_64, Container::Big) => Machine::X86_64,
            (EM_AARCH64, Container::Big) => Machine::Aarch64,
            (other, _) => Machine::Other(other),
        };
        let mut image = Self {
            bytes,
            machine,
            without_sections: None,
            segments: segments(bytes, &header, context)?,
            sections: Vec::new(),
            context,
            pointers: OnceCell::new(),
        };
        image.sections = image.read_sections(&header);
        if header.e_shnum == 0 {
            image.without_sections = Some(Reason::NoSections);
        } else if image.sections.is_empty() {
            image.without_sections = Some(Reason::Damaged("section headers"));
        }
        Ok(image)
    }

    fn read_sections(&self, header: &Header) -> Vec<Section<'a>> {
        let Ok(offset) = usize::try_from(header.e_shoff) else {
            return Vec::new();
        };
        let count = usize::from(header.e_shnum);
        // Without a count the first header holds it, which goblin reads; none has so many.
        if offset == 0 || offset >= self.bytes.len() || count == 0 || count > MAX_HEADERS {
            return Vec::new();
        }
        let headers =
            SectionHeader::parse(self.bytes, offset, count, self.context).unwrap_or_default();
        let names = headers
            .get(usize::from(header.e_shstrndx))
            .and_then(|names| self.file_range(names.sh_offset, names.sh_size))
            .unwrap_or_default();
        let section = |header: &SectionHeader| Section {
            name: string_at(names, header.sh_name).unwrap_or_default(),
            kind: header.sh_type,
            address: header.sh_addr,
            flags: header.sh_flags,
            offset: header.sh_offset,
            size: header.sh_size,
            link: header.sh_link,
        };
        headers.iter().map(section).collect()
    }

    fn file_range(&self, offset: u64, size: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        self.bytes.get(start..end)
    }

    /// The first section of that name.
    pub(crate) fn section(&self, name: &[u8]) -> Option<Section<'a>> {
        self.sections.iter().find(|s| s.name == name).copied()
    }

    /// The bytes of a section; `None` if it has none in the file, or lies beyond its end.
    pub(crate) fn data(&self, section: Section<'_>) -> Option<&'a [u8]> {
        if section.kind == SHT_NOBITS {
            return None;
        }
        self.file_range(section.offset, section.size)
    }

    /// The loaded segments: address, bytes in the file, and whether they are executable.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (u64, &'a [u8], bool)> {
        self.segments
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD)
            .filter_map(|segment| {
                let bytes = self.file_range(segment.p_offset, segment.p_filesz)?;
                Some((segment.p_vaddr, bytes, segment.p_flags & PF_X != 0))
            })
    }

    /// The code at an address, up to the end of the executable segment.
    pub(crate) fn code_at(&self, address: u64) -> Option<&'a [u8]> {
        self.loads()
            .filter(|load| load.2)
            .find_map(|(start, bytes, _)| {
                let skip = usize::try_from(address.checked_sub(start)?).ok()?;
                bytes.get(skip..).filter(|rest| !rest.is_empty())
            })
    }

    /// Where in the file the code at an address is: what a uprobe is attached to.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        let here = self.code_at(address)?;
        // Both are slices of the same file.
        let offset = here
            .as_ptr()
            .addr()
            .checked_sub(self.bytes.as_ptr().addr())?;
        u64::try_from(offset).ok()
    }

    /// Functions that the file defines, of the dynamic table first.
    pub(crate) fn functions(&self) -> impl Iterator<Item = Symbol<'a>> {
        let tables = [SHT_DYNSYM, SHT_SYMTAB];
        tables.into_iter().flat_map(|kind| {
            let defined = |sym: &Sym| sym.st_shndx != 0 && sym.st_type() == STT_FUNC;
            self.symbols(kind)
                .filter(move |(sym, _)| defined(sym))
                .map(|(sym, name)| Symbol {
                    name,
                    address: sym.st_value,
                    size: sym.st_size,
                })
        })
    }

    /// Every symbol of the tables of one kind, with its name. Names are found by
    /// [`string_at`]; goblin's own string table would read all of them in advance.
    fn symbols(&self, kind: u32) -> impl Iterator<Item = (Sym, &'a [u8])> {
        self.sections
            .iter()
            .filter(move |section| section.kind == kind)
            .filter_map(|section| {
                let table = self.data(*section)?;
                let names = self.sections.get(usize::try_from(section.link).ok()?)?;
                let size = Sym::size(self.context.container);
                let count = table.len().checked_div(size)?;
                let table = Symtab::parse(table, 0, count, self.context).ok()?;
                Some((table, self.data(*names)?))
            })
            .flat_map(|(table, names)| (&table).into_iter().map(move |sym| (sym, names)))
            .take(MAX_SYMBOLS)
            .map(|(sym, names)| (sym, string_at(names, sym.st_name).unwrap_or_default()))
    }

    /// Slots of the global offset table, and the imported function that each will hold.
    pub(crate) fn imports(&self) -> HashMap<u64, &'a [u8]> {
        let symbols: Vec<&[u8]> = self.symbols(SHT_DYNSYM).map(|(_, name)| name).collect();
        self.relocations()
            .filter(|entry| matches!(entry.r_type, R_X86_64_JUMP_SLOT | R_X86_64_GLOB_DAT))
            .filter_map(|entry| Some((entry.r_offset, *symbols.get(entry.r_sym)?)))
            .collect()
    }

    fn relocations(&self) -> impl Iterator<Item = Reloc> {
        self.sections
            .iter()
            .filter(|section| section.kind == SHT_RELA)
            .filter_map(|section| {
                let table = self.data(*section)?;
                RelocSection::parse(table, 0, table.len(), true, self.context).ok()
            })
            .flat_map(|table| table.iter())
            .take(MAX_RELOCATIONS)
    }

    /// What the file has at an address, up to the end of the segment.
    pub(crate) fn at(&self, address: u64) -> Option<&'a [u8]> {
        self.loads().find_map(|(start, bytes, _)| {
            let skip = usize::try_from(address.checked_sub(start)?).ok()?;
            bytes.get(skip..).filter(|rest| !rest.is_empty())
        })
    }

    fn pointers(&self) -> &HashMap<u64, u64> {
        self.pointers.get_or_init(|| {
            self.relocations()
                .filter(|entry| entry.r_type == R_X86_64_RELATIVE)
                .map(|entry| {
                    let value = entry.r_addend.unwrap_or_default().cast_unsigned();
                    (entry.r_offset, value)
                })
                .collect()
        })
    }

    /// The pointer at an address, as it will be if the file is loaded where it says.
    pub(crate) fn pointer_at(&self, address: u64) -> Option<u64> {
        let relocated = self.pointers().get(&address).copied();
        relocated.or_else(|| {
            self.at(address)?
                .first_chunk()
                .map(|it| u64::from_le_bytes(*it))
        })
    }

    /// Where data has a pointer to an address.
    pub(crate) fn pointers_to(&self, address: u64) -> Vec<u64> {
        let wanted = address.to_le_bytes();
        let relocated = self.pointers().iter();
        let relocated = relocated
            .filter(|(_, to)| **to == address)
            .map(|(at, _)| *at);
        let written = self
            .loads()
            .filter(|(_, _, executable)| !executable)
            .flat_map(|(start, bytes, _)| {
                let places = memmem::find_iter(bytes, &wanted).take(MAX_POINTERS);
                let places = places.filter_map(|at| u64::try_from(at).ok()?.checked_add(start));
                places
                    .filter(|at| at.is_multiple_of(8))
                    .collect::<Vec<u64>>()
            });
        written.chain(relocated).take(MAX_POINTERS).collect()
    }

    /// The build id that the linker left in a note.
    pub(crate) fn build_id(&self) -> Option<BuildId> {
        const NT_GNU_BUILD_ID: u32 = 3;
        let in_segments = self
            .segments
            .iter()
            .filter(|segment| segment.p_type == PT_NOTE)
            .filter_map(|segment| self.file_range(segment.p_offset, segment.p_filesz));
        let in_sections = self
            .sections
            .iter()
            .filter(|section| section.kind == SHT_NOTE)
            .filter_map(|section| self.data(*section));
        in_segments
            .chain(in_sections)
            .flat_map(|bytes| notes(bytes, self.context.le))
            .find(|note| note.0 == b"GNU\0" && note.1 == NT_GNU_BUILD_ID)
            .and_then(|note| BuildId::new(note.2))
    }
}

fn segments(bytes: &[u8], header: &Header, context: Ctx) -> Result<Vec<ProgramHeader>, Reason> {
    let damaged = Reason::Damaged("program headers");
    let count = usize::from(header.e_phnum);
    if count > MAX_HEADERS {
        return Err(damaged);
    }
    let Ok(offset) = usize::try_from(header.e_phoff) else {
        return Err(damaged);
    };
    let mut segments = ProgramHeader::parse(bytes, offset, count, context).map_err(|_| damaged)?;
    // Loaded segments share a page of the file at most; else each would be searched anew.
    let mut left = u64::try_from(bytes.len())
        .unwrap_or(u64::MAX)
        .saturating_add(SHARED);
    segments.retain(|segment| {
        let rest = left.checked_sub(segment.p_filesz);
        left = rest.unwrap_or(left);
        segment.p_type != PT_LOAD || rest.is_some()
    });
    Ok(segments)
}

/// The string that begins at `at`, up to its NUL.
pub(crate) fn string_at(table: &[u8], at: usize) -> Option<&[u8]> {
    let rest = table.get(at..)?;
    let rest = rest.get(..MAX_NAME).unwrap_or(rest);
    rest.get(..memchr(0, rest)?)
}

/// Name, type and contents of each note.
fn notes(mut bytes: &[u8], endian: Endian) -> impl Iterator<Item = (&[u8], u32, &[u8])> {
    let word = move |bytes: &[u8], at: usize| {
        let word = *bytes.get(at..)?.first_chunk()?;
        Some(match endian {
            Endian::Little => u32::from_le_bytes(word),
            Endian::Big => u32::from_be_bytes(word),
        })
    };
    let next = move || {
        let name_size = usize::try_from(word(bytes, 0)?).ok()?;
        let size = usize::try_from(word(bytes, 4)?).ok()?;
        let kind = word(bytes, 8)?;
        let name = bytes.get(12..12_usize.checked_add(name_size)?)?;
        let start = 12_usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let contents = bytes.get(start..start.checked_add(size)?)?;
        let end = start.checked_add(size.checked_next_multiple_of(4)?)?;
        bytes = bytes.get(end..).unwrap_or_default();
        Some((name, kind, contents))
    };
    std::iter::from_fn(next).take(MAX_NOTES)
}
