//! Offsets of structure members from a Go program's debugging information (DWARF 4 and 5).

use std::borrow::Cow;
use std::collections::HashMap;

use gimli::{
    Abbreviations, DebugAbbrev, DebugInfo, DebugStr, DebuggingInformationEntry, EndianSlice,
    LittleEndian, Section, UnitHeader,
};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::GoOffsets;
use crate::elf::Image;

/// Largest sections that are decompressed: `.debug_info`, which in large Go programs has some 60
/// MB, and the others.
const MAX_INFO: usize = 128 << 20;
const MAX_OTHER: usize = 32 << 20;
/// Bytes of abbreviations read in all; Go's units share one table of about 1 kB.
const MAX_ABBREVIATIONS: usize = 256 << 20;

/// The members that are looked for, and whose they are.
const MEMBERS: [(&str, &str); 5] = [
    ("crypto/tls.Conn", "conn"),
    ("net.netFD", "pfd"),
    ("internal/poll.FD", "Sysfd"),
    ("runtime.g", "goid"),
    ("runtime.g", "parentGoid"),
];

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// The offsets, if all are there.
pub(super) fn offsets(image: &Image<'_>) -> Option<GoOffsets> {
    let info = section(image, "info", MAX_INFO)?;
    let abbreviations = section(image, "abbrev", MAX_OTHER)?;
    let strings = section(image, "str", MAX_OTHER).unwrap_or_default();
    let mut members = Members {
        strings: DebugStr::new(&strings, LittleEndian),
        found: HashMap::new(),
    };
    let abbreviations = DebugAbbrev::new(&abbreviations, LittleEndian);
    // A damaged end does not take away what was read before it.
    let _ = members.read(DebugInfo::new(&info, LittleEndian), &abbreviations);
    let [conn, pfd, sysfd, goid, parent_goid] =
        MEMBERS.map(|member| members.found.get(&member).copied());
    Some(GoOffsets {
        conn: conn?,
        descriptor: pfd?.checked_add(sysfd?)?,
        goid: goid?,
        parent_goid: parent_goid?,
        tcp_conn_type: None,
    })
}

/// A section of debugging information, decompressed.
fn section<'a>(image: &Image<'a>, name: &str, most: usize) -> Option<Cow<'a, [u8]>> {
    /// ELF's compression header, `Elf64_Chdr`, for zlib.
    const ZLIB: [u8; 4] = [1, 0, 0, 0];
    const COMPRESSION_HEADER: usize = 24;
    let section = image.section(format!(".debug_{name}").as_bytes())?;
    let data = image.data(section)?;
    if !section.compressed() {
        return Some(Cow::Borrowed(data));
    }
    let stream = data.get(COMPRESSION_HEADER..)?;
    data.starts_with(&ZLIB).then_some(())?;
    let plain = decompress_to_vec_zlib_with_limit(stream, most).ok()?;
    Some(Cow::Owned(plain))
}

struct Members<'a> {
    strings: DebugStr<Slice<'a>>,
    found: HashMap<(&'static str, &'static str), u16>,
}

impl<'a> Members<'a> {
    fn read(
        &mut self,
        info: DebugInfo<Slice<'a>>,
        abbreviations: &DebugAbbrev<Slice<'_>>,
    ) -> gimli::Result<()>
where {
        let mut budget = MAX_ABBREVIATIONS;
        let mut units = info.units();
        let mut table = None;
        while let Some(unit) = units.next()? {
            let at = unit.debug_abbrev_offset();
            if table.as_ref().is_none_or(|(of, _)| *of != at) {
                let size = abbreviations.reader().slice().len();
                let Some(left) = budget.checked_sub(size) else {
                    return Ok(());
                };
                budget = left;
                table = Some((at, abbreviations.abbreviations(at)?));
            }
            if let Some((_, table)) = &table {
                self.unit(&unit, table)?;
            }
            if self.found.len() == MEMBERS.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn unit(&mut self, unit: &UnitHeader<Slice<'a>>, table: &Abbreviations) -> gimli::Result<()> {
        let mut entries = unit.entries_raw(table, None)?;
        let mut entry = DebuggingInformationEntry::null();
        let mut structure = None;
        while !entries.is_empty() {
            if !entries.read_entry(&mut entry)? {
                continue;
            }
            match entry.tag() {
                gimli::DW_TAG_structure_type => {
                    let name = self.name(&entry);
                    let known = MEMBERS.iter().find(|(of, _)| Some(of.as_bytes()) == name);
                    structure = known.map(|(of, _)| *of);
                }
                gimli::DW_TAG_member => {
                    let name = self.name(&entry);
                    let member = MEMBERS.iter().find(|(of, member)| {
                        structure == Some(of) && Some(member.as_bytes()) == name
                    });
                    let place = entry
                        .attr(gimli::DW_AT_data_member_location)
                        .and_then(gimli::Attribute::udata_value);
                    if let (Some(member), Some(place)) = (member, place) {
                        let place = u16::try_from(place);
                        self.found.extend(place.ok().map(|place| (*member, place)));
                    }
                }
                _ => structure = None,
            }
        }
        Ok(())
    }

    fn name(&self, entry: &DebuggingInformationEntry<Slice<'a>>) -> Option<&'a [u8]> {
        let name = entry.attr(gimli::DW_AT_name)?;
        Some(name.string_value(&self.strings)?.slice())
    }
}
