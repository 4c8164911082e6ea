//! Link layers: from a record to IP.

use std::collections::BTreeMap;

use etherparse::{Ethernet2HeaderSlice, SingleVlanHeaderSlice};
use wirespan_engine::Nanos;

use crate::fragments::Fragments;
use crate::label::Label;
use crate::segment::Segment;
use crate::view::View;

/// Link type of a capture, as registered at <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct LinkType(pub(crate) u16);

/// Takes link layers, networks and tunnels off packets.
#[derive(Default)]
pub(crate) struct Decoder {
    pub(crate) fragments: Fragments,
    /// Packets that held nothing for us, by the first thing that was not understood.
    pub(crate) not_understood: BTreeMap<&'static str, u64>,
}

/// Takes a segment and its captured payload.
pub(crate) type Emit<'e> = dyn FnMut(&Segment, &[u8]) + 'e;

/// Why a packet is not used; counted.
#[derive(Debug)]
pub(crate) struct NotUnderstood(pub(crate) &'static str);

/// What a step down through a packet's layers answers.
pub(crate) type Descent = Result<(), NotUnderstood>;

/// One packet on its way down.
pub(crate) struct Packet<'d, 'e> {
    pub(crate) fragments: &'d mut Fragments,
    /// What a recording says beside it.
    pub(crate) label: Label,
    /// Capture time, never falling.
    pub(crate) now: Nanos,
    pub(crate) emit: &'d mut Emit<'e>,
    /// Tunnels entered.
    depth: u32,
}

/// Most tunnels within each other.
const MAX_DEPTH: u32 = 4;

/// Most tags or labels in a row.
const MAX_TAGS: usize = 16;

impl Decoder {
    /// Emits the segment that `view` holds, or the one that it completes, or counts why not.
    pub(crate) fn packet(
        &mut self,
        (link, label): (LinkType, Label),
        view: View<'_>,
        now: Nanos,
        emit: &mut Emit<'_>,
    ) {
        let mut packet = Packet {
            fragments: &mut self.fragments,
            label,
            now,
            emit,
            depth: 0,
        };
        if let Err(NotUnderstood(what)) = packet.link(link, view) {
            *self.not_understood.entry(what).or_default() += 1;
        }
    }
}

impl Packet<'_, '_> {
    fn link(&mut self, link: LinkType, view: View<'_>) -> Descent {
        match link.0 {
            1 => self.ethernet(view),
            12 | 14 | 101 | 228 | 229 => self.ip(view),
            // The address family in the byte order of some machine; IP says its version itself.
            0 | 108 => self.ip(view.skip(4).ok_or(CUT)?),
            // LINUX_SLL: the protocol is the last field of 16 bytes.
            113 => self.ether_type(view.u16(14).ok_or(CUT)?, view.skip(16).ok_or(CUT)?),
            // LINUX_SLL2: the protocol is the first field of 20 bytes.
            276 => self.ether_type(view.u16(0).ok_or(CUT)?, view.skip(20).ok_or(CUT)?),
            9 | 50 | 51 | 204 => Err(NotUnderstood("link type PPP")),
            105 | 119 | 127 | 163 | 192 => Err(NotUnderstood("link type 802.11")),
            187 | 201 | 251 | 256 => Err(NotUnderstood("link type Bluetooth")),
            189 | 220 | 249 => Err(NotUnderstood("link type USB")),
            239 => Err(NotUnderstood("link type NFLOG")),
            252 => Err(NotUnderstood("link type exported PDU")),
            _ => Err(NotUnderstood("link type, other")),
        }
    }

    pub(crate) fn ethernet(&mut self, view: View<'_>) -> Descent {
        let header = Ethernet2HeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
        self.ether_type(header.ether_type().0, view.skip(14).ok_or(CUT)?)
    }

    /// What an EtherType announces; takes VLAN tags off on the way.
    pub(crate) fn ether_type(&mut self, ether_type: u16, view: View<'_>) -> Descent {
        let (mut ether_type, mut view) = (ether_type, view);
        for _ in 0..MAX_TAGS {
            match ether_type {
                0x0800 => return self.ipv4(view),
                0x86dd => return self.ipv6(view),
                // 802.1Q, 802.1ad, and what came before it.
                0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                    let tag = SingleVlanHeaderSlice::from_slice(view.bytes).map_err(|_| CUT)?;
                    ether_type = tag.ether_type().0;
                    view = view.skip(4).ok_or(CUT)?;
                }
                // LLC/SNAP in place of Ethernet II: a length, AA AA 03, and three zeroes for
                // "an EtherType follows", RFC 1042.
                0..=0x05ff if view.bytes.starts_with(&[0xaa, 0xaa, 3, 0, 0, 0]) => {
                    let len = usize::from(ether_type);
                    ether_type = view.u16(6).ok_or(CUT)?;
                    view = view.resize(len).skip(8).ok_or(CUT)?;
                }
                _ => return self.other_ether_type(ether_type, view),
            }
        }
        Err(NotUnderstood("too many VLAN tags"))
    }

    fn other_ether_type(&mut self, ether_type: u16, view: View<'_>) -> Descent {
        match ether_type {
            0x8847 | 0x8848 => self.mpls(view),
            // 802.1ah: four bytes of service tag, then the customer's frame.
            0x88e7 => self.enter()?.ethernet(view.skip(4).ok_or(CUT)?),
            0x6558 => self.enter()?.ethernet(view),
            0x8864 => self.pppoe(view),
            0x0806 => Err(NotUnderstood("ARP")),
            0x0842 => Err(NotUnderstood("wake-on-LAN")),
            0x8035 => Err(NotUnderstood("RARP")),
            0x8863 => Err(NotUnderstood("PPPoE discovery")),
            0x888e => Err(NotUnderstood("EAPOL")),
            0x88cc => Err(NotUnderstood("LLDP")),
            0x88e5 => Err(NotUnderstood("MACsec")),
            0..=0x05ff => Err(NotUnderstood("LLC")),
            _ => Err(NotUnderstood("EtherType, other")),
        }
    }

    /// MPLS labels, RFC 3032, and what lies below the last: IP, or an Ethernet pseudowire.
    pub(crate) fn mpls(&mut self, view: View<'_>) -> Descent {
        let mut view = view;
        for _ in 0..MAX_TAGS {
            let label = view.u32(0).ok_or(CUT)?;
            view = view.skip(4).ok_or(CUT)?;
            if label & 0x100 != 0 {
                return match view.u8(0).ok_or(CUT)? >> 4 {
                    4 | 6 => self.ip(view),
                    // A pseudowire's control word, RFC 4385.
                    0 => self.enter()?.ethernet(view.skip(4).ok_or(CUT)?),
                    _ => Err(NotUnderstood("MPLS, other")),
                };
            }
        }
        Err(NotUnderstood("too many MPLS labels"))
    }

    /// A PPPoE session: six bytes, then a PPP protocol number. RFC 2516.
    fn pppoe(&mut self, view: View<'_>) -> Descent {
        match view.u16(6).ok_or(CUT)? {
            0x0021 | 0x0057 => self.ip(view.skip(8).ok_or(CUT)?),
            _ => Err(NotUnderstood("PPPoE, not IP")),
        }
    }

    /// Goes into a tunnel.
    pub(crate) fn enter(&mut self) -> Result<&mut Self, NotUnderstood> {
        if self.depth >= MAX_DEPTH {
            return Err(NotUnderstood("tunnels nested too deep"));
        }
        self.depth += 1;
        Ok(self)
    }
}

/// The capture ends inside a header.
pub(crate) const CUT: NotUnderstood = NotUnderstood("header cut short");
