//! Handshakes that are written out here, whole, in pieces, and spoilt.

use super::*;

const GREASE: u16 = 0x3a3a;
const ECH: u16 = 0xfe0d;

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&len.to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), long(data)].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    extension(0, &long(&[&[0][..], &long(name.as_bytes())].concat()))
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| short(name)).collect();
    extension(16, &long(&names))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &len[1..], body].concat()
}

fn client_hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let fixed = [&[3, 3][..], &[7; 32]].concat();
    let ciphers = long(&[0x13, 0x01, 0x3a, 0x3a]);
    let extensions = long(&extensions.concat());
    let body = [fixed, short(&[9; 32]), ciphers, short(&[0]), extensions];
    message(CLIENT_HELLO, &body.concat())
}

fn server_hello(version: u16, extensions: &[Vec<u8>]) -> Vec<u8> {
    let fixed = [&version.min(0x0303).to_be_bytes()[..], &[8; 32]].concat();
    let mut extensions = extensions.to_vec();
    if version == TLS_1_3 {
        extensions.push(extension(43, &version.to_be_bytes()));
    }
    let extensions = long(&extensions.concat());
    let body = [fixed, short(&[9; 32]), vec![0x13, 0x01, 0], extensions];
    message(SERVER_HELLO, &body.concat())
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind, 3, 3], long(body)].concat()
}

/// Who says what, when.
type Story = Vec<(Direction, Vec<u8>, u64)>;

const CLIENT: Direction = Direction::ToServer;
const SERVER: Direction = Direction::ToClient;

fn tls_1_3(extensions: &[Vec<u8>]) -> Story {
    let hello = record(HANDSHAKE, &client_hello(extensions));
    let answer = record(HANDSHAKE, &server_hello(TLS_1_3, &[]));
    let change = record(CHANGE_CIPHER_SPEC, &[1]);
    vec![
        (CLIENT, hello, 1_000),
        (SERVER, [answer, change.clone()].concat(), 2_000),
        (SERVER, record(DATA, &[5; 900]), 2_500),
        (CLIENT, [change, record(DATA, &[5; 53])].concat(), 3_000),
        (SERVER, record(DATA, &[5; 250]), 4_000),
        (CLIENT, record(DATA, &[5; 80]), 9_000),
    ]
}

fn tls_1_2() -> Story {
    let hello = client_hello(&[server_name("old.example"), protocols(&[b"h2", b"http/1.1"])]);
    let answer = server_hello(0x0303, &[protocols(&[b"http/1.1"])]);
    let finished = [
        record(CHANGE_CIPHER_SPEC, &[1]),
        record(HANDSHAKE, &[6; 40]),
    ];
    vec![
        (CLIENT, record(HANDSHAKE, &hello), 1_000),
        (SERVER, record(HANDSHAKE, &answer), 2_000),
        (SERVER, record(HANDSHAKE, &message(11, &[4; 3_000])), 2_001),
        (CLIENT, record(HANDSHAKE, &message(16, &[4; 66])), 3_000),
        (CLIENT, finished.concat(), 3_001),
        (SERVER, finished.concat(), 4_500),
        (CLIENT, record(DATA, &[5; 80]), 9_000),
    ]
}

/// What is learned when everything comes in pieces of at most `len` bytes.
fn learned(story: &Story, len: usize) -> Handshake {
    let mut handshake = Handshake::default();
    for (dir, bytes, time) in story {
        let time = Some(Nanos(*time));
        for piece in bytes.chunks(len) {
            handshake.take(*dir, piece, time, time);
        }
    }
    handshake
}

fn told(handshake: &Handshake) -> Vec<String> {
    let attrs = handshake.attrs();
    attrs
        .map(|attr| format!("{}={:?}", attr.key().name(), attr.value()))
        .collect()
}

#[test]
fn a_handshake_tells_name_version_and_time_however_it_is_cut() {
    let offers = [
        extension(GREASE, &[]),
        extension(ECH, &[0; 200]),
        server_name("Shop.example"),
        protocols(&[b"\x3a\x3a", b"h2", b"http/1.1"]),
    ];
    let story = tls_1_3(&offers);
    for len in [1, 2, 3, 4, 5, 7, 64, 1_000, usize::MAX] {
        let handshake = learned(&story, len);
        assert_eq!(handshake.server_name(), Some("Shop.example"));
        assert_eq!(handshake.offered(), ["h2", "http/1.1"]);
        assert_eq!(handshake.version(), Some("1.3"));
        assert_eq!(handshake.duration(), Some(2_000), "in pieces of {len}");
        assert!(!handshake.wants_more());
        let old = learned(&tls_1_2(), len);
        assert_eq!(
            told(&old),
            [
                "tls.protocol.version=Str(\"1.2\")",
                "tls.next_protocol=Str(\"http/1.1\")",
                "wirespan.tls.server_name=Str(\"old.example\")",
                "wirespan.tls.handshake_ns=Int(3500)",
            ]
        );
    }
}

#[test]
fn a_hello_may_come_in_several_records() {
    let hello = client_hello(&[server_name("a.example"), extension(21, &[0; 6_000])]);
    let mut story = tls_1_3(&[]);
    let records = hello.chunks(1_000).map(|part| record(HANDSHAKE, part));
    story[0].1 = records.collect::<Vec<_>>().concat();
    let handshake = learned(&story, 700);
    assert_eq!(handshake.server_name(), Some("a.example"));
    assert_eq!(handshake.duration(), Some(2_000));
}

#[test]
fn a_second_hello_that_the_server_asked_for_is_of_the_same_handshake() {
    let mut story = tls_1_3(&[server_name("a.example")]);
    let again = (CLIENT, record(HANDSHAKE, &client_hello(&[])), 1_800);
    let request = (SERVER, story[1].1.clone(), 1_500);
    story.splice(1..1, [request, again]);
    let handshake = learned(&story, 100);
    assert_eq!(handshake.server_name(), Some("a.example"));
    assert_eq!(handshake.duration(), Some(2_000));
}

#[test]
fn what_is_not_said_is_not_made_up() {
    assert_eq!(
        learned(&tls_1_3(&[]), 9).server_name(),
        None,
        "no extension"
    );
    let empty = tls_1_3(&[extension(0, &long(&[]))]);
    assert_eq!(learned(&empty, 9).server_name(), None, "an empty list");
    let odd = tls_1_3(&[server_name("a b\n")]);
    assert_eq!(learned(&odd, 9).server_name(), None, "no name of a host");
    // RFC 6066 forbids it; who does it nevertheless has said so.
    let literal = learned(&tls_1_3(&[server_name("10.0.0.1")]), 9);
    assert_eq!(literal.server_name(), Some("10.0.0.1"));
    let early = learned(&tls_1_3(&[extension(EARLY, &[])]), 9);
    assert_eq!((early.version(), early.duration()), (Some("1.3"), None));
    let mut unfinished = tls_1_3(&[]);
    unfinished.truncate(3);
    let unfinished = learned(&unfinished, 9);
    assert_eq!(unfinished.duration(), None);
    assert!(unfinished.wants_more());
}

/// Early data, RFC 8446 §4.2.10.
const EARLY: u16 = 42;

#[test]
fn unseen_bytes_end_it_unless_nobody_needs_them() {
    let story = tls_1_2();
    for (lost, whole) in [(0, false), (1, false), (2, true), (4, false)] {
        let mut handshake = Handshake::default();
        for (n, (dir, bytes, time)) in story.iter().enumerate() {
            let time = Some(Nanos(*time));
            let (seen, unseen) = match n == lost {
                // Not its last bytes: those have a time.
                true => (10, bytes.len() - 20),
                false => (bytes.len(), 0),
            };
            handshake.take(*dir, &bytes[..seen], time, time);
            if unseen > 0 {
                handshake.pass(*dir, unseen as u64);
                handshake.take(*dir, &bytes[seen + unseen..], time, time);
            }
        }
        let duration = handshake.duration();
        assert_eq!(duration, whole.then_some(3_500), "without {lost}");
    }
}

#[test]
fn what_is_no_handshake_is_left_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        &record(DATA, &[1; 20])[..0],
        &[HANDSHAKE, 3, 1, 0, 0],
        &[HANDSHAKE, 3, 1, 0xff, 0xff],
        &record(HANDSHAKE, &message(2, &[0; 40])),
        &record(HANDSHAKE, &message(CLIENT_HELLO, &[0; 10])),
        &record(HANDSHAKE, &[CLIENT_HELLO, 0xff, 0xff, 0xff, 0]),
    ] {
        let handshake = learned(&vec![(CLIENT, bytes.to_vec(), 5)], usize::MAX);
        assert_eq!(told(&handshake), [""; 0]);
        assert_eq!(handshake.wants_more(), bytes.is_empty(), "{bytes:?}");
    }
    let endless = vec![(CLIENT, record(CHANGE_CIPHER_SPEC, &[1]), 5); 30_000];
    assert!(!learned(&endless, usize::MAX).wants_more());
}

/// Every byte of a handshake changed in eight ways, and every beginning of one: no panic, and no more
/// memory than the handshake has bytes.
#[test]
fn spoilt_handshakes_do_no_harm() {
    let story = tls_1_3(&[server_name("a.example"), protocols(&[b"h2"])]);
    let hello = &story[0].1;
    for at in 0..hello.len() {
        for bit in 0..8 {
            let mut spoilt = story.clone();
            spoilt[0].1[at] ^= 1 << bit;
            let handshake = learned(&spoilt, 50);
            assert!(handshake.heap_bytes() < 8 << 10);
        }
        let mut cut = story[..1].to_vec();
        cut[0].1.truncate(at);
        let name = learned(&cut, 50).server_name().map(str::to_owned);
        assert_eq!(name, None, "of {at} bytes");
    }
}
