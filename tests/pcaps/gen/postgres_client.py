"""A raw client of PostgreSQL that writes down what it sees."""

import hashlib
import hmac
import base64
import os
import socket
import struct
import subprocess

from lab import POSTGRES_PORT


def message(kind, body=b""):
    return kind + struct.pack(">I", len(body) + 4) + body


def text(*words):
    return b"".join(word.encode() + b"\0" for word in words)


def query(sql):
    return message(b"Q", text(sql))


def parse(name, sql):
    return message(b"P", text(name, sql) + b"\0\0")


def bind(portal, name, *values):
    values = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    parameters = b"".join(struct.pack(">I", len(value)) + value for value in values)
    return message(b"B", text(portal, name) + b"\0\0" + struct.pack(">H", len(values)) + parameters
                   + b"\0\0")


def describe(kind, name):
    return message(b"D", kind.encode() + text(name))


def execute(portal="", rows=0):
    return message(b"E", text(portal) + struct.pack(">I", rows))


def close(kind, name):
    return message(b"C", kind.encode() + text(name))


def extended(sql, *values):
    """An extended query of the statement without a name, without Sync."""
    return parse("", sql) + bind("", "", *values) + describe("P", "") + execute()


SYNC, FLUSH = message(b"S"), message(b"H")
SSL_REQUEST = struct.pack(">II", 8, 80877103)


class Postgres:
    """One connection: what is sent is under the control of the case."""

    def __init__(self, truth, user="joe", database="shop", password="CANARY-joe", asks=(),
                 noted=True, **parameters):
        self.truth = truth if noted else None
        self.socket = socket.create_connection(("127.0.0.1", POSTGRES_PORT), timeout=20)
        self.reader = self.socket.makefile("rb")
        for ask in asks:
            self.send(ask)
            assert self.reader.read(1) == b"N", "encryption was refused"
        parameters = {"user": user, "database": database, **parameters}
        words = [word for pair in parameters.items() for word in pair]
        body = struct.pack(">I", 0x30000) + text(*words) + b"\0"
        self.send(struct.pack(">I", len(body) + 4) + body)
        status = self.authenticate(user, password)
        self.note("HANDSHAKE", None, status)

    def authenticate(self, user, password):
        while True:
            kind, body = self.receive()
            if kind == b"E":
                return sqlstate(body)
            if kind == b"K":
                self.key = body
            if kind == b"Z":
                return "OK"
            if kind == b"R":
                (code,) = struct.unpack(">I", body[:4])
                if code == 10:
                    self.scram = Scram(password)
                    first = self.scram.first()
                    self.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first))
                elif code == 11:
                    self.send(message(b"p", self.scram.final(body[4:])))

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        head = self.reader.read(5)
        assert len(head) == 5, "the server closed the connection"
        (length,) = struct.unpack(">I", head[1:])
        return head[:1], self.reader.read(length - 4)

    def note(self, operation, target, status, **more):
        if self.truth is not None:
            self.truth.note("postgresql", operation, target, status, **more)

    def until(self, kinds):
        """Reads up to a message of one of these kinds, and returns it."""
        while True:
            kind, body = self.receive()
            if kind in kinds:
                return kind, body

    def outcome(self, ends=(b"C", b"I", b"s", b"E")):
        """The status of the next statement."""
        kind, body = self.until(ends)
        return sqlstate(body) if kind == b"E" else "OK"

    def ready(self):
        self.until((b"Z",))

    def ask(self, sql, target=None, **more):
        """A simple query of one statement."""
        self.send(query(sql))
        self.note(operation(sql), target if target is not None else sql, self.outcome(), **more)
        self.ready()

    def run(self, sql, *values, target=None, **more):
        """An extended query."""
        self.send(extended(sql, *values) + SYNC)
        self.note(operation(sql), target or sql, self.outcome(), **more)
        self.ready()

    def close(self):
        self.send(message(b"X"))
        self.socket.close()

    def cancel(self):
        """Asks the server, on another connection, to cancel what this one waits for."""
        with socket.create_connection(("127.0.0.1", POSTGRES_PORT), timeout=20) as other:
            other.sendall(struct.pack(">II", 16, 80877102) + self.key)
            other.recv(1)


def operation(sql):
    """The first word behind any comment."""
    sql = sql.split("*/")[-1] if sql.startswith("/*") else sql
    return sql.replace("(", " ").split()[0].upper()


def sqlstate(body):
    fields = {field[:1]: field[1:] for field in body.split(b"\0")}
    return fields[b"C"].decode()


class Scram:
    """SCRAM-SHA-256, the client's side (RFC 7677)."""

    def __init__(self, password):
        self.password = password.encode()
        self.nonce = base64.b64encode(os.urandom(18)).decode()

    def first(self):
        return f"n,,n=,r={self.nonce}".encode()

    def final(self, challenge):
        fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]),
                                     int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        bare = f"c=biws,r={fields['r']}"
        signed = ",".join([self.first()[3:].decode(), challenge.decode(), bare]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()


def psql(truth, *statements, user="joe", database="shop", password="CANARY-joe"):
    """psql over one connection, a query for each statement; each is SQL, target and status."""
    command = ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(POSTGRES_PORT), "-U", user, "-d", database]
    for sql, _, _ in statements:
        command += ["-c", sql]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, "PGPASSWORD": password})
    truth.note("postgresql", "HANDSHAKE", None, "OK")
    for sql, target, status in statements:
        truth.note("postgresql", operation(sql), target, status)
