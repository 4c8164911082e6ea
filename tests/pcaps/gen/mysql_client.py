"""A raw client of MySQL that writes down what it sees."""

import hashlib
import socket
import struct
import zlib

from lab import MARIADB_PORT

CONNECT_WITH_DB, COMPRESS, LOCAL_FILES, PROTOCOL_41 = 1 << 3, 1 << 5, 1 << 7, 1 << 9
SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS = 1 << 15, 1 << 16, 1 << 17
PS_MULTI_RESULTS, PLUGIN_AUTH, DEPRECATE_EOF = 1 << 18, 1 << 19, 1 << 24
USUAL = (1 | PROTOCOL_41 | SECURE_CONNECTION | MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS
         | PLUGIN_AUTH | LOCAL_FILES)
MORE_RESULTS, CURSOR_EXISTS = 0x08, 0x40


def lenenc(data, at):
    """The integer at an offset, and the offset behind it."""
    first = data[at]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if size is None:
        return first, at + 1
    return int.from_bytes(data[at + 1:at + 1 + size], "little"), at + 1 + size


class MySql:
    def __init__(self, truth, flags=DEPRECATE_EOF, schema="shop", password="CANARY-joe"):
        self.truth = truth
        self.sock = socket.create_connection(("127.0.0.1", MARIADB_PORT))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.compressed = False
        self.seq = 0
        self.flags = USUAL | flags | (CONNECT_WITH_DB if schema else 0)
        self.login(schema, password)

    def login(self, schema, password):
        greeting = self.packet()
        at = greeting.index(0) + 1 + 4
        salt = greeting[at:at + 8] + greeting[at + 27:at + 39]
        once = hashlib.sha1(password.encode()).digest()
        twice = hashlib.sha1(salt + hashlib.sha1(once).digest()).digest()
        proof = bytes(a ^ b for a, b in zip(once, twice))
        self.send(struct.pack("<IIB23x", self.flags, 1 << 30, 45) + b"joe\0\x14" + proof
                  + (schema.encode() + b"\0" if schema else b"") + b"mysql_native_password\0")
        self.note("HANDSHAKE", "", self.packet())
        self.compressed = bool(self.flags & COMPRESS)

    def note(self, operation, target, last, **more):
        status = str(struct.unpack_from("<H", last, 1)[0]) if last[0] == 0xFF else "OK"
        self.truth.note("mysql", operation, target, status, **more)

    # Packets.

    def send(self, payload, fresh=False):
        if fresh:
            self.seq = 0
        data = b""
        while True:
            part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
            data += struct.pack("<I", len(part))[:3] + bytes([self.seq & 0xFF]) + part
            self.seq += 1
            if len(part) < 0xFFFFFF:
                break
        if self.compressed:
            data = self.frames(data)
        self.sock.sendall(data)

    def frames(self, data):
        out = b""
        number = 0
        while data:
            part, data = data[:0xFFFFFF], data[0xFFFFFF:]
            small = len(part) < 50
            body = part if small else zlib.compress(part)
            out += (struct.pack("<I", len(body))[:3] + bytes([number])
                    + struct.pack("<I", 0 if small else len(part))[:3] + body)
            number += 1
        return out

    def read(self, size):
        while len(self.buffer) < size:
            if self.compressed:
                head = self.exactly(7)
                body = self.exactly(int.from_bytes(head[:3], "little"))
                self.buffer += zlib.decompress(body) if any(head[4:]) else body
            else:
                more = self.sock.recv(1 << 20)
                if not more:
                    raise EOFError
                self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def exactly(self, size):
        data = b""
        while len(data) < size:
            data += self.sock.recv(size - len(data))
        return data

    def packet(self):
        head = self.read(4)
        self.seq = head[3] + 1
        size = int.from_bytes(head[:3], "little")
        payload = self.read(size)
        return payload + self.packet() if size == 0xFFFFFF else payload

    # Responses.

    def eof(self):
        if not self.flags & DEPRECATE_EOF:
            return self.packet()
        return None

    def result(self, files=()):
        """Reads one result; returns its last packet and whether another follows."""
        first = self.packet()
        if first[0] == 0xFB:
            for part in files:
                self.send(part)
            self.send(b"")
            first = self.packet()
        if first[0] in (0x00, 0xFF):
            return first, self.status(first) & MORE_RESULTS
        for _ in range(lenenc(first, 0)[0]):
            self.packet()
        behind = self.eof()
        if behind is not None and self.status(behind) & CURSOR_EXISTS:
            return behind, 0
        return self.rows()

    def rows(self):
        while True:
            row = self.packet()
            if row[0] == 0xFF or row[0] == 0xFE and len(row) < 0xFFFFFF:
                return row, self.status(row) & MORE_RESULTS

    @staticmethod
    def status(packet):
        if packet[0] == 0xFF:
            return 0
        if packet[0] == 0xFE and len(packet) == 5:
            return struct.unpack_from("<H", packet, 3)[0]
        _, at = lenenc(packet, 1)
        _, at = lenenc(packet, at)
        return struct.unpack_from("<H", packet, at)[0]

    def results(self, files=()):
        """Reads all results of a command; returns the last packet of each."""
        packets = []
        more = True
        while more:
            last, more = self.result(files)
            packets.append(last)
        return packets

    # Commands.

    def ask(self, sql, *targets, files=(), **more):
        """A query; `targets` are its statements as a record shows them."""
        self.send(b"\x03" + (sql if isinstance(sql, bytes) else sql.encode()), fresh=True)
        packets = self.results(files)
        targets = targets or (sql,)
        for index, target in enumerate(targets):
            operation = target.split(maxsplit=1)[0].rstrip(";").upper()
            last = index == len(targets) - 1
            if index < len(packets):
                self.note(operation, target, packets[-1] if last else packets[index], **more)
            else:
                self.truth.note("mysql", operation, target, "", answered=False)

    def command(self, number, name, target="", body=b""):
        self.send(bytes([number]) + body, fresh=True)
        last = self.packet()
        self.note(name, target, last)
        return last

    def prepare(self, sql, target=None):
        self.send(b"\x16" + sql.encode(), fresh=True)
        first = self.packet()
        self.note("PREPARE", target or sql, first)
        if first[0] == 0xFF:
            return None
        number, columns, parameters = struct.unpack_from("<IHH", first, 1)
        for count in (parameters, columns):
            for _ in range(count):
                self.packet()
            if count:
                self.eof()
        return number

    def execute(self, number, target, *values, cursor=0):
        body = struct.pack("<BIBI", 0x17, number, cursor, 1)
        if values:
            body += bytes((len(values) + 7) // 8) + b"\1" + b"\xFD\0" * len(values)
            body += b"".join(bytes([len(v)]) + v for v in (str(v).encode() for v in values))
        self.send(body, fresh=True)
        packets = self.results()
        self.note(target.split(maxsplit=1)[0].upper() if target else "", target, packets[-1])

    def fetch(self, number, rows, target):
        self.send(struct.pack("<BII", 0x1C, number, rows), fresh=True)
        self.note("FETCH", target, self.rows()[0])

    def tell(self, payload):
        """A command that nobody answers."""
        self.send(payload, fresh=True)

    def close(self):
        self.tell(b"\x01")
        self.sock.close()
