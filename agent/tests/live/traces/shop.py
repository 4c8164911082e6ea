"""Two services that a request goes through, each of which handles it in the thread that reads it and
hands no trace context on: `gateway PORT ORDERS` speaks HTTP and calls `orders PORT POSTGRES REDIS`,
which speaks gRPC, asks PostgreSQL and then Redis."""

import socket
import socketserver
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[4] / "tests" / "pcaps" / "gen"))

from frames import (  # noqa: E402
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, SETTINGS, frame, text)

LOCAL = "127.0.0.1"


def gateway(port, orders):
    import grpc

    channel = grpc.insecure_channel(f"{LOCAL}:{orders}")
    place = channel.unary_unary("/shop.v1.Orders/Place")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            answer = place(self.path.encode())
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    ThreadingHTTPServer((LOCAL, int(port)), Handler).serve_forever()


def orders(port, postgres, redis):
    import psycopg2

    class Handler(socketserver.BaseRequestHandler):
        """A connection: HTTP/2 frames (RFC 9113), calls one after the other."""

        def setup(self):
            place = f"host={LOCAL} port={postgres} user=admin dbname=shop sslmode=disable"
            self.database = psycopg2.connect(place)
            self.database.autocommit = True
            self.cache = socket.create_connection((LOCAL, redis))

        def handle(self):
            self.stream = self.request.makefile("rb")
            assert self.stream.read(len(PREFACE)) == PREFACE
            self.request.sendall(frame(SETTINGS, 0, 0))
            while len(head := self.stream.read(9)) == 9:
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                payload = self.stream.read(int.from_bytes(head[:3], "big"))
                if kind in (SETTINGS, PING) and not flags & ACK:
                    self.request.sendall(frame(kind, ACK, 0, b"" if kind == SETTINGS else payload))
                elif kind == DATA and flags & END_STREAM:
                    self.place(stream)

        def place(self, stream):
            with self.database.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (%s)", (stream,))
            self.cache.sendall(b"INCR orders\r\n")
            count = self.cache.recv(100).strip(b":\r\n")
            answer = b"\x00" + struct.pack(">I", len(count)) + count
            fields = b"\x00" + text("content-type") + text("application/grpc")
            trailers = b"\x00" + text("grpc-status") + text("0")
            self.request.sendall(
                frame(HEADERS, END_HEADERS, stream, b"\x88" + fields) + frame(DATA, 0, stream, answer)
                + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers))

        def finish(self):
            self.database.close()
            self.cache.close()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    place = f"host={LOCAL} port={postgres} user=admin dbname=shop sslmode=disable"
    database = psycopg2.connect(place)
    database.autocommit = True
    database.cursor().execute("CREATE TABLE orders (number bigint)")
    database.close()
    Server((LOCAL, int(port)), Handler).serve_forever()


{"gateway": gateway, "orders": orders}[sys.argv[1]](*sys.argv[2:])
