//! Packets to segments.

use etherparse::{EtherType, IpNumber, LinuxSllPacketType, PacketBuilder, PacketBuilderStep};
use wirespan_engine::Nanos;

use crate::label::Label;
use crate::link::{Decoder, LinkType};
use crate::view::View;

const ETHERNET: LinkType = LinkType(1);
const SOURCE: [u8; 4] = [10, 0, 0, 1];
const DESTINATION: [u8; 4] = [10, 0, 0, 2];

/// What a decoder made of packets: `source>destination payload+missing`, and what it counted.
fn decode(packets: &[(LinkType, Vec<u8>, usize)]) -> (Vec<String>, Vec<&'static str>) {
    let mut decoder = Decoder::default();
    let mut segments = Vec::new();
    for (link, bytes, len) in packets {
        decoder.packet(
            (*link, Label::default()),
            View::new(bytes, *len),
            Nanos(0),
            &mut |segment, payload| {
                let (from, to) = segment.peers();
                let (from, to) = (from.socket(), to.socket());
                let text = String::from_utf8_lossy(payload);
                segments.push(format!("{from}>{to} {text}+{}", segment.missing));
            },
        );
    }
    (segments, decoder.not_understood.into_keys().collect())
}

/// Asserts that a packet holds the segment that all of these tests send.
#[track_caller]
fn assert_found(link: LinkType, bytes: &[u8]) {
    let (segments, not_understood) = decode(&[(link, bytes.to_vec(), bytes.len())]);
    assert_eq!(
        segments,
        ["10.0.0.1:1>10.0.0.2:2 hello+0"],
        "{not_understood:?}"
    );
}

#[track_caller]
fn assert_counted(link: LinkType, bytes: &[u8], name: &str) {
    let (segments, not_understood) = decode(&[(link, bytes.to_vec(), bytes.len())]);
    assert!(segments.is_empty(), "{segments:?}");
    assert_eq!(not_understood, [name]);
}

fn finish(builder: PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
    let mut bytes = Vec::new();
    builder.write(&mut bytes, b"hello").unwrap();
    bytes
}

fn ipv4() -> Vec<u8> {
    finish(PacketBuilder::ipv4(SOURCE, DESTINATION, 64).tcp(1, 2, 3, 4))
}

fn ethernet() -> Vec<u8> {
    finish(
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4(SOURCE, DESTINATION, 64)
            .tcp(1, 2, 3, 4),
    )
}

/// An Ethernet header with this EtherType before `rest`.
fn framed(ether_type: u16, rest: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &ether_type.to_be_bytes(), rest].concat()
}

/// `payload` in IPv4 in Ethernet.
fn in_ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .write(&mut bytes, IpNumber(protocol), payload)
        .unwrap();
    bytes
}

fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(50_000, port)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn vxlan(inner: &[u8]) -> Vec<u8> {
    in_udp(4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], inner].concat())
}

#[test]
fn link_types_are_taken_off() {
    assert_found(ETHERNET, &ethernet());
    for raw in [12, 14, 101, 228] {
        assert_found(LinkType(raw), &ipv4());
    }
    for loopback in [0, 108] {
        assert_found(LinkType(loopback), &[&[2, 0, 0, 0], &ipv4()[..]].concat());
    }
    let cooked = PacketBuilder::linux_sll(LinuxSllPacketType::OUTGOING, 6, [0; 8])
        .ipv4(SOURCE, DESTINATION, 64)
        .tcp(1, 2, 3, 4);
    assert_found(LinkType(113), &finish(cooked));
    assert_found(
        LinkType(276),
        &[&[8, 0], &[0; 18][..], &ipv4()[..]].concat(),
    );
}

#[test]
fn link_types_that_are_not_read_are_counted_by_name() {
    assert_counted(LinkType(105), &[0; 40], "link type 802.11");
    assert_counted(LinkType(9), &[0; 40], "link type PPP");
    assert_counted(LinkType(9_999), &[0; 40], "link type, other");
}

#[test]
fn tags_and_labels_are_taken_off() {
    let vlan = [&[0, 5, 8, 0][..], &ipv4()].concat();
    assert_found(ETHERNET, &framed(0x8100, &vlan));
    let qinq = [&[0, 6, 0x81, 0][..], &vlan].concat();
    assert_found(ETHERNET, &framed(0x88a8, &qinq));
    assert_found(
        ETHERNET,
        &framed(0x88e7, &[&[0; 4][..], &ethernet()].concat()),
    );
    let labels = [&[0, 1, 0, 64][..], &[0, 2, 1, 64], &ipv4()].concat();
    assert_found(ETHERNET, &framed(0x8847, &labels));
    let session = [&[0x11, 0, 0, 1, 0, 47, 0, 0x21][..], &ipv4()].concat();
    assert_found(ETHERNET, &framed(0x8864, &session));
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ipv4()].concat();
    assert_found(ETHERNET, &framed(snap.len() as u16, &snap));
}

#[test]
fn tags_without_end_are_counted() {
    assert_counted(
        ETHERNET,
        &framed(0x8100, &[0x81, 0].repeat(500)),
        "too many VLAN tags",
    );
    assert_counted(ETHERNET, &framed(0x8847, &[0; 500]), "too many MPLS labels");
}

#[test]
fn tunnels_are_entered() {
    assert_found(ETHERNET, &vxlan(&ethernet()));
    // One word of options.
    let geneve = [&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4][..], &ethernet()].concat();
    assert_found(ETHERNET, &in_udp(6081, &geneve));
    assert_found(ETHERNET, &in_ipv4(4, &ipv4()));
    assert_found(
        ETHERNET,
        &in_ipv4(97, &[&[0x30, 0][..], &ethernet()].concat()),
    );
    let gre = |head: &[u8], inner: &[u8]| in_ipv4(47, &[head, inner].concat());
    assert_found(ETHERNET, &gre(&[0, 0, 8, 0], &ipv4()));
    assert_found(
        ETHERNET,
        &gre(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 9], &ethernet()),
    );
    let erspan = [0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0];
    assert_found(ETHERNET, &gre(&erspan, &ethernet()));
    let mut erspan3 = [&[0x10, 0, 0x22, 0xeb, 0, 0, 0, 1][..], &[0x20; 12]].concat();
    assert_found(ETHERNET, &gre(&erspan3, &ethernet()));
    erspan3[19] |= 1;
    erspan3.extend([0; 8]);
    assert_found(ETHERNET, &gre(&erspan3, &ethernet()));
}

#[test]
fn ipv6_in_ipv4_is_entered() {
    let inner = finish(PacketBuilder::ipv6([1; 16], [2; 16], 64).tcp(1, 2, 3, 4));
    let bytes = in_ipv4(41, &inner);
    let (segments, _) = decode(&[(ETHERNET, bytes.clone(), bytes.len())]);
    assert_eq!(segments.len(), 1);
    assert!(segments[0].starts_with("[101:101:"), "{segments:?}");
}

#[test]
fn tunnels_nested_too_deep_are_counted() {
    let nested = |depth: usize| (0..depth).fold(ethernet(), |inner, _| vxlan(&inner));
    assert_found(ETHERNET, &nested(4));
    assert_counted(ETHERNET, &nested(5), "tunnels nested too deep");
}

#[test]
fn padding_after_the_ip_packet_is_no_payload() {
    let mut bytes = ethernet();
    bytes.extend([0; 20]);
    assert_found(ETHERNET, &bytes);
}

#[test]
fn bytes_cut_off_by_the_snap_length_are_missing() {
    let bytes = ethernet();
    let cut = bytes[..bytes.len() - 2].to_vec();
    let (segments, _) = decode(&[(ETHERNET, cut, bytes.len())]);
    assert_eq!(segments, ["10.0.0.1:1>10.0.0.2:2 hel+2"]);
}

#[test]
fn a_header_cut_off_is_counted() {
    assert_counted(
        ETHERNET,
        &ethernet()[..14 + 20 + 10],
        "TCP header cut short",
    );
    assert_counted(ETHERNET, &ethernet()[..14 + 10], "header cut short");
}

#[test]
fn lengths_left_to_the_interface_are_those_of_the_capture() {
    let mut offloaded = ethernet();
    offloaded[16..18].fill(0);
    assert_found(ETHERNET, &offloaded);
}

/// `payload` behind `next` in IPv6 in Ethernet.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6([1; 16], [2; 16], 64)
        .write(&mut bytes, IpNumber(253), payload)
        .unwrap();
    bytes[20] = next;
    bytes
}

fn tcp() -> Vec<u8> {
    ipv4()[20..].to_vec()
}

fn payloads(packets: &[Vec<u8>]) -> Vec<String> {
    let packets: Vec<_> = packets
        .iter()
        .map(|bytes| (ETHERNET, bytes.clone(), bytes.len()))
        .collect();
    let (segments, not_understood) = decode(&packets);
    assert!(not_understood.is_empty(), "{not_understood:?}");
    segments
        .iter()
        .map(|text| text.split(' ').next_back().unwrap().into())
        .collect()
}

#[test]
fn ipv6_extension_headers_are_passed_over() {
    let chain = [
        &[43, 0, 0, 0, 0, 0, 0, 0][..],
        &[60, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0, 1, 4, 0, 0, 0, 0],
        &tcp(),
    ];
    assert_eq!(payloads(&[ipv6(0, &chain.concat())]), ["hello+0"]);
}

#[test]
fn jumbograms_have_the_length_of_the_capture() {
    let mut bytes = ipv6(0, &[&[6, 0, 0xc2, 4, 0, 0, 0, 33][..], &tcp()].concat());
    bytes[18..20].fill(0);
    assert_eq!(payloads(&[bytes]), ["hello+0"]);
}

#[test]
fn atomic_fragments_are_whole() {
    assert_eq!(
        payloads(&[ipv6(44, &[&[6, 0, 0, 0, 0, 0, 0, 9][..], &tcp()].concat())]),
        ["hello+0"]
    );
}

#[test]
fn ipv6_fragments_are_put_together() {
    let tcp = tcp();
    let last = ipv6(44, &[&[6, 0, 0, 16, 0, 0, 0, 9][..], &tcp[16..]].concat());
    let first = ipv6(44, &[&[6, 0, 0, 1, 0, 0, 0, 9][..], &tcp[..16]].concat());
    assert_eq!(payloads(&[last, first]), ["hello+0"]);
}

#[test]
fn ipv4_fragments_are_put_together() {
    let fragment = |offset: u16, more: u16, payload: &[u8]| {
        let mut bytes = in_ipv4(6, payload);
        bytes[20..22].copy_from_slice(&((more << 13) | (offset / 8)).to_be_bytes());
        bytes
    };
    let tcp = tcp();
    assert_eq!(
        payloads(&[fragment(8, 0, &tcp[8..]), fragment(0, 1, &tcp[..8])]),
        ["hello+0"]
    );
}

#[test]
fn what_is_not_tcp_is_counted_by_name() {
    assert_counted(ETHERNET, &framed(EtherType::ARP.0, &[0; 28]), "ARP");
    assert_counted(ETHERNET, &in_udp(53, b"?"), "UDP");
    assert_counted(ETHERNET, &in_ipv4(1, &[0; 8]), "ICMP");
    assert_counted(ETHERNET, &in_ipv4(132, &[0; 8]), "SCTP");
}
