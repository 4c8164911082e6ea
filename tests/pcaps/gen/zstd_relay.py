"""Lets a client of MySQL 8 speak Zstandard to a MariaDB, which has no such compression.

A relay for one connection: it offers CLIENT_ZSTD_COMPRESSION_ALGORITHM instead of zlib in the
server's greeting, withdraws it in the login that it passes on, and from the server's OK on takes
the client's frames apart and puts the server's packets into frames, as MySQL 8 does: 16 kB at
once, or a longer packet with what stands before it; below 50 bytes as they are.

Arguments: the port to listen on, the server's.
"""

import select
import socket
import struct
import sys

import zstandard

COMPRESS, ZSTD = 1 << 5, 1 << 26
NET_BUFFER, MIN_COMPRESS = 16 * 1024, 50


class Closed(Exception):
    """One end has gone."""


def exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(min(size - len(data), 1 << 20))
        if not more:
            raise Closed
        data += more
    return data


def packet(sock):
    head = exactly(sock, 4)
    return head + exactly(sock, int.from_bytes(head[:3], "little"))


def greeting(data):
    """The greeting with the other compression."""
    at = 4 + 1 + data[5:].index(0) + 1 + 4 + 8 + 1
    low, charset, status, high = struct.unpack_from("<HBHH", data, at)
    flags = ((low | high << 16) & ~COMPRESS) | ZSTD
    changed = struct.pack("<HBHH", flags & 0xFFFF, charset, status, flags >> 16)
    return data[:at] + changed + data[at + len(changed):]


def login(data):
    """The login without compression. The level, its last byte, goes too."""
    flags, = struct.unpack_from("<I", data, 4)
    assert flags & ZSTD and not flags & COMPRESS, "the client does not want Zstandard"
    assert 1 <= data[-1] <= 22, "the login does not end with a level"
    body = struct.pack("<I", flags & ~ZSTD) + data[8:-1]
    return struct.pack("<I", len(body))[:3] + data[3:4] + body


def frames(client, seq, data):
    while data:
        part, data = data[:0xFFFFFF], data[0xFFFFFF:]
        body = zstandard.ZstdCompressor(level=3).compress(part)
        plain = len(part) < MIN_COMPRESS or len(body) >= len(part)
        body, size = (part, 0) if plain else (body, len(part))
        client.sendall(struct.pack("<I", len(body))[:3] + bytes([seq & 0xFF])
                       + struct.pack("<I", size)[:3] + body)
        seq += 1
    return seq


def answer(client, server, seq):
    """Passes on what the server says until it falls silent; returns the next sequence id."""
    held = b""
    while select.select([server], [], [], 0.02)[0]:
        held += packet(server)
        if len(held) >= NET_BUFFER:
            seq, held = frames(client, seq, held), b""
    return frames(client, seq, held)


def ask(client, server):
    """Passes on one frame of the client's; returns the sequence id of what follows."""
    head = exactly(client, 7)
    body = exactly(client, int.from_bytes(head[:3], "little"))
    if any(head[4:]):
        body = zstandard.ZstdDecompressor().decompress(body)
        assert len(body) == int.from_bytes(head[4:], "little")
    server.sendall(body)
    return head[3] + 1


def serve(client, server):
    client.sendall(greeting(packet(server)))
    server.sendall(login(packet(client)))
    while True:
        reply = packet(server)
        client.sendall(reply)
        if reply[4] in (0x00, 0xFF):
            break
        server.sendall(packet(client))
    seq = 0
    while True:
        ready = select.select([client, server], [], [])[0]
        if client in ready:
            seq = ask(client, server)
        else:
            seq = answer(client, server, seq)


def main():
    port, server_port = map(int, sys.argv[1:])
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", server_port))
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client, server:
                try:
                    serve(client, server)
                except (Closed, ConnectionError):
                    pass


if __name__ == "__main__":
    main()
