//! The version of Go that a program was built with (Go's `debug/buildinfo`).

use memchr::memmem;

use crate::elf::Image;

/// What the linker puts before it.
const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The header's length; inline strings follow it.
const HEADER: usize = 32;
/// How far into a data segment it is looked for where no section says.
const SEARCHED: u64 = 64 * 1024;
/// Longest version that is believed: `go1.27-20260101-RC00 cl/123 +hash X:experiment`.
const LONGEST: usize = 256;

/// The version, as `go1.24.3`; `None` if this is no Go program.
///
/// Before Go 1.18 the header points to the string; such a program is `go1.17 or older` where the
/// pointer cannot be followed.
pub(crate) fn version(image: &Image<'_>) -> Option<String> {
    let info = match image.section(b".go.buildinfo") {
        Some(section) => image.data(section)?,
        None => image.constants().find_map(|load| {
            let size = load.range.end.checked_sub(load.range.start)?;
            let bytes = image.file().part(load.range.start, size.min(SEARCHED))?;
            bytes.get(memmem::find(bytes, MAGIC)?..)
        })?,
    };
    if !info.starts_with(MAGIC) {
        return None;
    }
    let text = if info.get(15)? & 2 != 0 {
        inline(info.get(HEADER..)?)
    } else {
        pointed(image, info)
    };
    let version = text.and_then(|text| str::from_utf8(text).ok());
    Some(version.unwrap_or("go1.17 or older").to_owned())
}

/// A length in groups of seven bits, and so many bytes.
fn inline(bytes: &[u8]) -> Option<&[u8]> {
    let (low, rest) = bytes.split_first()?;
    let (length, rest) = if *low < 0x80 {
        (usize::from(*low), rest)
    } else {
        let (high, rest) = rest.split_first().filter(|(high, _)| **high < 0x80)?;
        (usize::from(low & 0x7f) | usize::from(*high) << 7, rest)
    };
    rest.get(..length).filter(|_| length <= LONGEST)
}

/// A pointer to a pointer and a length.
fn pointed<'a>(image: &Image<'a>, info: &[u8]) -> Option<&'a [u8]> {
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    let string = image.at(word(info.get(16..)?)?)?;
    let length = usize::try_from(word(string.get(8..)?)?).ok()?;
    image
        .at(word(string)?)?
        .get(..length)
        .filter(|_| length <= LONGEST)
}
