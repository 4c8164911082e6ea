//! Blocks of a pcapng file (draft-ietf-opsawg-pcapng).
//!
//! The block parsers are those of `pcap-parser`; here are the choice of the parser, the state of a
//! section, and times. `if_tsresol` and `if_tsoffset` are read from the raw options, because
//! pcap-parser 0.17 knows no binary resolution and reads the offset as little-endian always.

use pcap_parser::nom;
use pcap_parser::pcapng::{
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_simplepacketblock_be, parse_simplepacketblock_le,
};
use pcap_parser::{InterfaceDescriptionBlock, OptionCode, PcapNGOption};
use wirespan_engine::Nanos;

use crate::file::Found;
use crate::label::{Label, Lane, Note};
use crate::link::LinkType;

/// First bytes of a pcapng file: the type of a section header block, a palindrome.
pub(crate) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Most interfaces in a section; more are taken for damage.
const MAX_INTERFACES: usize = 4_096;

/// Largest block in bytes; a larger one is taken for damage.
const MAX_BLOCK: u32 = 64 << 20;

/// A block, and its length in the file.
pub(crate) enum Block {
    /// Holds a packet.
    Packet(Found),
    /// Section header or interface description, taken note of.
    Structure(usize),
    /// Holds neither; its bytes need not be in the buffer.
    Other(&'static str, u32),
}

/// The section that is being read.
#[derive(Default)]
pub(crate) struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

/// What an interface description says about the packets of the interface.
struct Interface {
    link: LinkType,
    /// What its name says, if it is one of a recording.
    lane: Option<Lane>,
    snap_len: usize,
    units: Units,
    /// Seconds to add to each time.
    offset: i64,
}

/// How a time stamp counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Units {
    /// Nanoseconds in a unit: 10^-0 to 10^-9 s.
    Coarse(u64),
    /// Units in a nanosecond: 10^-10 s and finer.
    Fine(u64),
    /// 2^-n s.
    Binary(u8),
}

impl Section {
    /// The block at the front of `bytes`; `None` when not all of what is needed is there.
    ///
    /// # Errors
    /// What is wrong with the block.
    pub(crate) fn block(&mut self, bytes: &[u8]) -> Result<Option<Block>, &'static str> {
        let Some((kind, len)) = self.head(bytes)? else {
            return Ok(None);
        };
        if len < 12 || len % 4 != 0 {
            return Err("a block has an impossible length");
        }
        if len > MAX_BLOCK {
            return Err("a block claims to be larger than 64 MiB");
        }
        if let Some(name) = other(kind) {
            return Ok(Some(Block::Other(name, len)));
        }
        let Some(block) = bytes.get(..len as usize) else {
            return Ok(None);
        };
        match kind {
            SECTION_HEADER => self.interfaces.clear(),
            INTERFACE => self.interface(block)?,
            ENHANCED_PACKET => return Ok(Some(Block::Packet(self.enhanced(block)?))),
            SIMPLE_PACKET => return Ok(Some(Block::Packet(self.simple(block)?))),
            _ => return Ok(Some(Block::Packet(self.obsolete(block)?))),
        }
        Ok(Some(Block::Structure(block.len())))
    }

    /// Type and length of the block; a section header also settles the byte order.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<(u32, u32)>, &'static str> {
        let Some([kind, len]) = words(bytes) else {
            return Ok(None);
        };
        if kind == MAGIC {
            let Some([_, _, order]) = words(bytes) else {
                return Ok(None);
            };
            self.big_endian = match order {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err("a section header has no byte-order magic"),
            };
        }
        Ok(Some((self.u32(kind), self.u32(len))))
    }

    fn interface(&mut self, block: &[u8]) -> Result<(), &'static str> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err("a section describes more than 4,096 interfaces");
        }
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let description = whole(parse(block), "an interface description cannot be read")?;
        self.interfaces.push(self.described(&description));
        Ok(())
    }

    fn described(&self, description: &InterfaceDescriptionBlock<'_>) -> Interface {
        let option = |code: OptionCode| {
            description
                .options
                .iter()
                .find(|option| option.code == code)
                .map(|option| option.value())
        };
        let offset = option(OptionCode::IfTsoffset).and_then(|value| value.first_chunk().copied());
        let resolution = option(OptionCode::IfTsresol).and_then(|value| value.first().copied());
        Interface {
            link: LinkType(description.linktype.0 as u16),
            lane: lane(&description.options),
            snap_len: match description.snaplen {
                0 => usize::MAX,
                len => len as usize,
            },
            units: Units::new(resolution.unwrap_or(6)),
            offset: match offset {
                Some(bytes) if self.big_endian => i64::from_be_bytes(bytes),
                Some(bytes) => i64::from_le_bytes(bytes),
                None => 0,
            },
        }
    }

    fn enhanced(&self, block: &[u8]) -> Result<Found, &'static str> {
        let parse = if self.big_endian {
            parse_enhancedpacketblock_be
        } else {
            parse_enhancedpacketblock_le
        };
        let packet = whole(parse(block), "an enhanced packet block cannot be read")?;
        let interface = self
            .interfaces
            .get(packet.if_id as usize)
            .ok_or(NO_INTERFACE)?;
        let time = (u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low);
        Ok(Found {
            link: interface.link,
            label: interface.label(&packet.options),
            time: interface.units.nanos(time, interface.offset),
            wire: packet.origlen as usize,
            from: 28,
            // The parser saw to it that so many bytes are there.
            captured: packet.caplen as usize,
            len: block.len(),
        })
    }

    /// A simple packet block has no time and belongs to the section's first interface, whose snap
    /// length is all that tells its packet from the padding.
    fn simple(&self, block: &[u8]) -> Result<Found, &'static str> {
        let parse = if self.big_endian {
            parse_simplepacketblock_be
        } else {
            parse_simplepacketblock_le
        };
        let packet = whole(parse(block), "a simple packet block cannot be read")?;
        let interface = self.interfaces.first().ok_or(NO_INTERFACE)?;
        let wire = packet.origlen as usize;
        Ok(Found {
            link: interface.link,
            label: interface.label(&[]),
            time: Nanos(0),
            wire,
            from: 12,
            captured: wire.min(interface.snap_len).min(packet.data.len()),
            len: block.len(),
        })
    }

    /// The packet block of before 2010, which pcap-parser leaves to us.
    ///
    /// ```text
    /// type 4 | length 4 | interface 2 | drops 2 | time 8 | captured 4 | original 4 | packet …
    /// ```
    fn obsolete(&self, block: &[u8]) -> Result<Found, &'static str> {
        const WHAT: &str = "an obsolete packet block cannot be read";
        let [_, _, [a, b, _, _], high, low, captured, original] = words(block).ok_or(WHAT)?;
        let interface = if self.big_endian {
            u16::from_be_bytes([a, b])
        } else {
            u16::from_le_bytes([a, b])
        };
        let interface = self
            .interfaces
            .get(usize::from(interface))
            .ok_or(NO_INTERFACE)?;
        let captured = self.u32(captured) as usize;
        // The length is repeated after packet and options.
        if captured > block.len().saturating_sub(28 + 4) {
            return Err(WHAT);
        }
        let time = (u64::from(self.u32(high)) << 32) | u64::from(self.u32(low));
        Ok(Found {
            link: interface.link,
            label: interface.label(&[]),
            time: interface.units.nanos(time, interface.offset),
            wire: self.u32(original) as usize,
            from: 28,
            captured,
            len: block.len(),
        })
    }

    fn u32(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }
}

impl Interface {
    /// What a packet's options say, where the interface is one of a recording.
    fn label(&self, options: &[PcapNGOption<'_>]) -> Label {
        let ours = self.lane.and_then(|_| {
            let texts = options
                .iter()
                .filter(|option| option.code == OptionCode::Comment)
                .filter_map(|option| option.as_str().ok());
            texts.map(Note::parse).find(Option::is_some).flatten()
        });
        Label {
            lane: self.lane,
            note: ours,
        }
    }
}

fn lane(options: &[PcapNGOption<'_>]) -> Option<Lane> {
    let name = options
        .iter()
        .find(|option| option.code == OptionCode::IfName)?;
    // Some writers end the name with a zero, the draft does not.
    Lane::parse(name.as_str().ok()?.trim_end_matches('\0'))
}

const NO_INTERFACE: &str = "a packet names an interface that was not described";

const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
const SECTION_HEADER: u32 = 0x0a0d_0d0a;

/// The name of a block that is passed over; `None` for those that are read.
fn other(kind: u32) -> Option<&'static str> {
    match kind {
        INTERFACE | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET | SECTION_HEADER => None,
        4 => Some("name resolution"),
        5 => Some("interface statistics"),
        9 => Some("systemd journal"),
        10 => Some("decryption secrets"),
        0x0bad | 0x4000_0bad => Some("custom"),
        0x8000_0001 => Some("process information"),
        _ => Some("unknown"),
    }
}

/// The first `N` words.
fn words<const N: usize>(bytes: &[u8]) -> Option<[[u8; 4]; N]> {
    let (words, _) = bytes.as_chunks();
    words.first_chunk().copied()
}

/// A parser saw the whole block, so that "incomplete" is an error as well.
fn whole<T, E>(
    parsed: Result<(&[u8], T), nom::Err<E>>,
    what: &'static str,
) -> Result<T, &'static str> {
    parsed.map(|(_, block)| block).map_err(|_| what)
}

impl Units {
    /// From the option `if_tsresol`: 10^-n s, or 2^-n s when the highest bit is set.
    fn new(resolution: u8) -> Self {
        match resolution {
            0..=9 => Self::Coarse(10_u64.pow(u32::from(9 - resolution))),
            // 10^-28 s and finer: such a clock never leaves zero.
            10..=0x7f => Self::Fine(
                10_u64
                    .checked_pow(u32::from(resolution - 9))
                    .unwrap_or(u64::MAX),
            ),
            _ => Self::Binary(resolution & 0x7f),
        }
    }

    fn nanos(self, time: u64, offset: i64) -> Nanos {
        let nanos = match self {
            Self::Coarse(nanos) => time.saturating_mul(nanos),
            Self::Fine(units) => time / units,
            Self::Binary(bits) => {
                let scaled = (u128::from(time) * 1_000_000_000) >> bits;
                u64::try_from(scaled).unwrap_or(u64::MAX)
            }
        };
        Nanos(nanos.saturating_add_signed(offset.saturating_mul(1_000_000_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resolution_gives_nanoseconds() {
        let second = |resolution, units| Units::new(resolution).nanos(units, 0);
        assert_eq!(second(0, 3), Nanos(3_000_000_000));
        assert_eq!(second(6, 3_000_000), Nanos(3_000_000_000));
        assert_eq!(second(9, 3_000_000_000), Nanos(3_000_000_000));
        assert_eq!(second(12, 3_000_000_000_000), Nanos(3_000_000_000));
        assert_eq!(second(0x80 | 10, 3 << 10), Nanos(3_000_000_000));
        assert_eq!(second(0x80 | 32, 3 << 32), Nanos(3_000_000_000));
    }

    #[test]
    fn absurd_resolutions_and_offsets_saturate() {
        for resolution in 0..=u8::MAX {
            for offset in [i64::MIN, -1, 0, 1, i64::MAX] {
                for time in [0, 1, u64::MAX] {
                    let _ = Units::new(resolution).nanos(time, offset);
                }
            }
        }
        assert_eq!(Units::new(6).nanos(5_000_000, -6), Nanos(0));
        assert_eq!(Units::new(0).nanos(u64::MAX, 0), Nanos(u64::MAX));
    }
}
