"""Starts the servers named in its arguments with the laboratory of the recorded captures, tells
where they are, says `ready`, and stops them when its input ends."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2] / "tests" / "pcaps" / "gen"), str(HERE / "tls")]

import case_grpc  # noqa: E402
import lab  # noqa: E402
import servers as tls  # noqa: E402


def free_port():
    """A port that nobody has: other than a recording, a test has the machine's network to share."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


PYTHON_PORT = free_port()
lab.NGINX_PORT, lab.NGINX_H2_PORT = free_port(), free_port()
lab.REDIS_PORT, lab.POSTGRES_PORT, lab.MARIADB_PORT = free_port(), free_port(), free_port()
case_grpc.PORT = free_port()


def missing(*programs):
    """Ends the program where one of these is not installed."""
    for program in programs:
        if shutil.which(program) is None and not any(Path("/usr/sbin").glob(program)):
            tell("missing", program)
            raise SystemExit


def tell(key, value):
    print(key, value, flush=True)


def nginx(servers):
    missing("nginx", "curl", "ab")
    servers.nginx()
    tell("nginx", lab.NGINX_PORT)


def redis(servers):
    missing("redis-server", "redis-cli", "redis-benchmark")
    socket = servers.folder / "redis.sock"
    servers.redis("--unixsocket", str(socket), "--unixsocketperm", "777")
    tell("redis", lab.REDIS_PORT)
    tell("redis-socket", socket)


def postgres(servers):
    # The clients alone have such a folder too.
    programs = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        missing("postgres")
    # The server may write there.
    folder = servers.folder / "postgres"
    servers.postgres("-k", str(folder))
    tell("postgres", lab.POSTGRES_PORT)
    tell("postgres-folder", folder)
    tell("postgres-programs", programs[-1])


def mariadb(servers):
    missing("mariadbd", "mariadb", "mariadb-install-db")
    servers.mariadb()
    tell("mariadb", lab.MARIADB_PORT)


def grpc(servers):
    if not case_grpc.GRPCIO.prepare():
        tell("missing", ", ".join(case_grpc.GRPCIO.packages))
        raise SystemExit
    case_grpc.server(servers)
    tell("grpc", case_grpc.PORT)
    tell("grpc-python", case_grpc.GRPCIO.python)
    tell("grpc-name", case_grpc.GRPCIO.python.name)
    tell("grpc-client", lab.HERE / "grpc_client.py")


def python(servers):
    missing("curl")
    command = ["python3", "-m", "http.server", "--bind", "127.0.0.1", str(PYTHON_PORT)]
    servers.start(command, PYTHON_PORT, cwd=servers.folder, stdout=subprocess.DEVNULL,
                  stderr=subprocess.DEVNULL)
    tell("python", PYTHON_PORT)


def shop(servers):
    """Services that call each other; see `traces/shop.py`."""
    missing("redis-server", "curl")
    if not sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        missing("postgres")
    for environment in (case_grpc.GRPCIO, tls.PYTHON):
        if not environment.prepare():
            tell("missing", ", ".join(environment.packages))
            raise SystemExit
    servers.redis()
    servers.postgres()
    script, orders, gateway = HERE / "traces" / "shop.py", free_port(), free_port()
    servers.start([tls.PYTHON.python, "-B", script, "orders", str(orders),
                   str(lab.POSTGRES_PORT), str(lab.REDIS_PORT)], orders)
    servers.start([case_grpc.GRPCIO.python, "-B", script, "gateway", str(gateway), str(orders)],
                  gateway)
    tell("gateway", gateway)
    tell("shop-ports", " ".join(map(str, [gateway, orders, lab.POSTGRES_PORT, lab.REDIS_PORT])))


def goshop(servers):
    """A service in each version of Go that asks Redis; see `tls/https.go`."""
    missing("redis-server", "curl")
    servers.redis()
    tell("redis", lab.REDIS_PORT)
    for version in tls.GO:
        name = "go-" + version.rsplit(".", 1)[0]
        try:
            port, program = free_port(), tls.build(version)
            servers.start([program, "shop", f"127.0.0.1:{port}", *tls.certificate(servers),
                           f"127.0.0.1:{lab.REDIS_PORT}"], port)
        except tls.Absent as absent:
            tell(f"absent-{name}", absent)
            continue
        tell(f"tls/{name}", port)


def secured(servers, name):
    """One of those that speak TLS, if it can be had."""
    try:
        port = free_port()
        told = tls.SERVERS[name](servers, port)
    except tls.Absent as absent:
        tell(f"absent-{name}", absent)
        return
    tell(f"tls/{name}", port)
    for key, value in told.items():
        tell(f"{name}-{key}", value)


def main():
    servers = lab.Lab()
    try:
        for name in sys.argv[1:]:
            if name.startswith("tls/"):
                secured(servers, name.removeprefix("tls/"))
                continue
            {"nginx": nginx, "redis": redis, "postgres": postgres, "mariadb": mariadb,
             "grpc": grpc, "python": python, "shop": shop, "goshop": goshop}[name](servers)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        servers.stop()


main()
