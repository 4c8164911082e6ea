//! IP and TCP headers.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement};

/// Payload that fits into a packet of either version of IP.
pub(super) const LARGEST_PAYLOAD: usize = 65_535 - 40;

/// A segment to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) control: Control,
    /// At most [`LARGEST_PAYLOAD`].
    pub(super) payload: &'a [u8],
    /// Bytes behind the payload that were not captured.
    pub(super) missing: u32,
}

/// Control bits; all but a first SYN acknowledge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Control {
    Syn,
    SynAck,
    Ack,
    Fin,
    Rst,
}

/// Appends the headers of a segment; its payload is to follow.
///
/// An IPv4 packet of more than 65,535 bytes says the length zero, as segmentation offload does: the
/// capture knows it. IPv6 has jumbograms. The checksum over bytes that were not captured is left
/// zero.
pub(super) fn write(out: &mut Vec<u8>, segment: &Segment<'_>) {
    let mut tcp = tcp(segment);
    let len = tcp.header_len() as u64 + segment.payload.len() as u64 + u64::from(segment.missing);
    match (segment.from.ip(), segment.to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let total = u16::try_from(len + Ipv4Header::MIN_LEN as u64).unwrap_or(0);
            let mut ip = Ipv4Header {
                total_len: total,
                dont_fragment: true,
                time_to_live: 64,
                protocol: IpNumber::TCP,
                source: from,
                destination: to,
                ..Ipv4Header::default()
            };
            ip.header_checksum = ip.calc_header_checksum();
            out.extend(ip.to_bytes());
            if segment.missing == 0 {
                let checksum = tcp.calc_checksum_ipv4_raw(from, to, segment.payload);
                tcp.checksum = checksum.unwrap_or_default();
            }
        }
        (from, to) => {
            let (from, to) = (octets(from), octets(to));
            let jumbo = u16::try_from(len).is_err();
            let ip = Ipv6Header {
                payload_length: u16::try_from(len).unwrap_or(0),
                next_header: if jumbo {
                    IpNumber::IPV6_HEADER_HOP_BY_HOP
                } else {
                    IpNumber::TCP
                },
                hop_limit: 64,
                source: from,
                destination: to,
                ..Ipv6Header::default()
            };
            out.extend(ip.to_bytes());
            if jumbo {
                // RFC 2675 §2: the length counts this header too.
                out.extend([IpNumber::TCP.0, 0, 0xc2, 4]);
                out.extend((len as u32 + 8).to_be_bytes());
            }
            if segment.missing == 0 {
                let checksum = tcp.calc_checksum_ipv6_raw(from, to, segment.payload);
                tcp.checksum = checksum.unwrap_or_default();
            }
        }
    }
    out.extend(tcp.to_bytes());
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn tcp(segment: &Segment<'_>) -> TcpHeader {
    let (from, to) = (segment.from.port(), segment.to.port());
    let mut tcp = TcpHeader::new(from, to, segment.seq, u16::MAX);
    tcp.syn = matches!(segment.control, Control::Syn | Control::SynAck);
    tcp.ack = segment.control != Control::Syn;
    tcp.fin = segment.control == Control::Fin;
    tcp.rst = segment.control == Control::Rst;
    tcp.psh = !segment.payload.is_empty();
    if tcp.ack {
        tcp.acknowledgment_number = segment.ack;
    }
    if tcp.syn {
        // As wide as it can be, RFC 7323 §2.3: no analyser shall find a window full. Four bytes fit.
        let scale = [TcpOptionElement::WindowScale(14), TcpOptionElement::Noop];
        let _ = tcp.set_options(&scale);
    }
    tcp
}
