#!/usr/bin/env bash
# Live: real servers, real clients, tcpdump's packets straight into `wirespan replay -`. What it
# counts must be what the clients counted. Needs root, nginx, redis, curl, tcpdump, python3.
set -euo pipefail
cd "$(dirname "$0")/.."

http=28080
redis=26379
work=$(mktemp -d)
chmod 755 "$work"
processes=()

cleanup() {
    for process in "${processes[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT

wait_for() { # what, command...
    local what=$1
    shift
    for _ in $(seq 200); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.05
    done
    echo "e2e: $what did not happen within ten seconds" >&2
    exit 1
}

cargo build --locked --bin wirespan
wirespan=$(cargo metadata --format-version=1 --no-deps --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug/wirespan

cat > "$work/nginx.conf" <<NGINX
daemon off;
master_process off;
pid $work/nginx.pid;
error_log $work/nginx.log;
events {}
http {
    access_log off;
    client_body_temp_path $work/body;
    proxy_temp_path $work/proxy;
    fastcgi_temp_path $work/fastcgi;
    uwsgi_temp_path $work/uwsgi;
    scgi_temp_path $work/scgi;
    server {
        listen 127.0.0.1:$http;
        location /items/ { return 200 "item\n"; }
        location /fail { return 500; }
        location / { return 404; }
    }
}
NGINX
nginx -p "$work" -c "$work/nginx.conf" 2>/dev/null &
processes+=($!)
redis-server --port $redis --bind 127.0.0.1 --save '' --dir "$work" >/dev/null &
processes+=($!)
wait_for "nginx" curl -s "http://127.0.0.1:$http/"
wait_for "redis" redis-cli -p $redis ping

mkfifo "$work/packets"
"$wirespan" replay -o jsonl - < "$work/packets" > "$work/records.jsonl" 2> "$work/report" &
replay=$!
processes+=($replay)
tcpdump -i lo -n -U -B 65536 -s 0 -w - "tcp port $http or tcp port $redis" \
    > "$work/packets" 2> "$work/tcpdump.log" &
tcpdump=$!
processes+=($tcpdump)
wait_for "tcpdump" grep -q "listening on" "$work/tcpdump.log"

# One connection each for curl; its own connection for every redis-cli; ten for redis-benchmark.
trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
curl -sS -o /dev/null "http://127.0.0.1:$http/items/[1-200]"
curl -sS -o /dev/null "http://127.0.0.1:$http/nowhere/[1-30]"
curl -sS -o /dev/null -H "traceparent: $trace" "http://127.0.0.1:$http/fail?[1-7]"
for number in $(seq 20); do
    redis-cli -p $redis LPUSH list "$number" >/dev/null
done
redis-cli -p $redis GET list >/dev/null
redis-benchmark -p $redis -q -c 10 -P 10 -n 5000 -t set,get >/dev/null

sleep 2 # Longer than the kernel keeps a block of packets before it hands it over.
kill -INT $tcpdump
wait $tcpdump || true
wait $replay
cat "$work/report"
grep -q "^0 packets dropped" "$work/tcpdump.log" || { cat "$work/tcpdump.log" >&2; exit 1; }

python3 - "$work/records.jsonl" <<'PYTHON'
import collections, json, sys

records = [json.loads(line) for line in open(sys.argv[1])]
counts = collections.Counter((r["protocol"], r["operation"], r["status"]) for r in records)
expected = {
    ("http", "GET", "200"): 200, ("http", "GET", "404"): 30, ("http", "GET", "500"): 7,
    ("redis", "LPUSH", "OK"): 20, ("redis", "GET", "WRONGTYPE"): 1,
    ("redis", "SET", "OK"): 5000, ("redis", "GET", "OK"): 5000,
}
wrong = {key: (counts[key], count) for key, count in expected.items() if counts[key] != count}
assert not wrong, f"counted and sent differ: {wrong}"
others = {key for key in counts if key not in expected and key[1] not in ("CONFIG", "PING")}
assert not others, f"nobody sent {others}"
traced = [r for r in records if r.get("trace_id") == "4bf92f3577b34da6a3ce929d0e0e4736"]
assert len(traced) == 7, f"{len(traced)} of 7 requests carry their trace"
assert all(r["duration_ns"] for r in records if (r["protocol"], r["operation"], r["status"]) in expected)
print(f"e2e: {len(records)} requests, each counted once, with its status and duration")
PYTHON
