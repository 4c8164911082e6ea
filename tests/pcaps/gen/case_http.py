"""The HTTP/1 cases: nginx, Node and Python as servers; curl, Python and raw sockets as clients."""

import base64
import json
import random
import select
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from clients import Http, curl
from lab import NGINX_PORT, wait_for_port

OTHER_PORT = 18081
RAW_PORT = 18082
PROXY_PORT = 13128

# Cases recorded with the loopback's large frames, as a host's own capture of its traffic has them.
WITH_OFFLOADS = {"http/large-body"}


def raw_status(reader):
    """Reads one response by hand: its status; the body by Content-Length only."""
    status = reader.readline().split(b" ")[1].decode()
    length = 0
    while (line := reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    reader.read(length)
    return status


def keepalive(lab, pcap):
    lab.nginx()
    with lab.capture(pcap):
        web = Http(lab.truth)
        etag = web.ask("GET", "/page.html").headers["ETag"]
        web.ask("GET", "/page.html", headers={"If-None-Match": etag})
        web.ask("HEAD", "/page.html")
        web.ask("GET", "/missing?what=this")
        web.ask("POST", "/api/users", body=b'{"name":"x"}' * 100)
        web.ask("PUT", "/api/users/1", body=b"{}")
        web.ask("PATCH", "/api/users/1", body=b"{}")
        web.ask("DELETE", "/empty")
        web.ask("OPTIONS", "/api/")
        web.ask("GET", "/old")
        web.ask("HEAD", "/old")
        web.ask("GET", "/fail")
        web.ask("POST", "/orders/", body=b"item=1")
        web.ask("PROPFIND", "/api/dav")
        web.ask("GET", "/")
        web.close()
        urls = ["/items.json", "/api/one?x=1", ("/missing", "-X", "DELETE"), ("/page.html", "-I"),
                ("/api/form", "-d", "a=1&b=2"), "/fail", "/empty", "/old", "/index.html"]
        curl(lab.truth, urls=urls)
        curl(lab.truth, "--http1.0", urls=["/page.html"])


def chunked(lab, pcap):
    lab.node("odd_server.js", OTHER_PORT, str(RAW_PORT))
    wait_for_port(RAW_PORT)
    with lab.capture(pcap):
        web = Http(lab.truth, OTHER_PORT)
        web.ask("GET", "/parts")
        web.ask("GET", "/trailers", headers={"TE": "trailers"})
        web.ask("POST", "/upload", body=iter([b"one", b"two" * 1000, b"three"]),
                encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        web.ask("HEAD", "/parts")
        web.ask("GET", "/parts?again")
        web.close()
        for target in ["/extensions", "/until-close"]:
            odd = Http(lab.truth, RAW_PORT)
            odd.ask("GET", target)
            odd.close()
        curl(lab.truth, urls=["/parts", "/trailers"], port=OTHER_PORT)


class Origin(BaseHTTPRequestHandler):
    """Python's own server; answers `100 Continue` by itself."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"stored\n"
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_expect_100(self):
        if self.path == "/refuse":
            self.send_response(417)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            return False
        return super().handle_expect_100()

    def log_message(self, *_):
        pass


def expect_continue(lab, pcap):
    server = ThreadingHTTPServer(("127.0.0.1", OTHER_PORT), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    upload = lab.folder / "upload"
    upload.write_bytes(random.Random(1).randbytes(1_000_000))
    with lab.capture(pcap, snaplen=320):
        expect = ["-H", "Expect: 100-continue", "--data-binary", f"@{upload}"]
        curl(lab.truth, *expect, urls=["/store/1", "/store/2"], port=OTHER_PORT)
        curl(lab.truth, *expect, urls=["/refuse"], port=OTHER_PORT)
    server.shutdown()


def pipelined(lab, pcap):
    lab.nginx()
    targets = [f"/api/{n}" if n % 3 else "/page.html" if n % 2 else f"/gone/{n}"
               for n in range(20)]
    methods = ["HEAD" if n % 7 == 5 else "GET" for n in range(20)]
    with lab.capture(pcap):
        with socket.create_connection(("127.0.0.1", NGINX_PORT)) as sock:
            for _ in range(2):
                sock.sendall(b"".join(
                    f"{method} {target} HTTP/1.1\r\nHost: shop\r\n\r\n".encode()
                    for method, target in zip(methods, targets)))
                reader = sock.makefile("rb")
                for method, target in zip(methods, targets):
                    status = head_status(reader) if method == "HEAD" else raw_status(reader)
                    lab.truth.http(method, target, status)


def head_status(reader):
    """The status of an answer to HEAD, whose Content-Length announces no body."""
    status = reader.readline().split(b" ")[1].decode()
    while reader.readline() not in (b"\r\n", b""):
        pass
    return status


def traceparent(lab, pcap):
    lab.nginx()
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    parent = f"00-{trace}-{span}"
    ways = [
        {"traceparent": f"{parent}-01"},
        {"traceparent": f"{parent}-00", "tracestate": "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"},
        {"TraceParent": f"{parent}-03"},
        {"traceparent": f"cc-{trace}-{span}-01-what-the-future-will-be-like"},
        {"b3": f"{trace}-{span}-1-05e3ac9a4f6e3b90"},
        {"b3": "a3ce929d0e0e4736-00f067aa0ba902b7-d"},
        {"b3": "0"},
        {"X-B3-TraceId": trace, "X-B3-SpanId": span, "X-B3-ParentSpanId": "05e3ac9a4f6e3b90",
         "X-B3-Sampled": "1"},
        {"X-B3-TraceId": "a3ce929d0e0e4736", "X-B3-SpanId": span, "X-B3-Flags": "1"},
        {"traceparent": f"{parent}-01", "b3": "a3ce929d0e0e4736-1111111111111111-1"},
        {"traceparent": f"ff-{trace}-{span}-01"},
        {"traceparent": f"00-{'0' * 32}-{span}-01"},
        {"traceparent": f"{parent}-01".upper()},
        {"traceparent": f"{parent}-01-more"},
        {},
    ]
    with lab.capture(pcap):
        web = Http(lab.truth)
        for number, headers in enumerate(ways):
            web.ask("GET", f"/api/{number}", headers=headers)
        web.close()


def websocket_frame(opcode, payload, final=True):
    mask = b"\x12\x34\x56\x78"
    length = len(payload)
    head = bytes([(0x80 if final else 0) | opcode])
    head += bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack(">H", length)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def websocket(lab, pcap):
    lab.node("websocket_server.js", OTHER_PORT)
    key = base64.b64encode(bytes(range(16))).decode()
    with lab.capture(pcap):
        with socket.create_connection(("127.0.0.1", OTHER_PORT)) as sock:
            reader = sock.makefile("rb")
            sock.sendall(f"GET /chat?room=1 HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\n"
                         f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                         f"Sec-WebSocket-Version: 13\r\n\r\n".encode())
            lab.truth.http("GET", "/chat?room=1", head_status(reader))
            # One of them carries what looks like a request: it is data, not an exchange.
            for payload in [b"hello", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 3000]:
                sock.sendall(websocket_frame(0x1, payload))
                reader.read(len(payload) + (2 if len(payload) < 126 else 4))
            sock.sendall(websocket_frame(0x9, b"ping") + websocket_frame(0x2, bytes(100)))
            reader.read(6 + 102)
            sock.sendall(websocket_frame(0x8, b"\x03\xe8"))
            reader.read()


class Proxy:
    """A CONNECT proxy, enough of one to carry bytes both ways."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", PROXY_PORT))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        host, port = head.split(b" ")[1].decode().rsplit(":", 1)
        try:
            server = socket.create_connection((host, int(port)), timeout=5)
        except OSError:
            client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peers = {client: server, server: client}
        while True:
            for sock in select.select(list(peers), [], [])[0]:
                data = sock.recv(65536)
                if not data:
                    client.close()
                    server.close()
                    return
                peers[sock].sendall(data)


def connect(lab, pcap):
    lab.nginx()
    Proxy()
    with lab.capture(pcap, filter=f"tcp port {PROXY_PORT}"):
        web = Http(lab.truth, PROXY_PORT)
        web.connection.set_tunnel("127.0.0.1", NGINX_PORT)
        web.connection.connect()
        lab.truth.http("CONNECT", f"127.0.0.1:{NGINX_PORT}", 200)
        web.ask("GET", "/page.html")
        web.ask("POST", "/orders/", body=b"item=2")
        web.ask("GET", "/nowhere")
        web.close()
        with socket.create_connection(("127.0.0.1", PROXY_PORT)) as sock:
            sock.sendall(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n")
            lab.truth.http("CONNECT", "127.0.0.1:9", raw_status(sock.makefile("rb")))


def midstream(lab, pcap):
    lab.nginx()
    web = Http(lab.truth)
    web.ask("GET", "/page.html?unseen=1")
    web.ask("GET", "/page.html?unseen=2")
    lab.truth.lines.clear()
    with lab.capture(pcap):
        for number in range(10):
            web.ask("GET" if number % 3 else "POST", f"/api/{number}",
                    body=None if number % 3 else b"a=1")
        web.ask("GET", "/fail")
        web.close()


def loss(lab, pcap):
    """`keepalive` with every eleventh packet that carries data removed."""
    source = pcap.with_name("keepalive.pcap")
    data = source.read_bytes()
    kept, at, number = [data[:24]], 24, 0
    while at < len(data):
        captured = struct.unpack_from("<I", data, at + 8)[0]
        packet = data[at:at + 16 + captured]
        at += len(packet)
        header = 16 + 14 + (packet[30] & 0x0F) * 4
        payload = captured + 16 - header - (packet[header + 12] >> 4) * 4
        number += payload > 0
        if payload == 0 or number % 11:
            kept.append(packet)
    pcap.write_bytes(b"".join(kept))
    truth = source.with_suffix(".truth.jsonl").read_text().splitlines()
    lab.truth.lines += [json.loads(line) for line in truth]


SMUGGLING = [
    # Content-Length and Transfer-Encoding (RFC 9112 §6.3): the chunks count.
    b"POST /cl-te HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    b"POST /te-cl HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
    b"POST /two-lengths HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /other-lengths HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
    b"POST /te-last-not-chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n"
    b"0\r\n\r\n",
    b"POST /te-space HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST /huge-chunk HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    b"POST /negative HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
    b"POST /plus HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
    b"GET /inner HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n"
    b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
]


def smuggling(lab, pcap):
    """The server's own reading is the truth; where it refused or kept silent, what was sent."""
    server = lab.node("lenient_server.js", OTHER_PORT)
    with lab.capture(pcap):
        for sent in SMUGGLING:
            with socket.create_connection(("127.0.0.1", OTHER_PORT)) as sock:
                sock.settimeout(0.3)
                sock.sendall(sent)
                answer = read_until_quiet(sock)
            method, target = sent.decode("latin-1").split(" ")[:2]
            if not answer.startswith(b"HTTP/1.1 200"):
                lab.truth.http(method, target, "400" if answer else "")
    server.terminate()
    lab.truth.lines += [json.loads(line) for line in server.stdout]


def read_until_quiet(sock):
    data = b""
    try:
        while more := sock.recv(65536):
            data += more
    except TimeoutError:
        pass
    return data


def large_body(lab, pcap):
    lab.nginx()
    with lab.capture(pcap, snaplen=400):
        web = Http(lab.truth)
        web.ask("GET", "/large.bin")
        web.ask("GET", "/page.html")
        web.close()


def early_response(lab, pcap):
    """nginx refuses a body by its announced length, while the client is sending it."""
    lab.nginx()
    with lab.capture(pcap):
        with socket.create_connection(("127.0.0.1", NGINX_PORT)) as sock:
            sock.sendall(b"POST /api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            sock.sendall(b"x" * 2000)
            lab.truth.http("POST", "/api/upload", raw_status(sock.makefile("rb")))
            try:
                for _ in range(5):
                    sock.sendall(b"y" * 2000)
                    time.sleep(0.02)
            except OSError:
                pass  # nginx may have closed by now.


def ipv6(lab, pcap):
    lab.nginx()
    with lab.capture(pcap):
        web = Http(lab.truth, host="::1")
        web.ask("GET", "/page.html")
        web.ask("POST", "/orders/", body=b"item=3")
        web.close()
        curl(lab.truth, "-g", urls=["/api/v6", "/missing"], host="[::1]")


def h2c_refused(lab, pcap):
    """curl offers HTTP/2 by Upgrade; nginx goes on in HTTP/1.1."""
    lab.nginx()
    with lab.capture(pcap):
        curl(lab.truth, "--http2", urls=["/api/h2c", "/page.html"])


CASES = {
    "http/keepalive": keepalive,
    "http/loss": loss,
    "http/chunked": chunked,
    "http/expect-continue": expect_continue,
    "http/pipelined": pipelined,
    "http/traceparent": traceparent,
    "http/websocket": websocket,
    "http/connect": connect,
    "http/midstream": midstream,
    "http/smuggling": smuggling,
    "http/large-body": large_body,
    "http/early-response": early_response,
    "http/ipv6": ipv6,
    "http/h2c-refused": h2c_refused,
}
