#!/usr/bin/env python3
"""Records the captures of tests/pcaps. Called by `cargo xtask gen-fixtures [CASE...]`.

Each case writes <protocol>/<case>.pcap and, beside it, <case>.truth.jsonl: what the clients
themselves saw. Needs root, tcpdump, nginx, MariaDB, redis-server, redis-cli, PostgreSQL, psql,
curl, nghttp, h2load, nghttpx and node; for gRPC pip, which fetches grpcio.
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
    if any(name in case_grpc.CASES for name in wanted) and not case_grpc.prepare():
        print(f"no gRPC case is recorded: {case_grpc.GRPCIO} could not be installed",
              file=sys.stderr)
        wanted = [name for name in wanted if name not in case_grpc.CASES]
    lab.enter_namespace()
    for name in wanted:
        record(name)


if __name__ == "__main__":
    main()
