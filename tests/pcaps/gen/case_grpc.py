"""The gRPC cases: grpcio as server and client, without generated code."""

import json
import subprocess

from lab import HERE, NGINX_H2_PORT, Environment

PORT = 15051
GRPCIO = Environment("grpcio==1.85.1")


def client(name, port):
    return [GRPCIO.python, HERE / "grpc_client.py", str(port), name]


def take(truth, printed):
    truth.lines += [json.loads(line) for line in printed.splitlines()]


def server(lab):
    lab.start([GRPCIO.python, HERE / "grpc_server.py", str(PORT)], PORT, stderr=subprocess.DEVNULL)


def case(name):
    """The case that the client knows by this name."""
    def run(lab, pcap):
        server(lab)
        with lab.capture(pcap):
            done = subprocess.run(client(name, PORT), check=True, stdout=subprocess.PIPE, text=True)
        take(lab.truth, done.stdout)
    return run


def behind_http(lab, pcap):
    lab.nginx()
    with lab.capture(pcap):
        done = subprocess.run(client("behind-http", NGINX_H2_PORT), check=True,
                              stdout=subprocess.PIPE, text=True)
    take(lab.truth, done.stdout)


def midstream(lab, pcap):
    server(lab)
    process = subprocess.Popen(client("midstream", PORT), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    while process.stdout.readline() != "\n":
        pass
    with lab.capture(pcap):
        take(lab.truth, process.communicate("begin\n")[0])


CASES = {
    "grpc/behind-http": behind_http,
    "grpc/midstream": midstream,
    **{f"grpc/{name}": case(name) for name in [
        "unary", "errors", "trailers-only", "deadline", "streaming", "pauses", "cancelled",
        "traceparent", "compressed"]},
}
