"""A gRPC client on one connection. Prints its truth, a JSON object for each call when it ends.

Arguments: port, case, and a certificate where it is to talk TLS. Runs with grpcio, not by itself.
"""

import json
import sys
import threading
import time
from pathlib import Path

import grpc

SERVICE = "/shop.v1.Orders/"
TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
LOCK = threading.Lock()


class Client:
    def __init__(self, port, certificate=None, **options):
        place, options["options"] = f"127.0.0.1:{port}", [("grpc.enable_retries", 0)]
        if certificate:
            credentials = grpc.ssl_channel_credentials(Path(certificate).read_bytes())
            self.channel = grpc.secure_channel(place, credentials, **options)
        else:
            self.channel = grpc.insecure_channel(place, **options)

    def note(self, path, call, noted=None, traceparent=None, known=True):
        """`noted`: a status in place of the client's own, "" where the server did not give it or
        nobody but the two can know. `known`: whether the capture says which method it is."""
        status = str(call.code().value[0]) if noted is None else noted
        line = {"protocol": "grpc", "operation": path.removeprefix("/") if known else "",
                "target": "", "status": status}
        if traceparent:
            line["traceparent"] = traceparent
        with LOCK:
            print(json.dumps(line), flush=True)

    def unary(self, method, request=b"", path=None, timeout=10, metadata=None, compression=None,
              **noting):
        path = path or SERVICE + method
        try:
            _, call = self.channel.unary_unary(path).with_call(
                request, timeout=timeout, metadata=metadata, compression=compression)
        except grpc.RpcError as error:
            call = error
        self.note(path, call, **noting)

    def stream(self, kind, method, request, take=None, noted=None):
        """A call of `kind`; with `take`, it is cancelled behind so many responses."""
        path = SERVICE + method
        call = getattr(self.channel, kind)(path)(request, timeout=10)
        try:
            for number, _ in enumerate(call, 1):
                if number == take:
                    call.cancel()
        except grpc.RpcError:
            pass
        self.note(path, call, noted)

    def total(self, parts):
        _, call = self.channel.stream_unary(SERVICE + "Total").with_call(iter(parts), timeout=10)
        self.note(SERVICE + "Total", call)


def unary(client):
    for size in (0, 1, 100, 40_000):
        client.unary("Echo", b"CANARY"[:6] * (size // 6) + b"x" * (size % 6))
    client.unary("Echo", b"secret", metadata=[("authorization", "Bearer CANARY"), ("x-bin", b"CANARY")])
    together = [threading.Thread(target=client.unary, args=("Echo", b"%d" % n * 300)) for n in range(20)]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()


def errors(client):
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            client.unary("Fail", f"{code.name} it is {code.name.lower()}".encode())
    client.unary("Fail", "NOT_FOUND grüße: 100%".encode())
    client.unary("Crash")
    client.unary("HeadersFirst")
    client.unary("Echo")


def trailers_only(client):
    for path in (SERVICE + "Nothing", "/shop.v1.Nobody/Echo", "/shop.v1.Orders/", "/odd"):
        client.unary(None, path=path)
    client.unary("Echo")


def deadline(client):
    """The client gives up before the server answers: there is no answer."""
    client.unary("Slow", b"0.3", timeout=0.1, noted="")
    client.unary("Slow", b"0.05", timeout=5)
    client.unary("Fail", b"DEADLINE_EXCEEDED of the server's own")


def streaming(client):
    for n in (0, 1, 50):
        client.stream("unary_stream", "Count", b"%d" % n)
    client.stream("unary_stream", "CountAndFail", b"5")
    for parts in ([], [b""], [b"part"] * 50, [b"CANARY" * 3000] * 2):
        client.total(parts)
    client.stream("stream_stream", "Chat", iter([]))
    client.stream("stream_stream", "Chat", (b"%d" % n * n for n in range(40)))


def pauses(client):
    client.stream("unary_stream", "Pauses", b"3 1.1")
    client.unary("Echo", b"quick")


def cancelled(client):
    """The client takes back what it asked."""
    client.stream("unary_stream", "Endless", b"", take=3, noted="")
    client.stream("stream_stream", "Chat", endless(), take=3, noted="")
    call = client.channel.unary_unary(SERVICE + "Slow").future(b"0.3", timeout=10)
    time.sleep(0.1)
    call.cancel()
    client.note(SERVICE + "Slow", call, noted="")
    client.unary("Echo")


def endless():
    while True:
        yield b"more"
        time.sleep(0.02)


def compressed(client):
    for size in (0, 10, 20_000):
        client.unary("Echo", b"CANARY" * size, compression=grpc.Compression.Gzip)
    client.unary("Echo", b"plain" * 100, compression=grpc.Compression.NoCompression)
    client.unary("Echo", b"deflated" * 100, compression=grpc.Compression.Deflate)
    client.unary("Fail", b"INTERNAL compressed", compression=grpc.Compression.Gzip)


def traceparent(client):
    for n in range(1, 6):
        span = n.to_bytes(8, "big")
        parent = f"00-{TRACE.hex()}-{span.hex()}-01"
        binary = b"\0\0" + TRACE + b"\1" + span + b"\2\1"
        client.unary("Echo", b"text", metadata=[("traceparent", parent), ("tracestate", "a=1")],
                     traceparent=parent)
        client.unary("Fail", b"ABORTED binary", metadata=[("grpc-trace-bin", binary)],
                     traceparent=parent)
    client.unary("Echo", b"cut", metadata=[("grpc-trace-bin", binary[:20])])
    client.unary("Echo", b"other", metadata=[("grpc-trace-bin", b"\1" + binary[1:])])
    client.unary("Echo", b"none")


def behind_http(client):
    """No gRPC server answers: the client makes a status of the HTTP status."""
    for path in ("/shop.v1.Orders/Echo", "/busy", "/fail", "/empty", "/old", "/api/Echo"):
        client.unary(None, path=path)


def midstream(client):
    """What the tables held before the capture is not known in it: two methods, and `grpc-status: 0`."""
    for method, request in [("Echo", b"x"), ("Fail", b"UNAVAILABLE x")]:
        client.unary(method, request)
    print(flush=True)
    sys.stdin.readline()
    for _ in range(5):
        client.unary("Echo", b"before", noted="", known=False)
        client.unary("Slow", b"0.01", noted="")
        client.unary("Fail", b"ABORTED since", known=False)
        client.unary("HeadersFirst")
        client.stream("unary_stream", "Count", b"3", noted="")


CASES = {"unary": unary, "errors": errors, "trailers-only": trailers_only, "deadline": deadline,
         "streaming": streaming, "pauses": pauses, "cancelled": cancelled, "traceparent": traceparent,
         "compressed": compressed, "behind-http": behind_http, "midstream": midstream}

port, name, *certificate = sys.argv[1:]
options = {"compression": grpc.Compression.Gzip} if name == "compressed" else {}
CASES[name](Client(port, *certificate, **options))
