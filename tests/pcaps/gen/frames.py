"""HTTP/2 frame by frame (RFC 9113), for what no proper client sends."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITISED = 0x4, 0x8, 0x20

# The statuses of HPACK's static table (RFC 7541, appendix A).
STATUSES = dict(zip(range(0x88, 0x8F), ("200", "204", "206", "304", "400", "404", "500")))


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value):
    """A string literal, shorter than 127 bytes, without Huffman."""
    return bytes([len(value)]) + value.encode()


def block(method, path, *more, remember=False):
    """A header block. With `remember`, the path goes into the dynamic table."""
    start = {"GET": b"\x82", "POST": b"\x83"}.get(method, b"\x02" + text(method))
    address = (b"\x44" if remember else b"\x04") + text(path)
    fields = b"".join(b"\x00" + text(name) + text(value) for name, value in more)
    return start + b"\x86" + b"\x01" + text("shop") + address + fields


def status(response):
    """The status that a block begins with, behind an update of the table's size if there is one."""
    if response[0] & 0xE0 == 0x20:
        size = 1
        if response[0] == 0x3F:
            size += next(at for at, byte in enumerate(response[1:], 1) if byte < 0x80)
        response = response[size:]
    return STATUSES[response[0]]


class Frames:
    """One connection; `settings` are pairs of identifier and value."""

    def __init__(self, truth, port, *settings):
        self.truth = truth
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.reader = self.socket.makefile("rb")
        self.statuses = {}
        self.ended = set()
        payload = b"".join(struct.pack(">HI", *pair) for pair in settings)
        self.send(PREFACE, frame(SETTINGS, 0, 0, payload))

    def send(self, *frames):
        self.socket.sendall(b"".join(frames))

    def read(self):
        """Takes note of one frame. `None` at the end of the connection."""
        head = self.reader.read(9)
        if len(head) < 9:
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self.reader.read(int.from_bytes(head[:3], "big"))
        if kind == HEADERS:
            self.statuses.setdefault(stream, status(payload))
        if kind == RST_STREAM or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self.ended.add(stream)
        if kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        return kind

    def until(self, *streams):
        """Reads until these have ended, or the connection has."""
        while not self.ended.issuperset(streams) and self.read() is not None:
            pass

    def note(self, stream, method, target, **more):
        self.truth.http(method, target, self.statuses.get(stream, ""), **more)

    def ask(self, stream, method, path, remember=False):
        self.send(frame(HEADERS, END_HEADERS | END_STREAM, stream,
                        block(method, path, remember=remember)))
        self.until(stream)
        self.note(stream, method, path)

    def close(self):
        self.socket.close()
