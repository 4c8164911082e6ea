//! Tunnels over UDP and GRE.

use crate::link::{CUT, Descent, NotUnderstood, Packet};
use crate::view::View;

impl Packet<'_, '_> {
    /// What a UDP port announces.
    pub(crate) fn udp_tunnel(&mut self, port: u16, view: View<'_>) -> Descent {
        match port {
            // RFC 7348, and the port that Linux took before it was assigned.
            4789 | 8472 => self.vxlan(view),
            6081 => self.geneve(view),
            _ => Err(NotUnderstood("UDP")),
        }
    }

    /// VXLAN, RFC 7348 §5: flags with the VNI bit set, then Ethernet after eight bytes.
    fn vxlan(&mut self, view: View<'_>) -> Descent {
        if view.u8(0).ok_or(CUT)? & 0x08 == 0 {
            return Err(NotUnderstood("VXLAN without VNI"));
        }
        self.enter()?.ethernet(view.skip(8).ok_or(CUT)?)
    }

    /// GENEVE, RFC 8926 §3.4.
    ///
    /// ```text
    /// version 2 bits, length of the options in words 6 bits | flags 1 | EtherType 2 | VNI 3 | 1
    /// ```
    fn geneve(&mut self, view: View<'_>) -> Descent {
        let first = view.u8(0).ok_or(CUT)?;
        if first >> 6 != 0 {
            return Err(NotUnderstood("GENEVE version, other"));
        }
        let ether_type = view.u16(2).ok_or(CUT)?;
        let inner = view.skip(8 + usize::from(first & 0x3f) * 4).ok_or(CUT)?;
        self.enter()?.ether_type(ether_type, inner)
    }

    /// GRE, RFC 2784 and RFC 2890.
    ///
    /// ```text
    /// C R K S s … version 2 bytes | EtherType 2 | [checksum 4] | [key 4] | [sequence 4]
    /// ```
    pub(crate) fn gre(&mut self, view: View<'_>) -> Descent {
        const CHECKSUM: u16 = 0x8000;
        const ROUTING: u16 = 0x4000;
        const KEY: u16 = 0x2000;
        const SEQUENCE: u16 = 0x1000;
        let flags = view.u16(0).ok_or(CUT)?;
        let ether_type = view.u16(2).ok_or(CUT)?;
        if flags & 7 == 1 {
            return Err(NotUnderstood("PPTP"));
        }
        if flags & 7 != 0 || flags & ROUTING != 0 {
            return Err(NotUnderstood("GRE, other"));
        }
        let options = [CHECKSUM, KEY, SEQUENCE]
            .iter()
            .filter(|bit| flags & **bit != 0)
            .count();
        let inner = view.skip(4 + 4 * options).ok_or(CUT)?;
        let packet = self.enter()?;
        match ether_type {
            // ERSPAN: type I has no header of its own and no sequence number; type II has eight
            // bytes, type III twelve and eight more if its last bit says so.
            0x88be if flags & SEQUENCE == 0 => packet.ethernet(inner),
            0x88be => packet.ethernet(inner.skip(8).ok_or(CUT)?),
            0x22eb => {
                let more = if inner.u8(11).ok_or(CUT)? & 1 == 0 {
                    0
                } else {
                    8
                };
                packet.ethernet(inner.skip(12 + more).ok_or(CUT)?)
            }
            _ => packet.ether_type(ether_type, inner),
        }
    }
}
