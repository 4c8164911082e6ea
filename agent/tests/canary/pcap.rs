//! A conversation as a capture file of IPv4 and TCP.

use wirespan_engine::api::Direction;

use crate::talk::Talk;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x01;

/// The capture, in which each side acknowledges what the other said. Every conversation has a client
/// of its own.
pub(crate) fn capture(talks: &[Talk]) -> Vec<u8> {
    let mut file = Vec::new();
    // Nanoseconds, version 2.4, raw IP.
    for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 0x4_0000, 101] {
        file.extend(word.to_le_bytes());
    }
    for (number, talk) in talks.iter().enumerate() {
        let client = 40_000 + u16::try_from(number).expect("few conversations");
        let mut wire = Wire {
            file: &mut file,
            ports: [client, talk.port],
            next: [1_000, 2_000],
            time: 1_800_000_000_000_000_000 + number as u64 * 1_000_000_000,
        };
        wire.conversation(talk);
    }
    file
}

struct Wire<'a> {
    file: &'a mut Vec<u8>,
    /// Of the client and of the server.
    ports: [u16; 2],
    /// The sequence number that each says next.
    next: [u32; 2],
    time: u64,
}

impl Wire<'_> {
    fn conversation(&mut self, talk: &Talk) {
        self.packet(0, SYN, &[]);
        self.packet(1, SYN | ACK, &[]);
        self.packet(0, ACK, &[]);
        for (dir, bytes) in &talk.said {
            let from = usize::from(*dir == Direction::ToClient);
            for part in bytes.chunks(1_400) {
                self.packet(from, ACK, part);
            }
        }
        self.packet(0, FIN | ACK, &[]);
        self.packet(1, FIN | ACK, &[]);
        self.packet(0, ACK, &[]);
    }

    fn packet(&mut self, from: usize, flags: u8, payload: &[u8]) {
        let len = u16::try_from(40 + payload.len()).expect("a small packet");
        let mut packet = vec![0x45, 0];
        packet.extend(len.to_be_bytes());
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        packet.extend([10, 0, 0, 1 + from as u8, 10, 0, 0, 2 - from as u8]);
        packet.extend(self.ports[from].to_be_bytes());
        packet.extend(self.ports[1 - from].to_be_bytes());
        packet.extend(self.next[from].to_be_bytes());
        packet.extend(self.next[1 - from].to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let seconds = u32::try_from(self.time / 1_000_000_000).expect("before 2106");
        let nanos = u32::try_from(self.time % 1_000_000_000).expect("less than a second");
        for word in [seconds, nanos, u32::from(len), u32::from(len)] {
            self.file.extend(word.to_le_bytes());
        }
        self.file.extend(packet);
        let counts = u32::from(flags & (SYN | FIN) != 0);
        self.next[from] = self.next[from].wrapping_add(payload.len() as u32 + counts);
        self.time += 1_000_000;
    }
}
