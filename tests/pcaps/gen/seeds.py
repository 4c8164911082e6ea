#!/usr/bin/env python3
"""Cuts the seeds of fuzz/corpus out of tests/pcaps. Called by `cargo xtask gen-seeds`.

`pcap` gets the first packets of some captures; the protocols get conversations as stories (see
testkit/src/fuzz.rs), of which `engine_ops` gets orders of its own. Seeds of earlier runs are
replaced; what a fuzzer found, under other names, stays.
"""

import struct
from pathlib import Path

PCAPS = Path(__file__).resolve().parent.parent
CORPUS = PCAPS.parent.parent / "fuzz" / "corpus"
# Folders of captures, and the target that their conversations are for.
TARGETS = {
    "http": "http", "http2": "h2", "grpc": "h2", "mysql": "mysql", "postgresql": "postgres",
    "redis": "redis",
}
STORY_BYTES = 3_000
PACKETS = 14


def packets(capture):
    """Headers and frames of a little-endian Ethernet pcap."""
    data, at = capture.read_bytes(), 24
    while at < len(data):
        captured = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at:at + 16], data[at + 16:at + 16 + captured]
        at += 16 + captured


def segments(frame):
    """Ports, flags and payload of a TCP frame over IPv4 or IPv6."""
    ip = 14
    tcp = ip + ((frame[ip] & 0x0F) * 4 if frame[12:14] == b"\x08\x00" else 40)
    source, destination = struct.unpack_from(">HH", frame, tcp)
    return source, destination, frame[tcp + 13], frame[tcp + (frame[tcp + 12] >> 4) * 4:]


def stories(capture):
    """A story for each connection: chunks in capture order, from its beginning."""
    found = {}
    for _, frame in packets(capture):
        source, destination, _, payload = segments(frame)
        servers = (13128, 13306, 13307, 15051, 15432, 16379, 18080, 18081, 18082, 18083, 18084)
        to_client = source in servers and destination not in servers
        client = destination if to_client else source
        story = found.setdefault(client, bytearray(b"\0"))
        if payload and len(story) + len(payload) < STORY_BYTES:
            story += struct.pack("<BH", int(to_client), len(payload)) + payload
    return [bytes(story) for story in found.values() if len(story) > 1]


def order(kind, length=0, data=b"", shift=0):
    return struct.pack("<BH", kind | shift << 4, length or len(data)) + data


def engine_stories():
    """One for each thing that the toy protocol and the engine can do."""
    ask = order(0, data=b".Q\x03abcQ\x00")
    answer = order(1, data=b"R\x02deR\x00")
    return {
        "plain": b"\0" + ask + answer,
        "hole": b"\0" + ask + order(0, data=b"Q\0", shift=9) + answer + order(10, 60) + ask,
        "overlap": b"\0" + ask + order(0, data=b"..Q\0", shift=1) + answer,
        "lost": b"\0" + ask + order(3, 40) + answer + ask + answer,
        "middle": b"\1" + order(6) + order(7) + ask + answer,
        "roles": b"\2" + answer + ask,
        "ends": b"\0" + ask + order(4) + answer + order(5),
        "acked": b"\0" + ask + order(8, shift=10) + answer + order(9, shift=10),
        "reopen": b"\0" + ask + order(11) + ask + order(11, 1) + ask + answer,
        "skip": b"\0" + order(0, data=b".S\x0cQ\x00") + order(0, data=b"x" * 60) + answer,
        "wait": b"\0" + order(0, data=b".WQ\0") + order(1, data=b"R\0") + answer,
        "upgrade": b"\0" + order(0, data=b".U\0Q\0U\1.Q\0U\2Q\0") + answer,
        "stop": b"\0" + order(0, data=b".XQ\0") + answer,
        "end-of-direction": b"\0" + order(0, data=b".EQ\0") + answer,
        "errors": b"\0" + order(0, data=b"." + b"#Q\0" * 12) + answer,
        "need": b"\0" + order(0, data=b".N\x10abc") + order(0, data=b"d" * 20),
        "annotate": b"\0" + order(0, data=b".Q\0A\1A\2A\0") + answer,
        "expire": b"\0" + ask + order(10, 300) + answer,
    }


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data)


def main():
    for old in CORPUS.glob("*/seed-*"):
        old.unlink()
    for capture in sorted(PCAPS.glob("*/*.pcap")):
        protocol, case = capture.parent.name, capture.stem
        name = case if protocol in ("http", "redis") else f"{protocol}-{case}"
        if protocol in TARGETS:
            for number, story in enumerate(stories(capture)[:4]):
                write(TARGETS[protocol], f"{name}-{number}", story)
        head = capture.read_bytes()[:24]
        first = b"".join(a + b for (a, b), _ in zip(packets(capture), range(PACKETS)))
        write("pcap", case if protocol == "http" else f"{protocol}-{case}", head + first[:6_000])
    for name, story in engine_stories().items():
        write("engine_ops", name, story)
    write("example", "conversation", b"\0" + order(0, data=b"EXAMPLE/1\r\nGET a\r\nPUT b 3\r\nxyz")
          + order(1, data=b"OK 2\r\nhiERR NO\r\n"))


if __name__ == "__main__":
    main()
