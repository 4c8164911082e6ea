//! What the scanner needs of an ELF file: segments, sections, symbols, stubs of imported functions.
//!
//! Offsets and sizes come from a file that may be damaged or hostile: each is checked where it is
//! used, and nothing is allocated by a number that the file merely claims.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

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

use crate::file::File;
use crate::reason::Reason;
use crate::scan::{BuildId, Machine};

/// Bytes of the file's header, of the longer kind.
const HEADER: u64 = 64;
/// Headers read of each kind at most. Real files have some ten segments and some fifty sections;
/// object files made with one section for each function are not what is attached to.
const MAX_HEADERS: usize = 4_096;
/// Symbols looked at, at most; a browser with all its symbols has about one million.
const MAX_SYMBOLS: usize = 4_000_000;
/// Longest name that is read to its end; those that are looked for are shorter.
const MAX_NAME: usize = 256;
/// Functions that are found by their names, at most.
const MAX_FUNCTIONS: usize = 1_024;
/// Bytes by which names are sought: what those that are looked for have at least.
const BEGINNING: usize = 4;
/// Relocations looked at, at most.
const MAX_RELOCATIONS: usize = 1_000_000;
/// Places of one pointer looked at, at most.
const MAX_POINTERS: usize = 1_024;
/// Bytes of the file that may belong to two segments, in all.
const SHARED: u64 = 1 << 20;
/// Bytes of notes looked at in one place.
const NOTES: u64 = 64 << 10;
/// Notes looked at in one segment at most.
const MAX_NOTES: usize = 64;

/// An ELF file's headers, and the file.
pub(crate) struct Image<'a> {
    file: &'a File<'a>,
    /// What it was compiled for.
    pub(crate) machine: Machine,
    /// Why there are no sections, if there are none.
    pub(crate) without_sections: Option<Reason>,
    segments: Vec<ProgramHeader>,
    sections: Vec<Section<'a>>,
    context: Ctx,
    /// What its constants say, once somebody has asked ([`crate::content::trace`]).
    pub(crate) trace: OnceCell<Option<Reason>>,
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

/// A segment that is loaded, all of it in the file.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where it is in memory.
    pub(crate) address: u64,
    /// Where it is in the file.
    pub(crate) range: Range<u64>,
    pub(crate) executable: bool,
}

impl Load {
    /// Where in the file what is at an address is; `None` if it is not in this segment.
    fn offset(&self, address: u64) -> Option<u64> {
        let offset = self
            .range
            .start
            .checked_add(address.checked_sub(self.address)?)?;
        self.range.contains(&offset).then_some(offset)
    }

    /// Where in memory what is at an offset is.
    pub(crate) fn address_of(&self, offset: u64) -> Option<u64> {
        offset
            .checked_sub(self.range.start)?
            .checked_add(self.address)
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
    pub(crate) fn parse(file: &'a File<'a>) -> Result<Self, Reason> {
        let head = file.part(0, file.size().min(HEADER)).unwrap_or_default();
        if !head.starts_with(b"\x7fELF") {
            return Err(Reason::NotElf);
        }
        let header = Elf::parse_header(head).map_err(|_| Reason::Damaged("ELF header"))?;
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
            file,
            machine,
            without_sections: None,
            segments: segments(file, &header, context)?,
            sections: Vec::new(),
            context,
            trace: OnceCell::new(),
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
        let count = usize::from(header.e_shnum);
        // Without a count the first header holds it, which goblin reads; none has so many.
        if header.e_shoff == 0 || count == 0 || count > MAX_HEADERS {
            return Vec::new();
        }
        let size = SectionHeader::size(self.context).saturating_mul(count) as u64;
        let headers = self.file.part(header.e_shoff, size).and_then(|bytes| {
            let headers = SectionHeader::parse_from(bytes, 0, count, self.context);
            headers.ok()
        });
        let headers = headers.unwrap_or_default();
        let names = headers
            .get(usize::from(header.e_shstrndx))
            .and_then(|names| self.file.part(names.sh_offset, names.sh_size))
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

    /// The first section of that name.
    pub(crate) fn section(&self, name: &[u8]) -> Option<Section<'a>> {
        self.sections.iter().find(|s| s.name == name).copied()
    }

    /// Where in the file a section is; `None` if it has no bytes there, or lies beyond its end.
    pub(crate) fn range(&self, section: Section<'_>) -> Option<Range<u64>> {
        let end = section.offset.checked_add(section.size)?;
        let is_there = section.kind != SHT_NOBITS && end <= self.file.size();
        is_there.then_some(section.offset..end)
    }

    /// The bytes of a section.
    pub(crate) fn data(&self, section: Section<'_>) -> Option<&'a [u8]> {
        let range = self.range(section)?;
        self.file.part(range.start, section.size)
    }

    /// The file, for what is searched.
    pub(crate) fn file(&self) -> &'a File<'a> {
        self.file
    }

    /// The loaded segments.
    pub(crate) fn loads(&self) -> impl Iterator<Item = Load> {
        self.segments
            .iter()
            .filter(|segment| segment.p_type == PT_LOAD)
            .filter_map(|segment| {
                let end = segment.p_offset.checked_add(segment.p_filesz)?;
                (end <= self.file.size()).then_some(Load {
                    address: segment.p_vaddr,
                    range: segment.p_offset..end,
                    executable: segment.p_flags & PF_X != 0,
                })
            })
    }

    /// Those that are executable.
    pub(crate) fn code(&self) -> impl Iterator<Item = Load> {
        self.loads().filter(|load| load.executable)
    }

    /// Those that are not.
    pub(crate) fn constants(&self) -> impl Iterator<Item = Load> {
        self.loads().filter(|load| !load.executable)
    }

    /// The code at an address, up to the end of the executable segment: at least a hundred
    /// thousand bytes of it.
    pub(crate) fn code_at(&self, address: u64) -> Option<&'a [u8]> {
        let (offset, left) = self.code().find_map(|load| from(&load, address))?;
        self.file.near(offset, left)
    }

    /// Where in the file the code at an address is: what a uprobe is attached to.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        self.code().find_map(|load| load.offset(address))
    }

    /// Functions that the file defines by one of these names, of the dynamic table first.
    ///
    /// Names are sought before symbols: few files have any of them, and some have a million symbols.
    pub(crate) fn functions<'n>(&self, names: &[&'n str]) -> Vec<Symbol<'n>> {
        let tables = [SHT_DYNSYM, SHT_SYMTAB].into_iter();
        let sections =
            tables.flat_map(|kind| self.sections.iter().filter(move |it| it.kind == kind));
        let mut functions = Vec::new();
        let mut left = MAX_SYMBOLS;
        // Tables share their strings at most in part; else each would be searched anew.
        let mut to_search = self.file.size().saturating_add(SHARED);
        for table in sections {
            let link = usize::try_from(table.link).ok();
            let strings = link.and_then(|link| self.sections.get(link));
            let strings = strings.and_then(|strings| self.range(*strings));
            let (Some(strings), Some(table)) = (strings, self.range(*table)) else {
                continue;
            };
            let size = strings.end.saturating_sub(strings.start);
            let Some(rest) = to_search.checked_sub(size) else {
                break;
            };
            to_search = rest;
            let known = self.names(strings, names);
            if known.is_empty() {
                continue;
            }
            self.file.windows(table, 0, |_, window| {
                let size = Sym::size(self.context.container);
                let count = window.len().checked_div(size).unwrap_or(0).min(left);
                left = left.saturating_sub(count);
                let Ok(symbols) = Symtab::parse(window, 0, count, self.context) else {
                    return true;
                };
                let defined = |sym: &Sym| sym.st_shndx != 0 && sym.st_type() == STT_FUNC;
                functions.extend(symbols.iter().filter(defined).filter_map(|sym| {
                    Some(Symbol {
                        name: known.get(&sym.st_name)?.as_bytes(),
                        address: sym.st_value,
                        size: sym.st_size,
                    })
                }));
                left == 0 || functions.len() >= MAX_FUNCTIONS
            });
        }
        functions
    }

    /// Where in a table of strings some names are; linkers share the ends of strings.
    fn names<'n>(&self, strings: Range<u64>, names: &[&'n str]) -> HashMap<usize, &'n str> {
        let by_bytes: HashMap<&[u8], &str> =
            names.iter().map(|name| (name.as_bytes(), *name)).collect();
        let beginnings: HashSet<&[u8]> = names
            .iter()
            .filter_map(|name| name.as_bytes().get(..BEGINNING))
            .collect();
        let finders: Vec<_> = beginnings.into_iter().map(memmem::Finder::new).collect();
        let mut known = HashMap::new();
        self.file
            .windows(strings.clone(), MAX_NAME, |offset, window| {
                for at in finders.iter().flat_map(|finder| finder.find_iter(window)) {
                    let name = string_at(window, at).and_then(|name| by_bytes.get(name));
                    let place = offset.checked_add(at as u64);
                    let place = place.and_then(|place| place.checked_sub(strings.start));
                    if let (Some(name), Some(place)) = (name, place)
                        && let Ok(place) = usize::try_from(place)
                    {
                        known.insert(place, *name);
                    }
                }
                known.len() >= MAX_FUNCTIONS
            });
        known
    }

    /// The names of imported functions, by number.
    fn imported(&self) -> impl Iterator<Item = &'a [u8]> {
        self.sections
            .iter()
            .filter(|section| section.kind == SHT_DYNSYM)
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
            .map(|(sym, names)| string_at(names, sym.st_name).unwrap_or_default())
    }

    /// Slots of the global offset table, and the imported function that each will hold.
    pub(crate) fn imports(&self) -> HashMap<u64, &'a [u8]> {
        let symbols: Vec<&[u8]> = self.imported().collect();
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

    /// What the file has at an address, as of code.
    pub(crate) fn at(&self, address: u64) -> Option<&'a [u8]> {
        let (offset, left) = self.loads().find_map(|load| from(&load, address))?;
        self.file.near(offset, left)
    }

    /// So many bytes at an address, all in one segment.
    pub(crate) fn bytes_at<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let (offset, left) = self.loads().find_map(|load| from(&load, address))?;
        (left >= N as u64).then(|| self.file.bytes_at(offset))?
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
            let pointer = self.bytes_at(address);
            pointer.map(u64::from_le_bytes)
        })
    }

    /// Where data has a pointer to an address.
    pub(crate) fn pointers_to(&self, address: u64) -> Vec<u64> {
        let wanted = address.to_le_bytes();
        let relocated = self.pointers().iter();
        let relocated = relocated
            .filter(|(_, to)| **to == address)
            .map(|(at, _)| *at);
        let written = self.constants().flat_map(|load| {
            let places = self.file.places(load.range.clone(), &wanted, MAX_POINTERS);
            let places = places.into_iter().filter_map(|at| load.address_of(at));
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
            .filter_map(|segment| {
                let size = segment.p_filesz.min(NOTES);
                self.file.part(segment.p_offset, size)
            });
        let in_sections = self
            .sections
            .iter()
            .filter(|section| section.kind == SHT_NOTE)
            .filter_map(|section| self.file.part(section.offset, section.size.min(NOTES)));
        in_segments
            .chain(in_sections)
            .flat_map(|bytes| notes(bytes, self.context.le))
            .find(|note| note.0 == b"GNU\0" && note.1 == NT_GNU_BUILD_ID)
            .and_then(|note| BuildId::new(note.2))
    }
}

/// Where in the file what is at an address of a segment is, and how much of the segment is left there.
fn from(load: &Load, address: u64) -> Option<(u64, u64)> {
    let offset = load.offset(address)?;
    Some((offset, load.range.end.checked_sub(offset)?))
}

fn segments(file: &File<'_>, header: &Header, context: Ctx) -> Result<Vec<ProgramHeader>, Reason> {
    let damaged = Reason::Damaged("program headers");
    let count = usize::from(header.e_phnum);
    if count > MAX_HEADERS {
        return Err(damaged);
    }
    let size = ProgramHeader::size(context).saturating_mul(count) as u64;
    let offset = if count == 0 { 0 } else { header.e_phoff };
    let segments = file.part(offset, size).and_then(|bytes| {
        let segments = ProgramHeader::parse(bytes, 0, count, context);
        segments.ok()
    });
    let mut segments = segments.ok_or(damaged)?;
    // Loaded segments share a page of the file at most; else each would be searched anew.
    let mut left = file.size().saturating_add(SHARED);
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
