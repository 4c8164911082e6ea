#!/usr/bin/env bash
# Makes the captures of the speed comparison: make-captures.sh [DIRECTORY] (default: target/bench).
#
# For each NAME.pcap a NAME.truth tells, as "key value" lines, how many requests the load tool and the
# server agree on. Everything runs in a network namespace of its own, where lo has the MTU of an
# Ethernet and no offloads, so packets look as on a wire. Captures are never committed.
set -euo pipefail

export CAPTURES=${CAPTURES:-http1 h2 grpc myS myP pgS pgX redis redisP}
REQUESTS=${REQUESTS:-140000}         # HTTP/1 requests
STREAMS=${STREAMS:-120000}           # HTTP/2 requests
CALLS=${CALLS:-40000}                # gRPC calls
TRANSACTIONS=${TRANSACTIONS:-4000}   # of sysbench, twenty statements each
SCRIPTS=${SCRIPTS:-48000}            # runs of pgbench's script, three statements each
PER_COMMAND=${PER_COMMAND:-40000}    # of each of nine Redis commands, one at a time
PIPELINED=${PIPELINED:-400000}       # of each of three Redis commands, 16 at a time
PYTHON=${PYTHON:-python3}            # one that has grpcio

HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${1:-$HERE/../target/bench}
# Dissectors know these ports; the namespace is private, so none can clash.
HTTP_PORT=8080
HTTP2_PORT=8081
GRPC_PORT=50051
MYSQL_PORT=3306
POSTGRES_PORT=5432
REDIS_PORT=6379
# Debian keeps PostgreSQL's programs out of the way.
PATH=$PATH:/usr/sbin:/sbin:$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -1)

die() { echo "make-captures: $*" >&2; exit 1; }

# needs_of CAPTURE: the programs that it takes.
needs_of() {
  case $1 in
    http1) echo nginx wrk ;;
    h2) echo nginx h2load ;;
    grpc) echo "$PYTHON" ;;
    my?) echo mariadbd mariadb mariadb-install-db sysbench ;;
    pg?) echo initdb postgres psql pgbench setpriv ;;
    redis*) echo redis-server redis-cli redis-benchmark ;;
    *) die "there is no capture $1" ;;
  esac
}

enter_namespace() {
  local need capture
  for capture in $CAPTURES; do
    for need in $(needs_of "$capture") tcpdump ethtool ip unshare; do
      command -v "$need" >/dev/null || die "$capture: $need is missing (the packages are in README.md)"
    done
  done
  case " $CAPTURES " in
    *' grpc '*) "$PYTHON" -c 'import grpc' 2>/dev/null || die "grpc: $PYTHON has no grpcio; make a virtual \
environment, install grpcio there, and name its interpreter in PYTHON" ;;
  esac
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
    listen 127.0.0.1:$HTTP2_PORT http2;
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
  agree http1 wrk "$REQUESTS" nginx "$(wc -l <"$WORK/access.log")"
  end_capture http1
}

# agree NAME TOOL COUNT SERVER COUNT: fails when the two counted differently.
agree() { [ "$3" = "$5" ] || die "$1: $2 counts $3 requests, $4 $5"; }

# The same kinds of path as in http1.lua, without the POST; h2load asks for one after the other.
uris() {
  awk -v root="http://127.0.0.1:$HTTP2_PORT" 'function r(n) { return int(rand() * n) + 1 }
    BEGIN { srand(20261121); for (i = 0; i < 5000; i++) {
      roll = r(100)
      if (roll <= 43) path = "/users/" r(5000) "?expand=profile"
      else if (roll <= 70) path = "/products/" r(900)
      else if (roll <= 86) path = "/search?q=lamp+" r(400) "&page=" r(9)
      else if (roll <= 91) path = "/static/app-" r(20) ".js"
      else if (roll <= 97) path = "/feed/" r(300)
      else path = "/unavailable/" r(50)
      print root path } }'
}

make_h2() {
  start_nginx
  uris >"$WORK/uris"
  start_capture h2 $HTTP2_PORT
  h2load -n "$STREAMS" -c8 -m10 -i "$WORK/uris" -H 'accept-encoding: gzip' \
    -H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' >"$WORK/h2load"
  stop_server QUIT
  agree h2 h2load "$(sed -n 's/.* \([0-9]*\) done.*/\1/p' "$WORK/h2load")" nginx "$(wc -l <"$WORK/access.log")"
  printf 'requests %s\nerrors %s\n' "$STREAMS" "$(grep -c 503 "$WORK/access.log")" >"$OUT/h2.truth"
  end_capture h2
}

make_grpc() {
  start_capture grpc $GRPC_PORT
  "$PYTHON" "$HERE/grpc_load.py" $GRPC_PORT "$CALLS" "$WORK/report"
  agree grpc client "$CALLS" server "$(sed -n 's/^requests //p' "$WORK/report")"
  cp "$WORK/report" "$OUT/grpc.truth"
  end_capture grpc
}

# As root, by a Unix socket, so that it is not in the capture.
mysql_control() { mariadb --no-defaults --socket="$WORK/mysql.sock" --user=root -N "$@"; }

start_mariadb() {
  mariadb-install-db --no-defaults --user=root --datadir="$WORK/mysql" --auth-root-authentication-method=normal \
    --skip-test-db >"$WORK/mysql.log" 2>&1
  mariadbd --no-defaults --user=root --datadir="$WORK/mysql" --socket="$WORK/mysql.sock" --bind-address=127.0.0.1 \
    --port=$MYSQL_PORT --innodb-flush-log-at-trx-commit=0 2>>"$WORK/mysql.log" &
  server=$!
  until mysql_control -e 'select 1' >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || die "mariadbd: $(tail -3 "$WORK/mysql.log")"
    sleep 0.1
  done
  mysql_control -e "create database shop; create user bench@'127.0.0.1'; grant all on shop.* to bench@'127.0.0.1'"
}

executed_by_mariadb() {
  mysql_control -e "select sum(variable_value) from information_schema.global_status where variable_name in
    ('com_begin', 'com_commit', 'com_select', 'com_update', 'com_delete', 'com_insert')"
}

# make_mysql NAME PS-MODE: the transactions of sysbench, as text or as prepared statements.
make_mysql() {
  local load=(sysbench oltp_read_write --mysql-db=shop --table-size=100000 --rand-type=uniform --rand-seed=20261121)
  start_mariadb
  "${load[@]}" --mysql-socket="$WORK/mysql.sock" --mysql-user=root prepare >"$WORK/sysbench"
  local before sent executed
  before=$(executed_by_mariadb)
  start_capture "$1" $MYSQL_PORT
  "${load[@]}" --mysql-host=127.0.0.1 --mysql-port=$MYSQL_PORT --mysql-user=bench --threads=8 --time=0 \
    --events="$TRANSACTIONS" --db-ps-mode="$2" run >"$WORK/sysbench"
  grep -q 'ignored errors: *0 ' "$WORK/sysbench" || die "$1: statements failed, and were repeated; try again"
  sent=$(awk '$1 == "total:" { print $2 }' "$WORK/sysbench")
  executed=$(executed_by_mariadb)
  # The second of our own SELECTs counts itself.
  agree "$1" sysbench "$sent" mariadbd $((executed - before - 1))
  printf 'requests %s\n' "$sent" >"$OUT/$1.truth"
  end_capture "$1"
  stop_server TERM
  rm -rf "$WORK/mysql"
}

# By a Unix socket, so that it is not in the capture.
postgres_control() { psql -X -q -t -A -h "$WORK/postgres" -p $POSTGRES_PORT -U postgres "$@"; }

start_postgres() {
  local as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  chmod 711 "$WORK"
  install -d -o postgres -g postgres "$WORK/postgres"
  (cd / && "${as[@]}" initdb -D "$WORK/postgres/data" -A trust -U postgres --no-sync >"$WORK/postgres.log")
  "${as[@]}" postgres -D "$WORK/postgres/data" -k "$WORK/postgres" -p $POSTGRES_PORT -c listen_addresses=127.0.0.1 \
    -c fsync=off -c shared_preload_libraries=pg_stat_statements >>"$WORK/postgres.log" 2>&1 &
  server=$!
  until postgres_control -c 'select 1' >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || die "postgres: $(tail -3 "$WORK/postgres.log")"
    sleep 0.1
  done
  postgres_control -c 'create extension pg_stat_statements'
  pgbench -i -q -h "$WORK/postgres" -p $POSTGRES_PORT -U postgres postgres 2>"$WORK/pgbench"
}

# make_postgres NAME PROTOCOL: a script of three statements, in the simple or the extended protocol.
make_postgres() {
  start_postgres
  cat >"$WORK/script.sql" <<'SQL'
\set aid random(1, 100000)
\set delta random(-5000, 5000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid BETWEEN :aid AND :aid + 9 ORDER BY aid;
SQL
  postgres_control -o /dev/null -c 'select pg_stat_statements_reset()'
  start_capture "$1" $POSTGRES_PORT
  pgbench -n -h 127.0.0.1 -p $POSTGRES_PORT -U postgres -M "$2" -c 8 -t $((SCRIPTS / 8)) -f "$WORK/script.sql" \
    --random-seed=20261121 postgres >"$WORK/pgbench" 2>&1
  agree "$1" pgbench $((SCRIPTS * 3)) postgres "$(postgres_control -c "select sum(calls) from pg_stat_statements
    where query ~ 'pgbench_accounts'")"
  printf 'requests %s\n' $((SCRIPTS * 3)) >"$OUT/$1.truth"
  end_capture "$1"
  stop_server INT
  rm -rf "$WORK/postgres"
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
WORK=$(mktemp -d)
server='' dumper='' load=''
trap 'kill $server $dumper $load 2>/dev/null || true; rm -rf "$WORK"' EXIT

ip link set lo mtu 1500 up
ethtool -K lo tso off gso off gro off
for capture in $CAPTURES; do
  case $capture in
    myS) make_mysql myS disable ;;
    myP) make_mysql myP auto ;;
    pgS) make_postgres pgS simple ;;
    pgX) make_postgres pgX prepared ;;
    redis) make_redis redis -t set,get,incr,lpush,rpush,lpop,rpop,sadd,hset -n "$PER_COMMAND" -d 64 -r 10000 ;;
    redisP) make_redis redisP -t set,get,incr -n "$PIPELINED" -P 16 -d 64 -r 10000 ;;
    *) "make_$capture" ;;
  esac
done
