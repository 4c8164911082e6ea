//! What is left of a packet once link, network and tunnels are taken off.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirespan_engine::{Layer, Side};

use crate::label::{Label, Lane};

/// The head of a TCP segment. Its captured payload travels beside it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// The connection's key.
    pub(crate) key: Key,
    /// Which of its ends sent this segment.
    pub(crate) sender: End,
    /// Sequence number.
    pub(crate) seq: u32,
    /// Acknowledgement number; means something with [`Segment::ACK`] only.
    pub(crate) ack: u32,
    /// Control bits as in byte 13 of the header, RFC 9293 §3.1.
    pub(crate) flags: u8,
    /// Bytes of payload that were on the wire and not captured; they follow the captured ones.
    pub(crate) missing: u32,
    /// What a recording says beside the packet.
    pub(crate) label: Label,
}

impl Segment {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const ACK: u8 = 0x10;

    /// Whether a control bit is set.
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Sequence number of the first byte of payload: a SYN takes one number of its own.
    pub(crate) fn data_seq(&self) -> u32 {
        self.seq.wrapping_add(u32::from(self.has(Self::SYN)))
    }

    /// Addresses and ports of the sender and the receiver.
    pub(crate) fn peers(&self) -> (Endpoint, Endpoint) {
        let Key { low, high, .. } = self.key;
        match self.sender {
            End::Low => (low, high),
            End::High => (high, low),
        }
    }

    /// Whose socket was observed, and where.
    pub(crate) fn observed(&self) -> (Side, Layer) {
        let wire = (Side::Wire, Layer::Transport);
        self.label.lane.map_or(wire, |lane| (lane.side, lane.layer))
    }
}

/// Address and port. IPv4 addresses lie in `::ffff:0:0/96`, as in RFC 4291 §2.5.5.2.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Endpoint {
    address: [u64; 2],
    port: u16,
}

impl Hash for Endpoint {
    /// The port goes where IPv4 addresses have nothing: two numbers are faster to hash than three.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = self.address;
        state.write_u64(high);
        state.write_u64(low ^ (u64::from(self.port) << 48));
    }
}

impl Endpoint {
    pub(crate) fn v4(address: [u8; 4], port: u16) -> Self {
        Self {
            address: [0, 0xffff_0000_0000 | u64::from(u32::from_be_bytes(address))],
            port,
        }
    }

    pub(crate) fn v6(address: [u8; 16], port: u16) -> Self {
        let address = u128::from_be_bytes(address);
        Self {
            address: [(address >> 64) as u64, address as u64],
            port,
        }
    }

    /// The same address with another port.
    pub(crate) fn with_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        let [high, low] = self.address;
        let v6 = Ipv6Addr::from((u128::from(high) << 64) | u128::from(low));
        let ip = v6
            .to_ipv4_mapped()
            .map_or(IpAddr::V6(v6), |v4: Ipv4Addr| IpAddr::V4(v4));
        SocketAddr::new(ip, self.port)
    }
}

/// A connection's ends in an order that does not depend on who sends. VLAN and tunnel identifiers
/// are left out on purpose: a tag may be on the packets of one direction only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Key {
    pub(crate) low: Endpoint,
    pub(crate) high: Endpoint,
    /// Connections of different interfaces of a recording are different ones.
    pub(crate) lane: Option<Lane>,
}

impl Key {
    /// The key of what `source` sends to `destination`, and which end `source` is.
    pub(crate) fn of(source: Endpoint, destination: Endpoint, lane: Option<Lane>) -> (Self, End) {
        let (low, high, sender) = if source <= destination {
            (source, destination, End::Low)
        } else {
            (destination, source, End::High)
        };
        (Self { low, high, lane }, sender)
    }

    /// Which of `shards` the connection belongs to: the same in every run. All of a recording belong
    /// to the first, as they belonged to one engine: what one task did on several connections is
    /// told in its order.
    pub(crate) fn shard(&self, shards: usize) -> usize {
        if self.lane.is_some() {
            return 0;
        }
        let hash = foldhash::fast::FixedState::with_seed(0x5749_5245).hash_one(self);
        (hash >> 32) as usize % shards
    }
}

/// One end of a connection, by the order of [`Key`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Low,
    High,
}

impl End {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_have_one_key_and_one_shard() {
        let client = Endpoint::v4([10, 0, 0, 1], 40_000);
        let server = Endpoint::v4([10, 0, 0, 2], 80);
        let there = Key::of(client, server, None);
        let back = Key::of(server, client, None);
        assert_eq!(there.0, back.0);
        assert_ne!(there.1, back.1);
        assert_eq!(there.0.shard(8), back.0.shard(8));
    }

    #[test]
    fn addresses_come_back_as_they_went_in() {
        assert_eq!(
            Endpoint::v4([1, 2, 3, 4], 5).socket().to_string(),
            "1.2.3.4:5"
        );
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(
            Endpoint::v6(v6.octets(), 5).socket().to_string(),
            "[2001:db8::1]:5"
        );
    }
}
