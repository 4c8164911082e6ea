//! A parser that panics with what it was shown costs its connection, and its message goes nowhere.
//!
//! Without the usual harness: run with arguments, this is a `wirespan` with such a parser.

use std::process::{Command, ExitCode};
use std::{env, fs};

use wirespan::api::{
    Confidence, Direction, Emit, Init, Input, ParseError, Parser, Probe, ProbeInput, Protocol,
    ProtocolName, Speaker, Step,
};

const SECRET: &str = "\u{e4}bcdfghjklmnpq";

/// Speaks when spoken to, and falls over.
struct Faulty;

impl Protocol for Faulty {
    fn name(&self) -> ProtocolName {
        ProtocolName("faulty")
    }

    fn description(&self) -> &'static str {
        "panics at the first message"
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        match head.bytes.starts_with(SECRET.as_bytes()) {
            true => Probe::Accept(Confidence::Certain, Speaker::Client),
            false => Probe::Reject,
        }
    }

    fn parser(&self, _: &Init<'_>) -> Box<dyn Parser> {
        Box::new(Faulty)
    }
}

impl Parser for Faulty {
    fn parse(
        &mut self,
        _: Direction,
        input: Input<'_>,
        _: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let text = std::str::from_utf8(input.bytes).expect("UTF-8");
        // Inside of the first character: the message quotes the text.
        Ok(Step::more(text[1..].len()))
    }

    fn resync(&mut self, _: Direction, _: &[u8]) -> Option<usize> {
        Some(0)
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some("replay") {
        return wirespan::main(wirespan::protocols().with(Faulty).build());
    }
    let plain = std::panic::catch_unwind(|| SECRET[1..].len());
    let said = plain.expect_err("a panic");
    let said = said.downcast_ref::<String>().expect("a message");
    assert!(said.contains(SECRET), "no message quotes it: {said}");

    let capture = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.pcap");
    fs::write(&capture, pcap()).expect("a capture");
    for backtrace in ["0", "1"] {
        let mut replay = Command::new(env::current_exe().expect("this program"));
        replay.arg("replay").arg(&capture).args(["-o", "jsonl"]);
        let output = replay.env("RUST_BACKTRACE", backtrace).output();
        let output = output.expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("a fault at agent/tests/faults.rs:"), "{said}");
        assert_eq!(
            said.contains("rust_begin_unwind"),
            backtrace == "1",
            "{said}"
        );
        for text in [said.as_ref(), &String::from_utf8_lossy(&output.stdout)] {
            assert!(!text.contains(&SECRET[2..8]), "{text}");
        }
    }
    println!("test a_parser_that_panics_says_where_and_not_what ... ok");
    ExitCode::SUCCESS
}

/// One packet of raw IPv4 with the secret, from a client to a server.
fn pcap() -> Vec<u8> {
    let mut packet = vec![
        0x45,
        0,
        0,
        40 + SECRET.len() as u8,
        0,
        0,
        0x40,
        0,
        64,
        6,
        0,
        0,
    ];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend([
        0x9c, 0x40, 0x03, 0x09, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0,
    ]);
    packet.extend(SECRET.as_bytes());
    let len = packet.len() as u32;
    let words = [
        0xa1b2_c3d4,
        0x0004_0002,
        0,
        0,
        0xffff,
        101,
        1_800_000_000,
        0,
        len,
        len,
    ];
    let mut file: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    file.extend(packet);
    file
}
