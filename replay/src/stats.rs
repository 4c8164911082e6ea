//! What was read, and what could not be used.

use std::collections::BTreeMap;

use wirespan_engine::Nanos;

/// How far a run has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes read from the input, before decompression.
    pub bytes: u64,
    /// Size of the input where it is known.
    pub total: Option<u64>,
    /// Packets read.
    pub packets: u64,
}

/// What a capture held. Every packet is in exactly one of `tcp.segments`, `fragments` and
/// `not_understood`; a reassembled datagram counts its last fragment by what it turned out to hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct CaptureStats {
    /// Packets in the file.
    pub packets: u64,
    /// Bytes of packets in the file.
    pub captured_bytes: u64,
    /// Bytes that these packets had on the wire.
    pub wire_bytes: u64,
    /// Earliest time of a packet; `None` when no packet has a time.
    pub first: Option<Nanos>,
    /// Latest time of a packet.
    pub last: Option<Nanos>,
    /// Blocks of a pcapng file that hold no packet and were passed over, by name.
    pub blocks_skipped: BTreeMap<&'static str, u64>,
    /// Packets that are not TCP or not readable, by the first thing that was not understood.
    pub not_understood: BTreeMap<&'static str, u64>,
    /// IP fragments that wait for others of their datagram, or waited in vain.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub datagrams_reassembled: u64,
    /// Incomplete datagrams given up, for their age or for want of room.
    pub datagrams_dropped: u64,
    /// What the TCP segments held.
    pub tcp: TcpStats,
}

impl CaptureStats {
    /// Notes a packet's sizes and time. Time zero means that the file gives none.
    pub(crate) fn packet(&mut self, captured: usize, wire: usize, time: Nanos) {
        self.packets += 1;
        self.captured_bytes += captured as u64;
        self.wire_bytes += wire as u64;
        if time > Nanos(0) {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = self.last.max(Some(time));
        }
    }
}

/// What the TCP segments of a capture held.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct TcpStats {
    /// TCP segments.
    pub segments: u64,
    /// Connections opened.
    pub connections: u64,
    /// Bytes of payload on the wire, repetitions included.
    pub payload_bytes: u64,
    /// Of these, bytes that the capture cut off.
    pub cut_bytes: u64,
    /// Bytes seen before; at least, since a repetition inside out-of-order data may go unnoticed.
    pub duplicate_bytes: u64,
    /// Keep-alive probes.
    pub keepalives: u64,
    /// Segments dropped because their numbers lie far from anything seen on their connection.
    pub out_of_window: u64,
    /// Segments that end before the first byte of their stream.
    pub before_start: u64,
    /// Segments with payload on a connection that is closed.
    pub after_close: u64,
    /// Resets that belong to no connection.
    pub stray: u64,
    /// Connections given up to make room for new ones.
    pub evicted: u64,
}

impl TcpStats {
    /// Adds the counts of another shard.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.segments += other.segments;
        self.connections += other.connections;
        self.payload_bytes += other.payload_bytes;
        self.cut_bytes += other.cut_bytes;
        self.duplicate_bytes += other.duplicate_bytes;
        self.keepalives += other.keepalives;
        self.out_of_window += other.out_of_window;
        self.before_start += other.before_start;
        self.after_close += other.after_close;
        self.stray += other.stray;
        self.evicted += other.evicted;
    }
}
