//! Blocks of a pcapng file as they are written (draft-ietf-opsawg-pcapng): little-endian, times in
//! nanoseconds, packets that begin with IP.

use wirespan_engine::Nanos;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// `LINKTYPE_RAW`: IPv4 or IPv6, whatever the first four bits say.
const RAW: u16 = 101;

const COMMENT: u16 = 1;
const USER_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const TIME_RESOLUTION: u16 = 9;

/// Appends the header of the file's only section.
pub(super) fn section(out: &mut Vec<u8>) {
    block(out, SECTION_HEADER, |out| {
        out.extend(0x1a2b_3c4d_u32.to_le_bytes());
        // Version 1.0.
        out.extend(1_u16.to_le_bytes());
        out.extend(0_u16.to_le_bytes());
        // Length of the section: not known.
        out.extend(u64::MAX.to_le_bytes());
        let application = concat!("wirespan ", env!("CARGO_PKG_VERSION"));
        option(out, USER_APPLICATION, application.as_bytes());
        end_of_options(out);
    });
}

/// Appends the description of the next interface.
pub(super) fn interface(out: &mut Vec<u8>, name: &str) {
    block(out, INTERFACE, |out| {
        out.extend(RAW.to_le_bytes());
        out.extend([0, 0]);
        // Packets are not cut at a length.
        out.extend(0_u32.to_le_bytes());
        option(out, INTERFACE_NAME, name.as_bytes());
        // 10^-9 s.
        option(out, TIME_RESOLUTION, &[9]);
        end_of_options(out);
    });
}

/// What an enhanced packet block says of its packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    pub(super) interface: u32,
    pub(super) time: Nanos,
    /// Its first bytes.
    pub(super) headers: &'a [u8],
    /// Those behind them.
    pub(super) payload: &'a [u8],
    /// How many more there were.
    pub(super) missing: u32,
    /// Empty: none.
    pub(super) comment: &'a str,
}

/// Appends a packet.
pub(super) fn packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    block(out, ENHANCED_PACKET, |out| {
        let Nanos(time) = packet.time;
        // Bounded by the largest IP packet.
        let captured = (packet.headers.len() + packet.payload.len()) as u32;
        for word in [
            packet.interface,
            (time >> 32) as u32,
            time as u32,
            captured,
            captured + packet.missing,
        ] {
            out.extend(word.to_le_bytes());
        }
        out.extend(packet.headers);
        out.extend(packet.payload);
        pad(out, captured as usize);
        if !packet.comment.is_empty() {
            option(out, COMMENT, packet.comment.as_bytes());
            end_of_options(out);
        }
    });
}

/// Appends type and length of a block, what `fill` appends, which is a multiple of four bytes, and
/// the length again.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    fill(out);
    let len = ((out.len() - start + 4) as u32).to_le_bytes();
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&len);
    }
    out.extend(len);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    // Ours are short: names and comments of a few words.
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    pad(out, value.len());
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

/// Fills up to a multiple of four.
fn pad(out: &mut Vec<u8>, len: usize) {
    out.resize(out.len() + (4 - len % 4) % 4, 0);
}
