//! IPv4 and IPv6, and what they carry.
//!
//! Checksums are not looked at: captures on the sending machine show them unfinished.

use etherparse::{
    Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice,
};

use crate::fragments::{Datagram, Piece, Placed};
use crate::link::{CUT, Descent, NotUnderstood, Packet};
use crate::segment::{Endpoint, Key, Segment};
use crate::view::View;

/// Sender and receiver, without ports.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Addresses {
    pub(crate) source: Endpoint,
    pub(crate) destination: Endpoint,
}

/// Most IPv6 extension headers in a row.
const MAX_EXTENSIONS: usize = 16;

impl Packet<'_, '_> {
    /// IP of the version that it says itself.
    pub(crate) fn ip(&mut self, view: View<'_>) -> Descent {
        match view.u8(0).ok_or(CUT)? >> 4 {
            4 => self.ipv4(view),
            6 => self.ipv6(view),
            _ => Err(NotUnderstood("IP version, other")),
        }
    }

    pub(crate) fn ipv4(&mut self, view: View<'_>) -> Descent {
        let header = Ipv4HeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
        let header_len = header.slice().len();
        // Zero: the interface would have filled the length in (segmentation offload, BIG TCP).
        let view = match usize::from(header.total_len()) {
            0 => view,
            len if len < header_len => return Err(NotUnderstood("IPv4 length impossible")),
            len => view.resize(len),
        };
        let payload = view.skip(header_len).ok_or(CUT)?;
        let addresses = Addresses {
            source: Endpoint::v4(header.source(), 0),
            destination: Endpoint::v4(header.destination(), 0),
        };
        let protocol = header.protocol().0;
        if header.is_fragmenting_payload() {
            let piece = Piece {
                datagram: Datagram {
                    addresses,
                    protocol,
                    id: u32::from(header.identification()),
                },
                offset: usize::from(header.fragments_offset().value()) * 8,
                more: header.more_fragments(),
            };
            return self.fragment(&piece, payload);
        }
        self.transport(protocol, addresses, payload)
    }

    pub(crate) fn ipv6(&mut self, view: View<'_>) -> Descent {
        let header = Ipv6HeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
        let addresses = Addresses {
            source: Endpoint::v6(header.source(), 0),
            destination: Endpoint::v6(header.destination(), 0),
        };
        let next = header.next_header().0;
        let payload = view.skip(40).ok_or(CUT)?;
        let payload = match usize::from(header.payload_length()) {
            // A jumbogram (RFC 2675) says its length in an option, segmentation offload does not
            // say it at all; the capture knows in both cases.
            0 => payload,
            len => payload.resize(len),
        };
        self.extensions(next, addresses, payload)
    }

    /// Goes along the chain of extension headers, RFC 8200 §4.
    fn extensions(&mut self, first: u8, addresses: Addresses, payload: View<'_>) -> Descent {
        let (mut next, mut view) = (first, payload);
        for _ in 0..MAX_EXTENSIONS {
            let len = match next {
                // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
                0 | 43 | 60 | 135 | 139 | 140 => (usize::from(view.u8(1).ok_or(CUT)?) + 1) * 8,
                // The authentication header counts in another unit, RFC 4302 §2.2.
                51 => (usize::from(view.u8(1).ok_or(CUT)?) + 2) * 4,
                44 => {
                    let header =
                        Ipv6FragmentHeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
                    if header.is_fragmenting_payload() {
                        let piece = Piece {
                            datagram: Datagram {
                                addresses,
                                protocol: header.next_header().0,
                                id: header.identification(),
                            },
                            offset: usize::from(header.fragment_offset().value()) * 8,
                            more: header.more_fragments(),
                        };
                        return self.fragment(&piece, view.skip(8).ok_or(CUT)?);
                    }
                    // Atomic fragments are whole, RFC 6946.
                    8
                }
                _ => return self.transport(next, addresses, view),
            };
            next = view.u8(0).ok_or(CUT)?;
            view = view.skip(len).ok_or(CUT)?;
        }
        Err(NotUnderstood("too many IPv6 extension headers"))
    }

    fn fragment(&mut self, piece: &Piece, view: View<'_>) -> Descent {
        match self.fragments.add(piece, view, self.now) {
            Placed::Waiting => Ok(()),
            Placed::Bad(what) => Err(NotUnderstood(what)),
            Placed::Whole(bytes) => {
                let Datagram {
                    addresses,
                    protocol,
                    ..
                } = piece.datagram;
                // IPv6 may go on with further extension headers; none of their numbers means
                // anything to IPv4.
                // Entered like a tunnel, since a datagram may hold a fragment again.
                self.enter()?
                    .extensions(protocol, addresses, View::new(&bytes, bytes.len()))
            }
        }
    }

    fn transport(&mut self, protocol: u8, addresses: Addresses, view: View<'_>) -> Descent {
        match protocol {
            6 => self.tcp(addresses, view),
            17 => self.udp(view),
            4 | 41 => self.enter()?.ip(view),
            47 => self.gre(view),
            // EtherIP, RFC 3378: a version and 12 zero bits.
            97 => self.enter()?.ethernet(view.skip(2).ok_or(CUT)?),
            137 => self.enter()?.mpls(view),
            51 => self.authenticated(addresses, view),
            1 => Err(NotUnderstood("ICMP")),
            2 => Err(NotUnderstood("IGMP")),
            50 => Err(NotUnderstood("ESP")),
            58 => Err(NotUnderstood("ICMPv6")),
            59 => Err(NotUnderstood("IPv6, no next header")),
            89 => Err(NotUnderstood("OSPF")),
            132 => Err(NotUnderstood("SCTP")),
            _ => Err(NotUnderstood("IP protocol, other")),
        }
    }

    /// An authentication header over IPv4 hides nothing, RFC 4302.
    fn authenticated(&mut self, addresses: Addresses, view: View<'_>) -> Descent {
        let next = view.u8(0).ok_or(CUT)?;
        let len = (usize::from(view.u8(1).ok_or(CUT)?) + 2) * 4;
        match next {
            51 => Err(NotUnderstood("nested authentication headers")),
            _ => self.transport(next, addresses, view.skip(len).ok_or(CUT)?),
        }
    }

    fn tcp(&mut self, addresses: Addresses, view: View<'_>) -> Descent {
        let header = TcpHeaderSlice::from_slice(view.bytes)
            .map_err(|_| NotUnderstood("TCP header cut short"))?;
        let payload = view.skip(header.slice().len()).ok_or(CUT)?;
        let max_missing = match self.label.lane {
            Some(_) => LARGEST_LOSS,
            None => MAX_MISSING,
        };
        let (key, sender) = Key::of(
            addresses.source.with_port(header.source_port()),
            addresses.destination.with_port(header.destination_port()),
            self.label.lane,
        );
        let segment = Segment {
            key,
            sender,
            seq: header.sequence_number(),
            ack: header.acknowledgment_number(),
            flags: view.u8(13).unwrap_or_default(),
            missing: u32::try_from(payload.missing())
                .ok()
                .filter(|missing| *missing <= max_missing)
                .ok_or(NotUnderstood("TCP length impossible"))?,
            label: self.label.clone(),
        };
        (self.emit)(&segment, payload.bytes);
        Ok(())
    }

    fn udp(&mut self, view: View<'_>) -> Descent {
        let header = UdpHeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
        let payload = view.skip(8).ok_or(CUT)?;
        self.udp_tunnel(header.destination_port(), payload)
    }
}

/// Most lost bytes that one packet of a recording stands for.
pub(crate) const LARGEST_LOSS: u32 = 1 << 29;

/// Most payload that a snap length can have cut off: no packet is larger.
const MAX_MISSING: u32 = 16 << 20;
