//! Capture files of both formats, whole and damaged.

use std::io::{self, Read};

use wirespan_engine::Nanos;

use crate::file::{Filled, Records};
use crate::{CaptureStats, Error};

type Packet = (u16, Vec<u8>, usize, Nanos);

/// All packets, what was counted, and why it ended.
fn read(source: impl Read) -> (Vec<Packet>, CaptureStats, Option<Error>) {
    let mut records = Records::new(source);
    let mut stats = CaptureStats::default();
    let mut packets = Vec::new();
    let mut go = || -> Result<(), Error> {
        while records.fill()? == Filled::More {
            while let Some(record) = records.next(&mut stats)? {
                let bytes = record.packet.bytes.to_vec();
                packets.push((record.link.0, bytes, record.packet.len, record.time));
            }
        }
        Ok(())
    };
    let error = go().err();
    (packets, stats, error)
}

#[track_caller]
fn read_well(bytes: &[u8]) -> Vec<Packet> {
    let (packets, _, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    // The same, byte by byte.
    let (slowly, _, error) = read(OneByOne(bytes));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(packets, slowly);
    packets
}

/// Gives one byte for each read, as a slow pipe would.
struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(1);
        self.0.read(&mut buf[..n])
    }
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u32(self, n: u32) -> [u8; 4] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }

    fn u16(self, n: u16) -> [u8; 2] {
        match self {
            Self::Little => n.to_le_bytes(),
            Self::Big => n.to_be_bytes(),
        }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| self.u32(*word)).collect()
    }
}

fn pcap(order: Order, magic: u32, records: &[&[u8]]) -> Vec<u8> {
    let mut bytes = order.u32(magic).to_vec();
    bytes.extend([order.u16(2), order.u16(4)].concat());
    // Time zone, accuracy, snap length, and Ethernet with a frame check sequence of four bytes.
    bytes.extend(order.words(&[0, 0, 65_535, 0x2400_0001]));
    for record in records {
        let len = record.len() as u32;
        bytes.extend(order.words(&[7, 5, len, len + 3]));
        if magic == 0xa1b2_cd34 {
            bytes.extend([0; 8]);
        }
        bytes.extend(*record);
    }
    bytes
}

#[test]
fn pcap_is_read_in_both_orders_and_resolutions() {
    let micro = Nanos(7_000_005_000);
    let nano = Nanos(7_000_000_005);
    for order in [Order::Little, Order::Big] {
        let bytes = pcap(order, 0xa1b2_c3d4, &[b"one", b""]);
        let expected = [(1, b"one".to_vec(), 6, micro), (1, vec![], 3, micro)];
        assert_eq!(read_well(&bytes), expected);
        let bytes = pcap(order, 0xa1b2_3c4d, &[b"one"]);
        assert_eq!(read_well(&bytes), [(1, b"one".to_vec(), 6, nano)]);
    }
    let bytes = pcap(Order::Little, 0xa1b2_cd34, &[b"one", b"two"]);
    assert_eq!(read_well(&bytes).len(), 2);
}

fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = order.u32(padded as u32 + 12);
    let padding = vec![0; padded - body.len()];
    [&order.u32(kind), &len, body, &padding, &len].concat()
}

fn section(order: Order) -> Vec<u8> {
    let body = [
        &order.u32(0x1a2b_3c4d)[..],
        &order.u16(1),
        &order.u16(0),
        &[0xff; 8],
    ]
    .concat();
    block(order, 0x0a0d_0d0a, &body)
}

fn interface(order: Order, link: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
    let body = [&order.u16(link)[..], &[0, 0], &order.u32(snap_len), options].concat();
    block(order, 1, &body)
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [order.u16(code), order.u16(value.len() as u16)].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn enhanced(order: Order, interface: u32, time: u64, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    let head = order.words(&[interface, (time >> 32) as u32, time as u32, len, len + 3]);
    block(order, 6, &[&head, data].concat())
}

#[test]
fn pcapng_is_read_with_several_sections_interfaces_and_packet_blocks() {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for order in [Order::Little, Order::Big] {
        let second: i64 = -100;
        let offset = match order {
            Order::Little => second.to_le_bytes(),
            Order::Big => second.to_be_bytes(),
        };
        let options = [option(order, 9, &[0x80 | 10]), option(order, 14, &offset)].concat();
        bytes.extend(section(order));
        bytes.extend(interface(order, 101, 4, &[]));
        bytes.extend(interface(order, 1, 0, &options));
        bytes.extend(enhanced(order, 0, 7_000_005, b"micro"));
        bytes.extend(enhanced(order, 1, 107 << 10, b"binary"));
        bytes.extend(block(order, 3, &[&order.u32(9), &b"simp"[..]].concat()));
        let obsolete = [
            &order.u16(1)[..],
            &[0, 0],
            &order.words(&[0, 107 << 10, 3, 3]),
            b"old",
        ];
        bytes.extend(block(order, 2, &obsolete.concat()));
        expected.extend([
            (101, b"micro".to_vec(), 8, Nanos(7_000_005_000)),
            (1, b"binary".to_vec(), 9, Nanos(7_000_000_000)),
            (101, b"simp".to_vec(), 9, Nanos(0)),
            (1, b"old".to_vec(), 3, Nanos(7_000_000_000)),
        ]);
    }
    assert_eq!(read_well(&bytes), expected);
}

#[test]
fn blocks_without_packets_are_passed_over_and_counted_however_large() {
    let order = Order::Little;
    let secrets = block(order, 10, &vec![0; 3 << 20]);
    let packet = enhanced(order, 0, 1, b"one");
    let unknown = block(order, 0x0bee_f000, b"?");
    let bytes = [
        section(order),
        interface(order, 1, 0, &[]),
        secrets,
        unknown,
        packet,
    ]
    .concat();
    let (packets, stats, error) = read(&bytes[..]);
    assert_eq!((packets.len(), error.is_none()), (1, true));
    assert_eq!(stats.blocks_skipped.get("decryption secrets"), Some(&1));
    assert_eq!(stats.blocks_skipped.get("unknown"), Some(&1));
}

#[test]
fn a_file_cut_anywhere_gives_what_came_before_and_says_so() {
    let order = Order::Little;
    let whole = [
        section(order),
        interface(order, 1, 0, &[]),
        enhanced(order, 0, 1, b"one"),
        enhanced(order, 0, 1, b"two"),
    ]
    .concat();
    let ends: Vec<usize> = [28, 20, 36, 36]
        .iter()
        .scan(0, |end, len| {
            *end += len;
            Some(*end)
        })
        .collect();
    for bytes in [whole, pcap(order, 0xa1b2_c3d4, &[b"one", b"two"])] {
        let ends = if bytes[0] == 0x0a {
            ends.clone()
        } else {
            vec![24, 43, 62]
        };
        for cut in 1..bytes.len() {
            let (packets, _, error) = read(&bytes[..cut]);
            let last = ends.iter().rposition(|end| *end <= cut);
            let offset = last.map_or(0, |last| ends[last]);
            let headers = ends.len() - 2;
            assert_eq!(
                packets.len(),
                last.map_or(0, |last| (last + 1).saturating_sub(headers))
            );
            match error {
                None => assert_eq!(offset, cut),
                Some(Error::Truncated { offset: at }) => assert_eq!(at, offset as u64),
                Some(other) => panic!("cut at {cut}: {other}"),
            }
        }
    }
}

#[test]
fn damage_is_told_with_its_place_after_what_came_before() {
    let order = Order::Little;
    let good = [
        section(order),
        interface(order, 1, 0, &[]),
        enhanced(order, 0, 1, b"one"),
    ]
    .concat();
    let place = good.len() as u64;
    let other_interface = enhanced(order, 9, 1, b"two");
    let mut long_packet = enhanced(order, 0, 1, b"two");
    long_packet[20..24].copy_from_slice(&order.u32(900));
    let mut short_block = enhanced(order, 0, 1, b"two");
    short_block[4..8].copy_from_slice(&order.u32(8));
    let mut long_block = enhanced(order, 0, 1, b"two");
    long_block[4..8].copy_from_slice(&order.u32(0xffff_fff0));
    for damage in [other_interface, long_packet, short_block, long_block] {
        let bytes = [&good[..], &damage, &good].concat();
        let (packets, _, error) = read(&bytes[..]);
        assert_eq!(packets.len(), 1);
        assert!(
            matches!(error, Some(Error::Damaged { offset, .. }) if offset == place),
            "{error:?}"
        );
    }
}

#[test]
fn a_pcap_length_that_no_packet_has_is_damage() {
    let mut bytes = pcap(Order::Little, 0xa1b2_c3d4, &[b"one", b"two"]);
    bytes[24 + 19 + 8..][..4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let (packets, _, error) = read(&bytes[..]);
    assert_eq!(packets.len(), 1);
    assert!(
        matches!(error, Some(Error::Damaged { offset: 43, .. })),
        "{error:?}"
    );
}

#[test]
fn what_is_no_capture_is_described() {
    for (bytes, first) in [
        (&b"{\"json\": 1}"[..], "the text"),
        (&[0xff, 0, 1, 2, 3], "the bytes ff 00"),
    ] {
        let (_, _, error) = read(bytes);
        let Some(error @ Error::NotACapture { .. }) = error else {
            panic!("{error:?}")
        };
        assert!(error.to_string().contains(first), "{error}");
    }
    assert!(matches!(
        read(&b"no"[..]).2,
        Some(Error::NotACapture { .. })
    ));
    assert!(matches!(read(&b""[..]).2, Some(Error::Empty)));
}
