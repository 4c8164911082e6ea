"""TLS 1.3 early data, by OpenSSL's own functions through ctypes at both ends.

serve PORT CERT KEY: answers each GET with `early` or `late`, as it came.
get PORT COUNT: a session to resume from, then COUNT connections of which the first request is early
data and the second is not; prints what was answered, a line for each.
"""

import ctypes
import socket
import sys

LIB = ctypes.CDLL("libssl.so.3")
for name in ("TLS_client_method", "TLS_server_method", "SSL_CTX_new", "SSL_new",
             "SSL_get1_session"):
    getattr(LIB, name).restype = ctypes.c_void_p
READ_EARLY_SUCCESS, READ_EARLY_FINISH = 1, 2
PEM = 1


def context(method):
    return ctypes.c_void_p(LIB.SSL_CTX_new(ctypes.c_void_p(getattr(LIB, method)())))


def session(of, connection):
    ssl = ctypes.c_void_p(LIB.SSL_new(of))
    LIB.SSL_set_fd(ssl, connection.fileno())
    return ssl


def write(ssl, data):
    if LIB.SSL_write(ssl, data, len(data)) != len(data):
        raise SystemExit("nothing written")


def read(ssl):
    buffer = ctypes.create_string_buffer(4096)
    size = LIB.SSL_read(ssl, buffer, 4096)
    return buffer.raw[:max(size, 0)]


def answer(ssl, word):
    write(ssl, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(word), word))


def serve_one(of, connection):
    ssl = session(of, connection)
    buffer, size = ctypes.create_string_buffer(4096), ctypes.c_size_t()
    while True:
        result = LIB.SSL_read_early_data(ssl, buffer, ctypes.c_size_t(4096), ctypes.byref(size))
        if result == READ_EARLY_SUCCESS:
            early = LIB.SSL_write_early_data
            word = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly"
            early(ssl, word, ctypes.c_size_t(len(word)), ctypes.byref(size))
        elif result == READ_EARLY_FINISH:
            break
        else:
            return
    if LIB.SSL_accept(ssl) == 1:
        while read(ssl):
            answer(ssl, b"late")
    LIB.SSL_shutdown(ssl)
    LIB.SSL_free(ssl)


def serve(port, cert, key):
    of = context("TLS_server_method")
    LIB.SSL_CTX_use_certificate_chain_file(of, cert.encode())
    LIB.SSL_CTX_use_PrivateKey_file(of, key.encode(), PEM)
    LIB.SSL_CTX_set_max_early_data(of, 16384)
    LIB.SSL_CTX_set_recv_max_early_data(of, 16384)
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        connection, _ = listener.accept()
        with connection:
            serve_one(of, connection)


def request(target):
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def get(port, count):
    of = context("TLS_client_method")
    resumed = None
    for number in range(int(count) + 1):
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            ssl = session(of, connection)
            if resumed:
                LIB.SSL_set_session(ssl, resumed)
                data, size = request(f"/early?{number}"), ctypes.c_size_t()
                written = LIB.SSL_write_early_data(
                    ssl, data, ctypes.c_size_t(len(data)), ctypes.byref(size))
                if written != 1 or size.value != len(data):
                    raise SystemExit("no early data")
            if LIB.SSL_connect(ssl) != 1:
                raise SystemExit("no handshake")
            if resumed:
                print(read(ssl).decode().split("\r\n\r\n")[1])
            write(ssl, request(f"/late?{number}"))
            print(read(ssl).decode().split("\r\n\r\n")[1])
            resumed = ctypes.c_void_p(LIB.SSL_get1_session(ssl))
            LIB.SSL_shutdown(ssl)
            LIB.SSL_free(ssl)


{"serve": serve, "get": get}[sys.argv[1]](*sys.argv[2:])
