"""Clients that write down what they see."""

import http.client
import json
import socket
import subprocess

from lab import NGINX_PORT, REDIS_PORT, HERE


class Http:
    """One connection, by Python's own client."""

    def __init__(self, truth, port=NGINX_PORT, host="127.0.0.1"):
        self.truth = truth
        self.connection = http.client.HTTPConnection(host, port, timeout=20)

    def ask(self, method, target, body=None, headers=None, **options):
        headers = headers or {}
        self.connection.request(method, target, body=body, headers=headers, **options)
        response = self.connection.getresponse()
        response.read()
        sent = {name.lower(): value for name, value in headers.items()}
        self.truth.http(method, target, response.status,
                        traceparent=sent.get("traceparent"), b3=sent.get("b3"),
                        b3_trace_id=sent.get("x-b3-traceid"))
        return response

    def close(self):
        self.connection.close()


def curl(truth, *arguments, urls, port=NGINX_PORT, host="127.0.0.1"):
    """curl over one connection; its own report of each transfer is the truth."""
    command = ["curl", "-sS"]
    for index, url in enumerate(urls):
        if index:
            command.append("--next")
        target, *more = [url] if isinstance(url, str) else url
        command += [*arguments, *more, "-o", "/dev/null", "--path-as-is",
                    "-w", "%{method} %{http_code} %{url_effective}\n",
                    f"http://{host}:{port}{target}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        method, status, url = line.split(" ", 2)
        truth.http(method, "/" + url.split("/", 3)[3], status)


class Redis:
    """One connection, raw: what is sent is under the control of the case."""

    def __init__(self, truth, port=REDIS_PORT):
        self.truth = truth
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.reader = self.socket.makefile("rb")

    @staticmethod
    def encode(*words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def send(self, data):
        self.socket.sendall(data)

    def reply(self):
        """One reply of RESP2 or RESP3; an error comes back as an Exception."""
        line = self.reader.readline()
        assert line.endswith(b"\r\n"), "the server closed the connection"
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and rest != b"-1":
            data = self.reader.read(int(rest) + 2)[:-2]
            return Exception(data.decode()) if kind == b"!" else data
        if kind in b"*~>%|" and rest != b"-1":
            count = int(rest) * (2 if kind in b"%|" else 1)
            items = [self.reply() for _ in range(count)]
            if kind == b"|":
                return self.reply()  # Attributes come before the reply that they describe.
            return ("push", items) if kind == b">" else items
        if kind == b"-":
            return Exception(rest.decode())
        return rest

    def answer(self):
        """The next reply that is not a push."""
        while True:
            reply = self.reply()
            if not (isinstance(reply, tuple) and reply[0] == "push"):
                return reply

    def note(self, words, reply, secret=False):
        status = str(reply).split(" ", 1)[0] if isinstance(reply, Exception) else "OK"
        target = None if secret else as_text(words[1]) if len(words) > 1 else ""
        self.truth.redis(str(words[0]).upper(), target, status)

    def ask(self, *words, secret=False):
        self.send(self.encode(*words))
        reply = self.answer()
        self.note(words, reply, secret)
        return reply

    def close(self):
        self.socket.close()


def as_text(word):
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)


def redis_cli(truth, *words, options=()):
    """redis-cli for one command."""
    done = subprocess.run(["redis-cli", "-e", "-p", str(REDIS_PORT), *options, *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    status = "OK" if done.returncode == 0 else done.stdout.split(" ", 1)[0].strip()
    truth.redis(words[0].upper(), words[1] if len(words) > 1 else "", status)


def node(truth, script, *arguments):
    """A client in Node.js; it prints its truth, a JSON object on each line."""
    done = subprocess.run(["node", str(HERE / script), *arguments], check=True,
                          stdout=subprocess.PIPE, text=True)
    truth.lines += [json.loads(line) for line in done.stdout.splitlines()]
