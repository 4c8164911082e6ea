#!/usr/bin/env bash
# Makes the captures of the speed comparison: make-captures.sh [DIRECTORY] (default: target/bench).
#
# For each NAME.pcap a NAME.truth tells, as "key value" lines, how many requests the load tool and the
# server agree on. Everything runs in a network namespace of its own, where lo has the MTU of an
# Ethernet and no offloads, so packets look as on a wire. Captures are never committed.
set -euo pipefail

REQUESTS=${REQUESTS:-140000}      # HTTP requests
PER_COMMAND=${PER_COMMAND:-40000} # of each of nine Redis commands, one at a time
PIPELINED=${PIPELINED:-400000}    # of each of three Redis commands, 16 at a time

HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${1:-$HERE/../target/bench}
HTTP_PORT=8080  # dissectors know both ports; the namespace is private, so neither can clash
REDIS_PORT=6379

die() { echo "make-captures: $*" >&2; exit 1; }

enter_namespace() {
  local need
  for need in nginx wrk redis-server redis-cli redis-benchmark tcpdump ethtool ip unshare; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$need" >/dev/null || die "$need is missing (apt-get install \
nginx-light wrk redis-server redis-tools tcpdump ethtool iproute2 util-linux)"
  done
  [ "$(id -u)" = 0 ] || die "run it as root: tcpdump cannot do with a user namespace"
  IN_NAMESPACE=1 exec unshare -n "$0" "$OUT"
}

# start_capture NAME PORT: tcpdump with 256 MiB of ring into NAME.pcap; sets $dumper.
start_capture() {
  tcpdump -i lo -n -s 0 -B 262144 -Z root -w "$OUT/$1.pcap" "tcp port $2" 2>"$WORK/tcpdump" &
  dumper=$!
  until grep -q listening "$WORK/tcpdump"; do
    kill -0 "$dumper" 2>/dev/null || die "tcpdump: $(cat "$WORK/tcpdump")"
    sleep 0.1
  done
}

# end_capture NAME: fails when the kernel dropped packets, because the truth would then be none.
end_capture() {
  sleep 1.5 # a block of the ring that is not full reaches tcpdump only after a second
  kill -INT "$dumper"
  wait "$dumper" || true
  dumper=''
  local packets dropped
  packets=$(awk '/packets captured/ { print $1 }' "$WORK/tcpdump")
  dropped=$(awk '/dropped by kernel/ { print $1 }' "$WORK/tcpdump")
  [ "$dropped" = 0 ] || die "$1: the kernel dropped $dropped packets; try again on a quieter machine"
  printf 'packets %s\nbytes %s\n' "$packets" "$(stat -c %s "$OUT/$1.pcap")" >>"$OUT/$1.truth"
  echo "$1: $(tr '\n' ' ' <"$OUT/$1.truth")"
}

stop_server() {
  kill -"$1" "$server"
  wait "$server" || true
  server=''
}

# filler BYTES: text of about that many bytes, which gzip shrinks as it does prose. Large bodies are not
# JSON on purpose: tshark dissects that token by token, and would be compared for it (three times slower).
filler() {
  awk -v want="$1" 'BEGIN { srand(7); split("lamp chair table green oak brass small large new sold left", words, " ")
    for (n = 0; n < want; n += length(line)) { line = sprintf("%s %s %d\n", words[int(rand() * 11) + 1],
      words[int(rand() * 11) + 1], rand() * 100000); printf "%s", line } }'
}

start_nginx() {
  mkdir -p "$WORK/www"
  filler 700 >"$WORK/www/product.html"
  filler 2500 >"$WORK/www/search.html"
  filler 8000 >"$WORK/www/app.js"
  filler 4000 >"$WORK/www/feed.html"
  cat >"$WORK/nginx.conf" <<CONF
user root;
daemon off;
worker_processes 1;
pid $WORK/nginx.pid;
error_log $WORK/nginx.error;
events { worker_connections 256; }
http {
  log_format status '\$status';
  access_log $WORK/access.log status;
  client_body_temp_path $WORK/body;
  proxy_temp_path $WORK/proxy; fastcgi_temp_path $WORK/fastcgi; uwsgi_temp_path $WORK/uwsgi; scgi_temp_path $WORK/scgi;
  keepalive_requests 10000000;
  keepalive_timeout 300;
  types { text/html html; text/javascript js; }
  default_type application/json;
  server {
    listen 127.0.0.1:$HTTP_PORT;
    root $WORK/www;
    location /users/ { return 200 '{"id":1,"name":"Ada","mail":"ada@example.com","profile":{"since":"2019-04-01","plan":"basic"}}'; }
    location /products/ { try_files /product.html =500; }
    location /search { try_files /search.html =500; }
    location /static/ { try_files /app.js =500; }
    location /feed/ { gzip on; try_files /feed.html =500; }
    location /orders { return 201 '{"order":"accepted"}'; }
    location /unavailable/ { return 503 '{"error":"try later"}'; }
  }
}
CONF
  nginx -c "$WORK/nginx.conf" 2>"$WORK/nginx.stderr" &
  server=$!
  until [ -s "$WORK/nginx.pid" ]; do
    kill -0 "$server" 2>/dev/null || die "nginx: $(cat "$WORK/nginx.stderr")"
    sleep 0.1
  done
  sleep 0.5
}

make_http1() {
  start_nginx
  start_capture http1 $HTTP_PORT
  TOTAL=$REQUESTS REPORT=$WORK/report \
    wrk -t1 -c32 -d600s -s "$HERE/http1.lua" "http://127.0.0.1:$HTTP_PORT" >"$WORK/wrk" 2>&1 &
  load=$!
  until [ -s "$WORK/report" ]; do
    kill -0 "$load" 2>/dev/null || die "wrk ended before the last response: $(cat "$WORK/wrk")"
    sleep 0.2
  done
  kill -INT "$load"
  wait "$load" || true
  load=''
  stop_server QUIT
  cp "$WORK/report" "$OUT/http1.truth"
  local served
  served=$(wc -l <"$WORK/access.log")
  [ "$served" = "$REQUESTS" ] || die "http1: wrk saw $REQUESTS responses, nginx logged $served"
  end_capture http1
}

# The control commands use a Unix socket, so that they are not in the capture.
control() { redis-cli -s "$WORK/redis.sock" "$@"; }

# make_redis NAME ARGUMENTS-OF-REDIS-BENCHMARK…
make_redis() {
  local name=$1
  shift
  redis-server --port $REDIS_PORT --bind 127.0.0.1 --unixsocket "$WORK/redis.sock" --dir "$WORK" \
    --save '' --appendonly no >"$WORK/redis.log" &
  server=$!
  until control ping 2>/dev/null | grep -q PONG; do
    kill -0 "$server" 2>/dev/null || die "redis-server: $(tail -3 "$WORK/redis.log")"
    sleep 0.1
  done
  control config resetstat >/dev/null
  start_capture "$name" $REDIS_PORT
  redis-benchmark -h 127.0.0.1 -p $REDIS_PORT -q "$@" >"$WORK/redis-benchmark"
  # What the server counted, our own two commands excepted.
  control info commandstats | tr -d '\r' | awk -F'[:=,]' '
    /^cmdstat_/ && !/^cmdstat_(info|config\|resetstat):/ { calls += $3 }
    END { print "requests", calls }' >"$OUT/$name.truth"
  end_capture "$name"
  stop_server TERM
}

[ -n "${IN_NAMESPACE:-}" ] || { mkdir -p "$OUT"; OUT=$(cd "$OUT" && pwd); enter_namespace; }
PATH=$PATH:/usr/sbin:/sbin
WORK=$(mktemp -d)
server='' dumper='' load=''
trap 'kill $server $dumper $load 2>/dev/null || true; rm -rf "$WORK"' EXIT

ip link set lo mtu 1500 up
ethtool -K lo tso off gso off gro off
make_http1
make_redis redis -t set,get,incr,lpush,rpush,lpop,rpop,sadd,hset -n "$PER_COMMAND" -d 64 -r 10000
make_redis redisP -t set,get,incr -n "$PIPELINED" -P 16 -d 64 -r 10000
