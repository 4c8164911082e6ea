"""A network of its own, servers in it, a recorder beside them, and what the clients saw.

Everything runs in a private network namespace with nothing but a loopback interface, so that a
capture holds the traffic of its case and nothing else.
"""

import array
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import venv
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
NGINX_PORT = 18080
NGINX_H2_PORT = 18083
REDIS_PORT = 16379
POSTGRES_PORT = 15432
MARIADB_PORT = 13306

# linux/ethtool.h: what makes the kernel pass frames larger than the MTU, or leave checksums out.
ETHTOOL_OFFLOADS = [0x17, 0x1F, 0x24, 0x2C]  # STXCSUM, STSO, SGSO, SGRO
SIOCETHTOOL = 0x8946


def enter_namespace():
    """Re-executes the program in a network namespace of its own, once."""
    if os.environ.get("WIRESPAN_LAB") == "1":
        return
    if os.geteuid() != 0:
        raise SystemExit("gen-fixtures needs root: it makes a network namespace and runs tcpdump")
    os.environ["WIRESPAN_LAB"] = "1"
    os.execvp("unshare", ["unshare", "--net", "python3", *os.sys.argv])


def loopback(mtu, offloads):
    """Brings the loopback up. Without offloads, captured packets are as on a real wire."""
    subprocess.run(["ip", "link", "set", "lo", "up", "mtu", str(mtu)], check=True)
    with socket.socket() as sock:
        for command in ETHTOOL_OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, int(offloads)))
            request = struct.pack("16sP", b"lo", ctypes.addressof(value))
            try:
                fcntl.ioctl(sock, SIOCETHTOOL, array.array("B", request))
            except OSError:
                pass  # Not every kernel lets every offload of the loopback be switched.


def wait_for_port(port, host="127.0.0.1"):
    """Waits until somebody listens, without connecting: that would be in the capture."""
    tables = ["/proc/net/tcp", "/proc/net/tcp6"]
    wanted = f":{port:04X}"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for table in tables:
            for row in Path(table).read_text().splitlines()[1:]:
                fields = row.split()
                if fields[1].endswith(wanted) and fields[3] == "0A":
                    return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on {host}:{port} after ten seconds")


class Environment:
    """Packages of Python's in a folder of their own, which outlives a recording."""

    def __init__(self, *packages):
        self.packages = packages
        self.folder = Path(tempfile.gettempdir()) / f"wirespan-lab-{packages[0]}"
        self.python = self.folder / "bin" / "python"

    def prepare(self):
        """Installs them before the network is gone. Whether they are there."""
        done = self.folder / "done"
        if "WIRESPAN_LAB" not in os.environ and not done.exists():
            venv.create(self.folder, with_pip=True, clear=True)
            install = [self.python, "-m", "pip", "install", "--quiet", *self.packages]
            if subprocess.run(install).returncode == 0:
                done.touch()
        return done.exists()


class Truth:
    """What the clients saw, a line for each request, in the order in which they saw it end."""

    def __init__(self):
        self.lines = []
        self.lock = threading.Lock()

    def note(self, protocol, operation, target, status, **more):
        """`target` None: a secret, or not known to the client. `status` "": no answer."""
        line = {"protocol": protocol, "operation": operation}
        if target is not None:
            line["target"] = target
        line["status"] = str(status)
        line.update({key: value for key, value in more.items() if value is not None})
        with self.lock:
            self.lines.append(line)

    def http(self, method, target, status, **more):
        self.note("http", method, target, status, **more)

    def redis(self, command, target, status, **more):
        self.note("redis", command, target, status, **more)

    def write(self, path):
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))


class Lab:
    """Servers that a case starts, all stopped when it ends."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="wirespan-lab-"))
        self.folder.chmod(0o755)
        self.processes = []
        self.truth = Truth()

    def start(self, command, port, **options):
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        wait_for_port(port)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)

    def nginx(self):
        """nginx with a few files and a few answers of fixed status."""
        root = self.folder / "www"
        root.mkdir()
        (root / "index.html").write_text("<!doctype html><title>wirespan</title>\n" * 10)
        (root / "items.json").write_text(json.dumps([{"id": i} for i in range(200)]))
        (root / "page.html").write_text("<p>hello</p>\n" * 400)
        with open(root / "large.bin", "wb") as large:
            large.truncate(50_000_000)
        config = self.folder / "nginx.conf"
        config.write_text(NGINX_CONF.format(folder=self.folder, port=NGINX_PORT,
                                            h2_port=NGINX_H2_PORT))
        self.start(["nginx", "-p", str(self.folder), "-c", str(config)], NGINX_PORT,
                   stderr=subprocess.DEVNULL)

    def redis(self, *options):
        self.start(
            ["redis-server", "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", str(self.folder), *options],
            REDIS_PORT, stdout=subprocess.DEVNULL)

    def postgres(self, *options):
        """PostgreSQL with a database `shop`, whose user `joe` has a password, and an `admin` who
        may come in without."""
        # Debian keeps the programs out of the path; they refuse to run as root.
        programs = max(Path("/usr/lib/postgresql").glob("*/bin/postgres")).parent
        data = self.folder / "postgres"
        data.mkdir()
        shutil.chown(data, "postgres")
        as_user = {"user": "postgres", "stdout": subprocess.DEVNULL, "cwd": data}
        subprocess.run([programs / "initdb", "-D", data, "-U", "admin", "-A", "trust", "-N",
                        "--no-locale", "-E", "UTF8"], check=True, **as_user)
        setup = ["CREATE ROLE joe LOGIN PASSWORD 'CANARY-joe';", "GRANT pg_read_all_stats TO joe;",
                 "GRANT pg_signal_backend TO joe;", "CREATE DATABASE shop OWNER joe;"]
        subprocess.run([programs / "postgres", "--single", "-D", data, "postgres"], check=True,
                       input="\n".join(setup), text=True, stderr=subprocess.DEVNULL, **as_user)
        (data / "pg_hba.conf").write_text("local all admin trust\n"
                                          "host all,replication admin 127.0.0.1/32 trust\n"
                                          "host all all 127.0.0.1/32 scram-sha-256\n")
        self.start([programs / "postgres", "-D", data, "-p", str(POSTGRES_PORT), "-h", "127.0.0.1",
                    "-k", "", "-F", "-c", "logging_collector=off", "-c", "jit=off", *options],
                   POSTGRES_PORT, stderr=subprocess.DEVNULL, **as_user)

    def mariadb(self, *options):
        """MariaDB with a schema `shop`, whose user `joe` has a password."""
        data = self.folder / "mariadb"
        data.mkdir()
        quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}",
                        "--skip-test-db", "--auth-root-authentication-method=normal"], **quiet)
        setup = self.folder / "setup.sql"
        setup.write_text("CREATE DATABASE shop;\n"
                         "CREATE USER joe@'127.0.0.1' IDENTIFIED BY 'CANARY-joe';\n"
                         "GRANT ALL ON *.* TO joe@'127.0.0.1';\n")
        self.start(["mariadbd", "--no-defaults", "--user=root", f"--datadir={data}",
                    "--bind-address=127.0.0.1", f"--port={MARIADB_PORT}", "--local-infile",
                    "--skip-name-resolve",
                    "--max-allowed-packet=64M", "--innodb-log-file-size=4M",
                    "--innodb-buffer-pool-size=16M", f"--socket={self.folder}/mariadb.sock",
                    f"--pid-file={self.folder}/mariadb.pid", f"--init-file={setup}", *options],
                   MARIADB_PORT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def node(self, script, port, *arguments):
        """A server in Node.js; what it prints can be read from the returned process."""
        return self.start(["node", str(HERE / script), str(port), *arguments], port,
                          stdout=subprocess.PIPE, text=True)

    @contextmanager
    def capture(self, path, snaplen=0, filter="tcp"):
        """Records what passes on the loopback while the block runs."""
        recorder = subprocess.Popen(
            ["tcpdump", "-i", "lo", "-Z", "root", "-n", "--immediate-mode", "-U", "-B", "65536",
             "-s", str(snaplen), "-w", str(path), filter],
            stderr=subprocess.PIPE, text=True)
        while "listening on" not in recorder.stderr.readline():
            if recorder.poll() is not None:
                raise SystemExit("tcpdump did not start")
        time.sleep(0.1)
        try:
            yield
            time.sleep(0.3)  # The last acknowledgements.
        finally:
            recorder.send_signal(signal.SIGINT)
            summary = recorder.communicate()[1]
        if "\n0 packets dropped by kernel" not in "\n" + summary:
            raise SystemExit(f"tcpdump lost packets; run again:\n{summary}")


NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    keepalive_requests 10000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    types {{ text/html html; application/json json; }}
    server {{
        listen 127.0.0.1:{port};
        listen [::1]:{port};
        listen 127.0.0.1:{h2_port} http2;
        root {folder}/www;
        client_max_body_size 64k;
        location = /empty {{ return 204; }}
        location = /old {{ return 301 /page.html; }}
        location = /fail {{ return 500 "out of order\\n"; }}
        location = /busy {{ return 503; }}
        location /api/ {{ return 200 '{{"ok":true}}\\n'; }}
        location /orders/ {{ return 201 '{{"order":42}}\\n'; }}
    }}
}}
"""
