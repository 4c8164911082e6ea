//! Messages far larger than any buffer: right sizes and latency, whatever was captured of the bodies.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::records;

/// Writes a capture of one connection between 10.0.0.1:40000 and 10.0.0.2.
struct Dialogue {
    file: Vec<u8>,
    port: u16,
    micros: u64,
    sequence: [u32; 2],
    /// Bytes of each packet that are captured.
    snap: usize,
}

impl Dialogue {
    fn new(port: u16, snap: usize) -> Self {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        file.extend([0; 8]);
        file.extend(u32::try_from(snap).expect("a snap length").to_le_bytes());
        file.extend(1u32.to_le_bytes());
        let mut dialogue = Self {
            file,
            port,
            micros: 0,
            sequence: [1000, 2000],
            snap,
        };
        dialogue.packet(0, 0x02, b"", 0);
        dialogue.sequence[0] += 1;
        dialogue.packet(1, 0x12, b"", 0);
        dialogue.sequence[1] += 1;
        dialogue
    }

    /// A segment from the client (0) or the server (1): `bytes`, and `more` bytes of nothing.
    fn packet(&mut self, from: usize, flags: u8, bytes: &[u8], more: usize) {
        self.micros += 100;
        let payload = bytes.len() + more;
        let ports = [40_000, self.port];
        let mut packet = vec![0; 12];
        packet.extend([0x08, 0x00, 0x45, 0]);
        packet.extend(
            u16::try_from(40 + payload)
                .expect("one packet")
                .to_be_bytes(),
        );
        packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        for side in [from, 1 - from] {
            packet.extend([10, 0, 0, 1 + u8::try_from(side).expect("0 or 1")]);
        }
        packet.extend(ports[from].to_be_bytes());
        packet.extend(ports[1 - from].to_be_bytes());
        packet.extend(self.sequence[from].to_be_bytes());
        packet.extend(self.sequence[1 - from].to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(bytes);
        let len = packet.len() + more;
        packet.resize(len.min(self.snap).max(packet.len().min(self.snap)), b'x');
        for word in [self.micros / 1_000_000, self.micros % 1_000_000] {
            self.file
                .extend(u32::try_from(word).expect("a time").to_le_bytes());
        }
        for len in [packet.len(), len] {
            self.file
                .extend(u32::try_from(len).expect("a length").to_le_bytes());
        }
        self.file.extend(packet);
        let payload = u32::try_from(payload).expect("a length");
        self.sequence[from] = self.sequence[from].wrapping_add(payload);
    }

    fn say(&mut self, from: usize, bytes: &[u8]) {
        self.packet(from, 0x18, bytes, 0);
    }

    /// `len` bytes in the largest segments there are; the last one is small and captured whole.
    fn flood(&mut self, from: usize, mut len: u64) {
        while len > 10 {
            let more = usize::try_from((len - 10).min(65_000)).expect("a length");
            self.packet(from, 0x10, b"", more);
            len -= more as u64;
        }
        self.packet(from, 0x18, b"", usize::try_from(len).expect("a length"));
    }

    fn write(self, name: &str) -> PathBuf {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, self.file).expect("a capture is written");
        path
    }
}

/// The only record of a capture.
fn record(capture: &Path) -> Value {
    let records = records(capture, 1).records;
    assert_eq!(records.lines().count(), 1, "{records}");
    serde_json::from_str(&records).expect("JSON")
}

#[test]
fn a_body_of_a_gigabyte_is_known_by_its_length() {
    const LEN: u64 = 1 << 30;
    let mut dialogue = Dialogue::new(80, 96);
    dialogue.say(0, b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    let began = dialogue.micros;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
    // The head was captured whole.
    dialogue.snap = 1000;
    dialogue.say(1, head.as_bytes());
    dialogue.snap = 96;
    dialogue.flood(1, LEN);
    let duration = (dialogue.micros - began) * 1000;
    let record = record(&dialogue.write("gigabyte.pcap"));
    assert_eq!(record["response_bytes"], LEN + head.len() as u64);
    assert_eq!(record["duration_ns"], duration);
    assert_eq!(
        (&record["status"], record["flags"].to_string()),
        (&"200".into(), "[]".into())
    );
}

#[test]
fn a_redis_value_of_half_a_gigabyte_is_known_by_its_length() {
    const LEN: u64 = 512 << 20;
    let mut dialogue = Dialogue::new(6379, 96);
    dialogue.say(0, b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n");
    let began = dialogue.micros;
    let head = format!("${LEN}\r\n");
    dialogue.say(1, head.as_bytes());
    dialogue.flood(1, LEN);
    dialogue.say(1, b"\r\n");
    let duration = (dialogue.micros - began) * 1000;
    let record = record(&dialogue.write("half-gigabyte.pcap"));
    assert_eq!(record["response_bytes"], LEN + head.len() as u64 + 2);
    assert_eq!(record["duration_ns"], duration);
    assert_eq!(
        (&record["status"], record["flags"].to_string()),
        (&"OK".into(), "[]".into())
    );
}
