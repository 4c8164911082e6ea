"""HTTPS with Python's standard library, blocking.

serve PORT CERT KEY: answers any GET, /fail with 500.
get PORT TRACEPARENT PATH...: asks on one connection, and prints the statuses.
talk PORT: asks on one connection for the paths in its input's lines, and prints each status.
"""

import http.client
import http.server
import ssl
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"It works.\n"
        self.send_response(500 if self.path.startswith("/fail") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # Clients that end without saying so.


def serve(port, cert, key):
    server = Server(("127.0.0.1", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def connect(port):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", int(port), context=context)


def ask(connection, path, headers):
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    print(response.status, flush=True)


def get(port, traceparent, *paths):
    connection = connect(port)
    for path in paths:
        ask(connection, path, {"traceparent": traceparent})


def talk(port):
    connection = connect(port)
    for line in sys.stdin:
        ask(connection, line.strip(), {})


{"serve": serve, "get": get, "talk": talk}[sys.argv[1]](*sys.argv[2:])
