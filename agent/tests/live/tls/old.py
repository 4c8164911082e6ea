"""HTTPS by OpenSSL libraries of old, at both ends, each request and each answer in one call.

serve PORT LIBRARY CERT KEY: answers each GET with `old`.
get PORT LIBRARY TARGET COUNT: asks COUNT times on one connection, and prints how many answers came.

LIBRARY is the folder of a wheel's shared libraries, or `pyopenssl` for what is inside of cryptography.
"""

import ctypes
import socket
import sys
from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold"
CTRL_SET_ECDH_AUTO = 94
PEM = 1


class Shared:
    """A shared library: from 1.0.2 on, with functions that all versions have."""

    def __init__(self, folder):
        # A library needs the others of its wheel, by names that nobody else has.
        waiting = sorted(Path(folder).glob("*.so*"))
        while waiting:
            left = [path for path in waiting if not self.load(path)]
            if len(left) == len(waiting):
                raise SystemExit(f"cannot be loaded: {left}")
            waiting = left
        is_newer = hasattr(self.lib, "TLS_method")
        method = self.lib.TLS_method if is_newer else self.lib.SSLv23_method
        for function in (method, self.lib.SSL_CTX_new, self.lib.SSL_new):
            function.restype = ctypes.c_void_p
        if not is_newer:
            self.lib.SSL_library_init()
        method = ctypes.c_void_p(method())
        self.context = ctypes.c_void_p(self.lib.SSL_CTX_new(method))
        self.lib.SSL_CTX_ctrl(self.context, CTRL_SET_ECDH_AUTO, ctypes.c_long(1), None)

    def load(self, path):
        try:
            lib = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
        except OSError:
            return False
        if path.name.startswith("libssl"):
            self.lib = lib
        return True

    def identity(self, cert, key):
        self.lib.SSL_CTX_use_certificate_chain_file(self.context, cert.encode())
        self.lib.SSL_CTX_use_PrivateKey_file(self.context, key.encode(), PEM)

    def session(self, connection, is_server):
        ssl = ctypes.c_void_p(self.lib.SSL_new(self.context))
        self.lib.SSL_set_fd(ssl, connection.fileno())
        shake = self.lib.SSL_accept if is_server else self.lib.SSL_connect
        return ssl if shake(ssl) == 1 else None

    def write(self, ssl, data):
        return self.lib.SSL_write(ssl, data, len(data))

    def read(self, ssl):
        buffer = ctypes.create_string_buffer(4096)
        size = self.lib.SSL_read(ssl, buffer, 4096)
        return buffer.raw[:max(size, 0)]

    def close(self, ssl):
        self.lib.SSL_shutdown(ssl)
        self.lib.SSL_free(ssl)


class PyOpenSSL:
    """What cryptography has inside, by pyOpenSSL."""

    def __init__(self):
        from OpenSSL import SSL
        self.module = SSL
        self.context = SSL.Context(SSL.SSLv23_METHOD)

    def identity(self, cert, key):
        self.context.use_certificate_chain_file(cert)
        self.context.use_privatekey_file(key)

    def session(self, connection, is_server):
        ssl = self.module.Connection(self.context, connection)
        ssl.set_accept_state() if is_server else ssl.set_connect_state()
        ssl.do_handshake()
        return ssl

    def write(self, ssl, data):
        return ssl.send(data)

    def read(self, ssl):
        try:
            return ssl.recv(4096)
        except self.module.Error:
            return b""

    def close(self, ssl):
        ssl.shutdown()


def library(name):
    return PyOpenSSL() if name == "pyopenssl" else Shared(name)


def serve(port, name, cert, key):
    lib = library(name)
    lib.identity(cert, key)
    listener = socket.create_server(("127.0.0.1", int(port)))
    while True:
        connection, _ = listener.accept()
        with connection:
            try:
                ssl = lib.session(connection, True)
            except Exception:  # Whoever looks whether the port is open says nothing.
                continue
            if ssl is None:
                continue
            while lib.read(ssl):
                lib.write(ssl, ANSWER)
            lib.close(ssl)


def get(port, name, target, count):
    lib = library(name)
    with socket.create_connection(("127.0.0.1", int(port))) as connection:
        ssl = lib.session(connection, False)
        answers = 0
        for number in range(int(count)):
            lib.write(ssl, f"GET {target}?{number} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            answers += lib.read(ssl) == ANSWER
        lib.close(ssl)
    print(answers)


{"serve": serve, "get": get}[sys.argv[1]](*sys.argv[2:])
