"""The HTTP/2 cases, without TLS: Node and nginx as servers; Node, nghttp, h2load, curl and frames made
by hand as clients."""

import json
import struct
import subprocess

from clients import curl, node
from frames import (CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING,
                    PRIORITISED, PRIORITY, RST_STREAM, WINDOW_UPDATE, Frames, block, frame)
from lab import HERE, NGINX_H2_PORT, NGINX_PORT

PORT = 18081
PROXY_PORT = 18084
SERVER = "http2_server.js"


def client(name):
    """The case that Node's client knows by this name."""
    def case(lab, pcap):
        lab.node(SERVER, PORT)
        with lab.capture(pcap):
            node(lab.truth, "http2_client.js", str(PORT), name)
    return case


def nghttp(truth, method, *targets, options=()):
    """nghttp, all at once on one connection; its own table is the truth."""
    urls = [f"http://127.0.0.1:{NGINX_H2_PORT}{target}" for target in targets]
    done = subprocess.run(["nghttp", "-ns", "-H", f":method: {method}", *options, *urls], check=True,
                          stdout=subprocess.PIPE, text=True)
    table = done.stdout.split("request path\n")[1]
    for line in table.splitlines():
        code, _, target = line.split()[4:]
        truth.http(method, target, code)


def h2load(lab, target, count):
    """h2load keeps a log: start, status, duration."""
    log = lab.folder / "h2load.log"
    subprocess.run(["h2load", "-n", str(count), "-c", "2", "-m", "10", f"--log-file={log}",
                    f"http://127.0.0.1:{NGINX_H2_PORT}{target}"],
                   check=True, stdout=subprocess.DEVNULL)
    for line in log.read_text().splitlines():
        lab.truth.http("GET", target, line.split()[1])


def basic(lab, pcap):
    lab.node(SERVER, PORT)
    lab.nginx()
    with lab.capture(pcap):
        node(lab.truth, "http2_client.js", str(PORT), "basic")
        nghttp(lab.truth, "GET", "/page.html", "/", "/missing?what=this", "/old", "/fail", "/empty")
        nghttp(lab.truth, "HEAD", "/page.html", "/busy")
        nghttp(lab.truth, "PUT", "/orders/7", options=["-p8"])
        # This curl fails when it uses such a connection a second time.
        for url in ["/page.html", ("/missing", "-X", "DELETE"), ("/index.html", "-I"),
                    ("/api/form", "-d", "a=1&b=CANARY"), "/fail", "/old"]:
            curl(lab.truth, "--http2-prior-knowledge", urls=[url], port=NGINX_H2_PORT)
        h2load(lab, "/api/load", 40)


def upgrade(lab, pcap):
    """curl begins in HTTP/1.1; nghttpx takes it up on its offer, in front of nginx.

    A 101 ends the exchange that asked for it, so the first status is that, not the final one.
    """
    lab.nginx()
    lab.start(["nghttpx", f"-f127.0.0.1,{PROXY_PORT};no-tls", f"-b127.0.0.1,{NGINX_PORT}",
               "--conf=/dev/null", f"--errorlog-file={lab.folder}/proxy.log"], PROXY_PORT,
              stderr=subprocess.DEVNULL)
    with lab.capture(pcap, filter=f"tcp port {PROXY_PORT}"):
        for urls in [["/api/first", "/page.html", "/missing"],
                     [("/api/form", "-d", "a=1"), "/fail"]]:
            first = len(lab.truth.lines)
            curl(lab.truth, "--http2", urls=urls, port=PROXY_PORT)
            lab.truth.lines[first]["status"] = "101"


def midstream(lab, pcap):
    """Joined on the way: Node's client, and one that has its paths in the dynamic table."""
    lab.node(SERVER, PORT)
    process = subprocess.Popen(["node", str(HERE / "http2_client.js"), str(PORT), "midstream"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while process.stdout.readline() != "\n":
        pass
    by_hand = Frames(lab.truth, PORT)
    by_hand.ask(1, "GET", "/status/200?before", remember=True)
    lab.truth.lines.clear()
    with lab.capture(pcap):
        printed = process.communicate("begin\n")[0]
        lab.truth.lines += [json.loads(line) for line in printed.splitlines()]
        indexed = lambda index: b"\x82\x86\x01\x04shop" + bytes([0x80 | index])
        # 62 is the newest: the path from before, then one that the capture shows, then both.
        by_hand.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, indexed(62)))
        by_hand.until(3)
        by_hand.note(3, "GET", None)
        by_hand.ask(5, "GET", "/status/404?since", remember=True)
        for stream, index, target in [(7, 62, "/status/404?since"), (9, 63, None)]:
            by_hand.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, indexed(index)))
            by_hand.until(stream)
            by_hand.note(stream, "GET", target)
        by_hand.close()


def rapid_reset(lab, pcap):
    """CVE-2023-44487: each request is taken back in the same write."""
    lab.node(SERVER, PORT)
    with lab.capture(pcap):
        web = Frames(lab.truth, PORT)
        web.ask(1, "GET", "/status/200?first")
        for stream in range(3, 1003, 2):
            path = f"/silent?{stream}"
            web.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, block("GET", path)),
                     frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))
            web.note(stream, "GET", path)
        web.ask(1003, "GET", "/status/404?last")
        web.close()


def continuation_flood(lab, pcap):
    """CVE-2024-28182: a header block without an end is no request, so the truth has none of it."""
    lab.node(SERVER, PORT)
    with lab.capture(pcap):
        web = Frames(lab.truth, PORT)
        web.ask(1, "GET", "/status/200?first")
        fields = block("GET", "/flood", *((f"x-{number}", "y" * 100) for number in range(5)))
        flood = frame(CONTINUATION, 0, 3, fields[-540:]) * 200
        web.send(frame(HEADERS, END_STREAM, 3, fields), flood)
        web.socket.settimeout(0.5)
        try:
            web.until(3)
        except OSError:
            pass  # Node has had enough, and says no more.
        web.close()


def padded(lab, pcap):
    """Padding, priorities, empty frames, frames of unknown kinds, and everything else that may stand
    between requests."""
    lab.node(SERVER, PORT)
    with lab.capture(pcap):
        web = Frames(lab.truth, PORT, (1, 256), (3, 100), (0x2A2A, 7))
        web.send(frame(PRIORITY, 0, 1, b"\0\0\0\0\x0f"), frame(PING, 0, 0, b"12345678"),
                 frame(0xBE, 0xFF, 0, b"grease"), frame(WINDOW_UPDATE, 0, 0, b"\0\x01\0\0"))
        everything = END_HEADERS | PADDED | PRIORITISED
        web.send(frame(HEADERS, everything, 1,
                       b"\x07\x80\0\0\0\xff" + block("POST", "/echo?padded") + bytes(7)),
                 frame(DATA, PADDED, 1, b"\x05hello" + bytes(5)),
                 frame(0xBF, 0, 1, b"grease"), frame(DATA, PADDED, 1, b"\x00"),
                 frame(DATA, 0, 1), frame(DATA, PADDED | END_STREAM, 1, b"\xff" + bytes(255)))
        web.until(1)
        web.note(1, "POST", "/echo?padded")
        # A block in pieces, the first of them empty, with padding that is not part of it. Node takes
        # no more than eight.
        pieces = block("GET", "/status/404?pieces", ("x-name", "value"))
        web.send(frame(HEADERS, PADDED | PRIORITISED | END_STREAM, 3, b"\x03\0\0\0\x01\x10" + bytes(3)),
                 *(frame(CONTINUATION, 0, 3, pieces[at:at + 8]) for at in range(0, len(pieces), 8)),
                 frame(CONTINUATION, END_HEADERS, 3))
        web.until(3)
        web.note(3, "GET", "/status/404?pieces")
        # The body ends with trailers.
        web.send(frame(HEADERS, END_HEADERS, 5, block("POST", "/echo?trailers")),
                 frame(DATA, 0, 5, b"body"),
                 frame(HEADERS, END_HEADERS | END_STREAM | PADDED, 5, b"\x02\x00\x01a\x01b\0\0"))
        web.until(5)
        web.note(5, "POST", "/echo?trailers")
        web.close()


def goaway(lab, pcap):
    """The server ends the connection: what is open goes on, what comes behind is not heard."""
    lab.node(SERVER, PORT)
    with lab.capture(pcap):
        web = Frames(lab.truth, PORT)
        asked = [(1, "/slow/150"), (3, "/status/200?before"), (5, "/goaway"), (7, "/status/200?behind")]
        web.send(*(frame(HEADERS, END_HEADERS | END_STREAM, stream, block("GET", path))
                   for stream, path in asked[:3]))
        while web.read() != GOAWAY:
            pass
        web.send(frame(HEADERS, END_HEADERS | END_STREAM, 7, block("GET", asked[3][1])))
        web.until(1, 3, 5)
        for stream, path in asked:
            web.note(stream, "GET", path)
        web.close()
        # The other way round: the client says that it will accept no more, and asks on.
        web = Frames(lab.truth, PORT)
        web.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block("GET", "/slow/50")),
                 frame(GOAWAY, 0, 0, bytes(8) + b"leaving: CANARY"))
        web.until(1)
        web.note(1, "GET", "/slow/50")
        web.close()


CASES = {
    "http2/basic": basic,
    "http2/upgrade": upgrade,
    "http2/interleaved": client("interleaved"),
    "http2/traceparent": client("traceparent"),
    "http2/trailers": client("trailers"),
    "http2/push": client("push"),
    "http2/reset": client("reset"),
    "http2/large-headers": client("large-headers"),
    "http2/connect": client("connect"),
    "http2/midstream": midstream,
    "http2/rapid-reset": rapid_reset,
    "http2/continuation-flood": continuation_flood,
    "http2/padded": padded,
    "http2/goaway": goaway,
}
