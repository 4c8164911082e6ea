"""The gRPC cases: grpcio as server and client, without generated code."""

import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path

from lab import HERE, NGINX_H2_PORT

PORT = 15051
GRPCIO = "grpcio==1.85.1"
FOLDER = Path(tempfile.gettempdir()) / f"wirespan-lab-{GRPCIO}"
PYTHON = FOLDER / "bin" / "python"


def prepare():
    """Installs grpcio in a folder of its own, before the network is gone. Whether it is there."""
    if "WIRESPAN_LAB" not in os.environ and not (FOLDER / "done").exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        done = subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", GRPCIO])
        if done.returncode == 0:
            (FOLDER / "done").touch()
    return (FOLDER / "done").exists()


def client(name, port):
    return [PYTHON, HERE / "grpc_client.py", str(port), name]


def take(truth, printed):
    truth.lines += [json.loads(line) for line in printed.splitlines()]


def server(lab):
    lab.start([PYTHON, HERE / "grpc_server.py", str(PORT)], PORT, stderr=subprocess.DEVNULL)


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
