"""What OpenSSL's own functions can do to an HTTP client, through ctypes, and a server that reads slowly.

serve PORT CERT KEY: reads any request, answers with `echo` and its size.
play PORT: plays all scenarios, each on a connection of its own, and prints for each exchange, as a
JSON object, its target and how many bytes of cleartext went there and came back.
"""

import ctypes
import json
import select
import socket
import ssl
import sys
import threading
import time

BODY = 3_000_000
WANT_READ, WANT_WRITE = 2, 3
PARTIAL_WRITE, MOVING_BUFFER = 1, 2
CTRL_MODE, CTRL_MIN_PROTO, CTRL_MAX_PROTO = 33, 123, 124
TLS_1_2, TLS_1_3 = 0x303, 0x304
# SSL_OP_ALLOW_CLIENT_RENEGOTIATION, which Python has no name for.
ALLOW_RENEGOTIATION = 1 << 8


def answer(connection):
    """Requests of one connection; bodies are read late, so that the client has to wait."""
    stream = connection.makefile("rb", buffering=0)
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = stream.read(1)
            if not byte:
                return
            head += byte
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if length:
            time.sleep(0.2)
        while length:
            length -= len(stream.read(min(length, 16384)))
        body = b"echo" * 10
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def serve_one(context, accepted):
    try:
        with context.wrap_socket(accepted, server_side=True) as connection:
            answer(connection)
    except OSError:
        pass  # A client that ended without saying so.


def serve(port, cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.options |= ALLOW_RENEGOTIATION
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        accepted, _ = listener.accept()
        threading.Thread(target=serve_one, args=(context, accepted), daemon=True).start()


def library():
    for name in ("libssl.so.3", "libssl.so.1.1"):
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            continue
        for function in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(lib, function).restype = ctypes.c_void_p
        return lib
    raise SystemExit("no libssl")


LIB = library()


class Client:
    """One connection. Every call that cannot go on is made again, as OpenSSL wants it."""

    def __init__(self, port, version=TLS_1_3, mode=0, extended=False):
        context = ctypes.c_void_p(LIB.SSL_CTX_new(ctypes.c_void_p(LIB.TLS_client_method())))
        for control in (CTRL_MIN_PROTO, CTRL_MAX_PROTO):
            LIB.SSL_CTX_ctrl(context, control, ctypes.c_long(version), None)
        self.ssl = ctypes.c_void_p(LIB.SSL_new(context))
        LIB.SSL_ctrl(self.ssl, CTRL_MODE, ctypes.c_long(mode), None)
        self.socket = socket.create_connection(("127.0.0.1", int(port)))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        self.socket.setblocking(False)
        LIB.SSL_set_fd(self.ssl, self.socket.fileno())
        self.extended = extended
        self.again = 0
        self.until_done(lambda: LIB.SSL_connect(self.ssl))

    def until_done(self, call):
        while True:
            result = call()
            if result > 0:
                return result
            error = LIB.SSL_get_error(self.ssl, result)
            if error not in (WANT_READ, WANT_WRITE):
                raise SystemExit(f"OpenSSL: error {error}")
            self.again += 1
            if error == WANT_READ:
                select.select([self.socket], [], [])
            else:
                select.select([], [self.socket], [])

    def write(self, data):
        at = 0
        done = ctypes.c_size_t()
        while at < len(data):
            rest = data[at:]
            if self.extended:
                self.until_done(lambda: LIB.SSL_write_ex(
                    self.ssl, rest, ctypes.c_size_t(len(rest)), ctypes.byref(done)))
                at += done.value
            else:
                at += self.until_done(lambda: LIB.SSL_write(self.ssl, rest, len(rest)))

    def read(self, peek=False):
        buffer = ctypes.create_string_buffer(65536)
        done = ctypes.c_size_t()
        if peek:
            self.until_done(lambda: LIB.SSL_peek(self.ssl, buffer, 10))
        if not self.extended:
            size = self.until_done(lambda: LIB.SSL_read(self.ssl, buffer, 65536))
            return buffer.raw[:size]
        self.until_done(lambda: LIB.SSL_read_ex(
            self.ssl, buffer, ctypes.c_size_t(65536), ctypes.byref(done)))
        return buffer.raw[:done.value]

    def ask(self, target, size=0, peek=False):
        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
        request = head + b"x" * size
        self.write(request)
        response = b""
        while b"\r\n\r\n" not in response or not response.endswith(b"echo" * 10):
            response += self.read(peek)
        print(json.dumps({"target": target, "request_bytes": len(request),
                          "response_bytes": len(response)}), flush=True)

    def close(self):
        LIB.SSL_shutdown(self.ssl)
        LIB.SSL_free(self.ssl)
        self.socket.close()


def writes(port):
    for name, options in {
        "retried": {}, "retried-ex": {"extended": True},
        "partial": {"mode": PARTIAL_WRITE | MOVING_BUFFER},
        "partial-ex": {"mode": PARTIAL_WRITE | MOVING_BUFFER, "extended": True},
        "retried-1.2": {"version": TLS_1_2},
    }.items():
        client = Client(port, **options)
        client.again = 0
        client.ask(f"/{name}/large", BODY)
        if client.again < 2:
            raise SystemExit(f"{name}: no write had to be made again")
        client.ask(f"/{name}/small")
        client.close()


def keys(port):
    client = Client(port)
    for number in range(6):
        client.ask(f"/key-update/{number}", peek=number % 2 == 0)
        if LIB.SSL_key_update(client.ssl, number % 2) != 1:
            raise SystemExit("no key update")
    client.close()
    client = Client(port, version=TLS_1_2)
    for number in range(4):
        client.ask(f"/renegotiated/{number}", 1000)
        if LIB.SSL_renegotiate(client.ssl) != 1:
            raise SystemExit("no renegotiation")
        client.until_done(lambda: LIB.SSL_do_handshake(client.ssl))
    client.close()


def play(port):
    writes(port)
    keys(port)


{"serve": serve, "play": play}[sys.argv[1]](*sys.argv[2:])
