//! HPACK (RFC 7541) that survives joining midstream and lost header blocks.
//!
//! Every header of a block is known or unknown on its own: an index into a part of the dynamic table
//! that nobody saw gives an unknown header, never an error and never a wrong one. It does not check
//! what the headers mean.

mod huffman;
mod integer;
mod table;

use integer::integer;
use table::{Found, Name, STATIC_LEN, Table, static_entry};

/// A header as far as it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header<'a> {
    /// `None`: unknown.
    pub(crate) name: Option<&'a [u8]>,
    /// `None`: unknown.
    pub(crate) value: Option<&'a [u8]>,
}

/// Why a header block cannot be read. The state of the dynamic table is unknown thereafter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HpackError {
    /// The block ends inside a header.
    Truncated,
    /// An integer is too large.
    Integer,
    /// An index that refers to nothing.
    Index,
    /// A Huffman code with EOS or wrong padding.
    Huffman,
    /// A table size update behind a header, or above what the reader allows.
    SizeUpdate,
}

impl HpackError {
    /// What was being read.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Truncated => "end of header block",
            Self::Integer => "HPACK integer",
            Self::Index => "HPACK index",
            Self::Huffman => "HPACK Huffman code",
            Self::SizeUpdate => "HPACK table size",
        }
    }
}

/// Reads the header blocks of one direction, in order.
#[derive(Clone, Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// Largest size that the reader of the blocks has allowed; `None`: its settings were not seen.
    limit: Option<usize>,
    /// Room for decoded names and values.
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// For a connection that begins.
    pub(crate) const fn new() -> Self {
        Self {
            table: Table::new(),
            limit: Some(table::DEFAULT_SIZE),
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Notes that header blocks may have been lost: what the table holds is unknown.
    pub(crate) fn lose(&mut self) {
        self.table.lose();
    }

    /// Notes that settings of the blocks' reader may have been lost.
    pub(crate) fn lose_limit(&mut self) {
        self.limit = None;
    }

    /// Takes a SETTINGS_HEADER_TABLE_SIZE of the blocks' reader. It holds from its acknowledgement
    /// on, which is not waited for: both the old and the new limit are allowed.
    pub(crate) fn allow(&mut self, size: usize) {
        self.limit = self.limit.map(|limit| limit.max(size));
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let scratch = self.name.capacity().saturating_add(self.value.capacity());
        self.table.heap_bytes().saturating_add(scratch)
    }

    /// Reads a whole block, and gives its headers to `visit` in order. After an error, those before it
    /// have been given, and [`Decoder::lose`] is called for.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut visit: impl FnMut(Header<'_>),
    ) -> Result<(), HpackError> {
        let mut first = true;
        while let Some(byte) = block.first().copied() {
            // RFC 7541 §6: the pattern of the first bits.
            match byte.leading_zeros() {
                0 => visit(self.indexed(integer(&mut block, 7)?)?),
                1 => self.literal(&mut block, 6, true, &mut visit)?,
                2 if first => {
                    self.resize(integer(&mut block, 5)?)?;
                    continue;
                }
                2 => return Err(HpackError::SizeUpdate),
                _ => self.literal(&mut block, 4, false, &mut visit)?,
            }
            first = false;
        }
        Ok(())
    }

    fn indexed(&self, index: usize) -> Result<Header<'_>, HpackError> {
        if let Some((name, value)) = static_entry(index) {
            return Ok(Header {
                name: Some(name),
                value: Some(value),
            });
        }
        let dynamic = index
            .checked_sub(STATIC_LEN.saturating_add(1))
            .ok_or(HpackError::Index)?;
        match self.table.get(dynamic) {
            Found::Entry(name, value) => Ok(Header {
                name,
                value: Some(value),
            }),
            Found::Unknown => Ok(Header {
                name: None,
                value: None,
            }),
            Found::Outside => Err(HpackError::Index),
        }
    }

    /// RFC 7541 §6.2: name by index or as given, and a value.
    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix: u32,
        insert: bool,
        visit: &mut impl FnMut(Header<'_>),
    ) -> Result<(), HpackError> {
        let Self {
            table,
            name: name_room,
            value: value_room,
            ..
        } = self;
        let index = integer(block, prefix)?;
        let dynamic = index.checked_sub(STATIC_LEN.saturating_add(1));
        let (name, shown) = match (static_entry(index), dynamic) {
            (Some((name, _)), _) => (Name::Bytes(name), Some(name)),
            (None, None) => {
                let name = string(block, name_room)?;
                (Name::Bytes(name), Some(name))
            }
            (None, Some(dynamic)) => match table.get(dynamic) {
                Found::Entry(Some(name), _) => (Name::Of(dynamic), Some(name)),
                Found::Entry(None, _) | Found::Unknown => (Name::Unknown, None),
                Found::Outside => return Err(HpackError::Index),
            },
        };
        let value = string(block, value_room)?;
        visit(Header {
            name: shown,
            value: Some(value),
        });
        if insert {
            table.insert(name, value);
        }
        Ok(())
    }

    fn resize(&mut self, size: usize) -> Result<(), HpackError> {
        if self.limit.is_some_and(|limit| size > limit) {
            return Err(HpackError::SizeUpdate);
        }
        self.table.resize(size);
        Ok(())
    }
}

/// Takes a string literal (RFC 7541 §5.2); decodes it into `room` where it is coded.
fn string<'a, 'b: 'a>(block: &mut &'b [u8], room: &'a mut Vec<u8>) -> Result<&'a [u8], HpackError> {
    let coded = block.first().is_some_and(|byte| byte & 0x80 != 0);
    let len = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(len).ok_or(HpackError::Truncated)?;
    *block = rest;
    if !coded {
        return Ok(text);
    }
    room.clear();
    huffman::decode(text, room)?;
    Ok(room)
}

#[cfg(test)]
mod tests;
