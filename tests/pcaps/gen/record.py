#!/usr/bin/env python3
"""Records the captures of tests/pcaps. Called by `cargo xtask gen-fixtures [CASE...]`.

Each case writes <protocol>/<case>.pcap and, beside it, <case>.truth.jsonl: what the clients
themselves saw. Needs root, tcpdump, nginx, MariaDB, redis-server, redis-cli, PostgreSQL, psql,
curl, nghttp, h2load, nghttpx and node; for gRPC and Zstandard pip, which fetches the clients.
"""

import sys

import lab
import case_demo
import case_grpc
import case_http
import case_http2
import case_mysql
import case_postgres
import case_redis

CASES = {**case_demo.CASES, **case_http.CASES, **case_http2.CASES,
         **case_grpc.CASES, **case_mysql.CASES, **case_postgres.CASES, **case_redis.CASES}


def record(name):
    folder = lab.HERE.parent
    path = folder / f"{name}.pcap"
    path.parent.mkdir(exist_ok=True)
    large = name in (case_http.WITH_OFFLOADS | case_mysql.WITH_OFFLOADS | case_postgres.WITH_OFFLOADS
                     | case_redis.WITH_OFFLOADS)
    lab.loopback(mtu=65536 if large else 1500, offloads=large)
    bench = lab.Lab()
    try:
        CASES[name](bench, path)
        bench.truth.write(path.with_suffix(".truth.jsonl"))
    finally:
        bench.stop()
    print(f"{name}: {len(bench.truth.lines)} requests, {path.stat().st_size} bytes")


def main():
    wanted = sys.argv[1:] or list(CASES)
    unknown = [name for name in wanted if name not in CASES]
    if unknown:
        raise SystemExit(f"no such case: {', '.join(unknown)}; known: {', '.join(CASES)}")
    needs = {**{name: case_grpc.GRPCIO for name in case_grpc.CASES}, **case_mysql.NEEDS}
    missing = [name for name in wanted if name in needs and not needs[name].prepare()]
    for name in missing:
        packages = " ".join(needs[name].packages)
        print(f"{name} is not recorded: {packages} could not be installed", file=sys.stderr)
        wanted.remove(name)
    lab.enter_namespace()
    for name in wanted:
        record(name)


if __name__ == "__main__":
    main()
