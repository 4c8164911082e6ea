#!/usr/bin/env python3
"""Load of grpc.pcap: a server, and a client with four channels, in one process. Needs grpcio.

Usage: grpc_load.py PORT CALLS REPORT. When the last call has ended, REPORT says what the client saw and
what the server counted: lines of key and value.
"""

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc

CHANNELS = 4
IN_FLIGHT = 8  # calls of a channel
SERVICE = "shop.v1.Orders"


class Handler(grpc.GenericRpcHandler):
    """Answers `Get`; every call whose message begins with `!` is UNAVAILABLE."""

    def __init__(self):
        self.lock = threading.Lock()
        self.served = 0

    def service(self, details):
        if details.method == f"/{SERVICE}/Get":
            return grpc.unary_unary_rpc_method_handler(self.get)
        return None

    def get(self, message, context):
        with self.lock:
            self.served += 1
        if message.startswith(b"!"):
            context.abort(grpc.StatusCode.UNAVAILABLE, "try later")
        return message * 2


def load(port, calls, seed):
    """Makes so many calls on a channel of its own; returns how many failed as they should."""
    draw = random.Random(seed)  # a fixed seed: two captures carry the same calls
    channel = grpc.insecure_channel(
        f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])
    get = channel.unary_unary(f"/{SERVICE}/Get")
    grpc.channel_ready_future(channel).result(timeout=10)
    room = threading.Semaphore(IN_FLIGHT)
    under_way, failed = [], 0
    for _ in range(calls):
        refused = draw.random() < 0.03
        message = (b"!" if refused else b"x") * draw.randint(10, 60)
        trace = f"00-{draw.getrandbits(128) | 1:032x}-{draw.getrandbits(64) | 1:016x}-01"
        room.acquire()
        call = get.future(message, timeout=60, metadata=[("traceparent", trace)])
        call.add_done_callback(lambda _: room.release())
        under_way.append((call, refused))
    for call, refused in under_way:
        expected = grpc.StatusCode.UNAVAILABLE if refused else grpc.StatusCode.OK
        if call.code() is not expected:
            raise SystemExit(f"a call ended with {call.code()} in place of {expected}")
        failed += refused
    channel.close()
    return failed


def main():
    port, calls, report = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    handler = Handler()
    server = grpc.server(ThreadPoolExecutor(CHANNELS), handlers=[handler])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    with ThreadPoolExecutor(CHANNELS) as threads:
        shares = threads.map(lambda seed: load(port, calls // CHANNELS, seed), range(CHANNELS))
        failed = sum(shares)
    server.stop(grace=5).wait()
    with open(report, "w", encoding="ascii") as file:
        file.write(f"requests {handler.served}\nerrors {failed}\n")


main()
