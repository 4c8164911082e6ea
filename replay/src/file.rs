//! Records of a capture file, out of one fixed buffer.

use std::io::{self, Read};

use pcap_parser::PcapHeader;
use pcap_parser::nom;
use pcap_parser::pcap::{
    LegacyPcapBlock, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
    parse_pcap_header,
};
use wirespan_engine::Nanos;

use crate::label::Label;
use crate::link::LinkType;
use crate::pcapng::{Block, Section};
use crate::stats::CaptureStats;
use crate::view::View;
use crate::{Error, pcapng};

/// Size of the read buffer and largest record, in bytes. No capture program writes larger ones:
/// libpcap refuses packets over 256 KiB. Blocks that hold no packet are passed over piece by piece
/// and may be larger.
const BUFFER: usize = 1 << 20;

/// Largest single read: small enough to stay in the cache until it is parsed.
const READ: usize = 256 << 10;

/// One packet of a capture.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) link: LinkType,
    pub(crate) label: Label,
    pub(crate) packet: View<'a>,
    /// As the file says; zero where it says nothing.
    pub(crate) time: Nanos,
}

/// Where in the unread bytes a packet is, and what its record says about it.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) link: LinkType,
    pub(crate) label: Label,
    pub(crate) time: Nanos,
    /// Length of the packet on the wire.
    pub(crate) wire: usize,
    /// Where its captured bytes begin, and how many there are.
    pub(crate) from: usize,
    pub(crate) captured: usize,
    /// Length of the whole record.
    pub(crate) len: usize,
}

/// Whether the input goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Filled {
    More,
    End,
}

/// Reads a capture file of either format.
///
/// Call [`Records::next`] until it is `None`, then [`Records::fill`]; that makes one call of
/// `read`, so that packets are processed as soon as they are there.
pub(crate) struct Records<R> {
    source: R,
    buf: Box<[u8]>,
    /// Unread bytes are `buf[start..end]`; `start <= end <= buf.len()`.
    start: usize,
    end: usize,
    /// Offset in the file of `buf[start]`.
    offset: u64,
    /// Bytes of a block that is passed over and not yet read.
    skip: u64,
    format: Format,
}

enum Format {
    Unknown,
    Pcap(Pcap),
    Pcapng(Section),
}

/// What the header of a pcap file says about its records.
struct Pcap {
    link: LinkType,
    frame: Frame,
    nanos_per_unit: u64,
}

#[derive(Clone, Copy)]
enum Frame {
    Little,
    Big,
    /// The "modified" format of some Linux 2.x kernels, with eight more bytes a record.
    Modified,
}

/// What the front of the buffer holds.
enum Front {
    Packet(Found),
    /// No packet: so many bytes to pass over, perhaps more than are there.
    Skip(u64),
    Incomplete,
    /// Breaks the format.
    Damaged(&'static str),
}

impl<R: Read> Records<R> {
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            buf: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
            skip: 0,
            format: Format::Unknown,
        }
    }

    /// The next packet that is wholly in the buffer.
    ///
    /// # Errors
    /// [`Error::NotACapture`], [`Error::Unsupported`] or [`Error::Damaged`]; reading on is useless.
    pub(crate) fn next(&mut self, stats: &mut CaptureStats) -> Result<Option<Record<'_>>, Error> {
        loop {
            if self.skip > 0 {
                self.pass_over();
                if self.skip > 0 {
                    return Ok(None);
                }
            }
            if matches!(self.format, Format::Unknown) && !self.recognise()? {
                return Ok(None);
            }
            let bytes = self.buf.get(self.start..self.end).unwrap_or_default();
            let front = match &mut self.format {
                Format::Unknown => Front::Incomplete,
                Format::Pcap(pcap) => pcap.front(bytes),
                Format::Pcapng(section) => pcapng_front(section, bytes, stats),
            };
            match front {
                Front::Skip(len) => self.skip = len,
                Front::Packet(found) => return Ok(Some(self.take(found))),
                Front::Incomplete if bytes.len() >= BUFFER => {
                    return Err(self.damaged("a record is larger than 1 MiB"));
                }
                Front::Incomplete => return Ok(None),
                Front::Damaged(what) => return Err(self.damaged(what)),
            }
        }
    }

    /// Makes room and reads once.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Truncated`] or [`Error::NotACapture`] when the input ends where no
    /// capture does.
    pub(crate) fn fill(&mut self) -> Result<Filled, Error> {
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let limit = (self.end + READ).min(self.buf.len());
        let free = self.buf.get_mut(self.end..limit).unwrap_or_default();
        loop {
            match self.source.read(free) {
                Ok(0) => return self.finish(),
                Ok(n) => {
                    self.end += n;
                    return Ok(Filled::More);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A compressed file that is cut off.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Error::Truncated {
                        offset: self.offset,
                    });
                }
                Err(source) => {
                    let offset = self.offset + (self.end - self.start) as u64;
                    return Err(Error::Io { offset, source });
                }
            }
        }
    }

    fn finish(&self) -> Result<Filled, Error> {
        let left = self.buf.get(self.start..self.end).unwrap_or_default();
        match self.format {
            _ if left.is_empty() && self.skip == 0 && self.offset > 0 => Ok(Filled::End),
            Format::Unknown if left.is_empty() => Err(Error::Empty),
            Format::Unknown if !is_magic(left) => Err(not_a_capture(left)),
            _ => Err(Error::Truncated {
                offset: self.offset,
            }),
        }
    }

    fn take(&mut self, found: Found) -> Record<'_> {
        let from = self.start + found.from;
        self.start += found.len;
        self.offset += found.len as u64;
        let bytes = self
            .buf
            .get(from..from + found.captured)
            .unwrap_or_default();
        Record {
            link: found.link,
            label: found.label,
            packet: View::new(bytes, found.wire),
            time: found.time,
        }
    }

    /// Takes from the buffer what is to be passed over.
    fn pass_over(&mut self) {
        let n = self.skip.min((self.end - self.start) as u64);
        self.skip -= n;
        self.offset += n;
        self.start += n as usize;
    }

    /// Reads the magic number and a pcap header; false when more bytes are needed.
    fn recognise(&mut self) -> Result<bool, Error> {
        let bytes = self.buf.get(self.start..self.end).unwrap_or_default();
        if bytes.len() < 4 {
            return Ok(false);
        }
        if !is_magic(bytes) {
            return Err(not_a_capture(bytes));
        }
        if bytes.starts_with(&pcapng::MAGIC) {
            self.format = Format::Pcapng(Section::default());
            return Ok(true);
        }
        match parse_pcap_header(bytes) {
            Ok((rest, header)) => {
                self.skip = (bytes.len() - rest.len()) as u64;
                self.format = Format::Pcap(Pcap::new(&header));
                self.pass_over();
                Ok(true)
            }
            Err(nom::Err::Incomplete(_)) => Ok(false),
            Err(_) => Err(not_a_capture(bytes)),
        }
    }

    fn damaged(&self, what: &'static str) -> Error {
        Error::Damaged {
            offset: self.offset,
            what,
        }
    }
}

fn pcapng_front(section: &mut Section, bytes: &[u8], stats: &mut CaptureStats) -> Front {
    match section.block(bytes) {
        Ok(Some(Block::Packet(found))) => Front::Packet(found),
        Ok(Some(Block::Structure(len))) => Front::Skip(len as u64),
        Ok(Some(Block::Other(name, len))) => {
            *stats.blocks_skipped.entry(name).or_default() += 1;
            Front::Skip(u64::from(len))
        }
        Ok(None) => Front::Incomplete,
        Err(what) => Front::Damaged(what),
    }
}

impl Pcap {
    fn new(header: &PcapHeader) -> Self {
        let frame = if header.is_modified_format() {
            Frame::Modified
        } else if header.is_bigendian() {
            Frame::Big
        } else {
            Frame::Little
        };
        Self {
            // The upper half holds the length of a frame check sequence, which IP lengths cut off.
            link: LinkType(header.network.0 as u16),
            frame,
            nanos_per_unit: if header.is_nanosecond_precision() {
                1
            } else {
                1_000
            },
        }
    }

    fn front(&self, bytes: &[u8]) -> Front {
        let parsed = match self.frame {
            Frame::Little => parse_pcap_frame(bytes),
            Frame::Big => parse_pcap_frame_be(bytes),
            Frame::Modified => parse_pcap_frame_modified(bytes),
        };
        match parsed {
            Ok((rest, block)) => Front::Packet(self.found(&block, bytes.len() - rest.len())),
            Err(nom::Err::Incomplete(_)) => self.incomplete(bytes),
            Err(_) => Front::Damaged("a packet cannot be read"),
        }
    }

    /// Tells a packet that has not arrived yet from a length that no packet has.
    fn incomplete(&self, bytes: &[u8]) -> Front {
        let Some(captured) = bytes
            .get(8..)
            .and_then(|bytes| bytes.first_chunk().copied())
        else {
            return Front::Incomplete;
        };
        let captured = match self.frame {
            Frame::Big => u32::from_be_bytes(captured),
            Frame::Little | Frame::Modified => u32::from_le_bytes(captured),
        };
        if captured as usize > BUFFER - 24 {
            Front::Damaged("a packet claims to be larger than 1 MiB")
        } else {
            Front::Incomplete
        }
    }

    fn found(&self, block: &LegacyPcapBlock<'_>, len: usize) -> Found {
        let seconds = u64::from(block.ts_sec) * 1_000_000_000;
        Found {
            link: self.link,
            label: Label::default(),
            time: Nanos(seconds + u64::from(block.ts_usec) * self.nanos_per_unit),
            wire: block.origlen as usize,
            from: len - block.data.len(),
            captured: block.data.len(),
            len,
        }
    }
}

/// Whether the first bytes, as many as there are, are those of a capture file.
fn is_magic(bytes: &[u8]) -> bool {
    const PCAP: [u32; 3] = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34];
    let mut magics = vec![pcapng::MAGIC];
    magics.extend(PCAP.map(u32::to_le_bytes));
    magics.extend(PCAP.map(u32::to_be_bytes));
    magics.iter().any(|magic| {
        bytes
            .iter()
            .zip(magic)
            .all(|(byte, expected)| byte == expected)
    })
}

fn not_a_capture(bytes: &[u8]) -> Error {
    if bytes.starts_with(&0xa1b2_cd34_u32.to_be_bytes()) {
        return Error::Unsupported {
            what: "this is a big-endian \"modified\" pcap file; convert it first: \
                   `editcap -F pcapng FILE FILE.pcapng`",
        };
    }
    let first = bytes.get(..bytes.len().min(8)).unwrap_or_default();
    let hex = first
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(" ");
    let first = if first
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
    {
        format!("the text {:?}", String::from_utf8_lossy(first))
    } else {
        format!("the bytes {hex}")
    };
    Error::NotACapture { first }
}
