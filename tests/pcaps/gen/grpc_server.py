"""A gRPC server whose messages are raw bytes. Argument: port. Runs with grpcio, not by itself."""

import sys
import time
from concurrent import futures
from pathlib import Path

import grpc


def echo(request, context):
    return request


def fail(request, context):
    """The name of a status and, behind a space, its message."""
    name, _, message = request.decode().partition(" ")
    context.abort(grpc.StatusCode[name], message)


def crash(request, context):
    raise RuntimeError("on purpose")


def slow(request, context):
    time.sleep(float(request))
    return request


def count(request, context):
    for number in range(int(request)):
        yield b"%d " % number * 20


def count_and_fail(request, context):
    yield from count(request, context)
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "grüße: no more")


def endless(request, context):
    while context.is_active():
        yield b"tick"
        time.sleep(0.02)


def pauses(request, context):
    """As many messages as the first number says, and before each a pause as long as the second."""
    messages, seconds = request.split()
    for number in range(int(messages)):
        time.sleep(float(seconds))
        yield b"%d " % number * 20


def total(requests, context):
    return b"%d" % sum(map(len, requests))


def chat(requests, context):
    yield from requests


def headers_first(request, context):
    context.send_initial_metadata([("x-early", "yes")])
    context.abort(grpc.StatusCode.NOT_FOUND, "behind its headers")


METHODS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Crash": grpc.unary_unary_rpc_method_handler(crash),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "HeadersFirst": grpc.unary_unary_rpc_method_handler(headers_first),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "CountAndFail": grpc.unary_stream_rpc_method_handler(count_and_fail),
    "Pauses": grpc.unary_stream_rpc_method_handler(pauses),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Total": grpc.stream_unary_rpc_method_handler(total),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=24))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Orders", METHODS),))
port, *certificate = sys.argv[1:]
if certificate:
    cert, key = (Path(path).read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, cert)])
    server.add_secure_port(f"127.0.0.1:{port}", credentials)
else:
    server.add_insecure_port(f"127.0.0.1:{port}")
server.start()
server.wait_for_termination()
