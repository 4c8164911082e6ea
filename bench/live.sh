#!/usr/bin/env bash
# What `wirespan tail` costs the servers of this machine, and whether it misses anything: live.sh [DIRECTORY]
#
# nginx (with TLS as well: https), Redis and PostgreSQL run on ports of their own, pinned to CPU 0; their load comes from CPU 1; wirespan
# goes where the scheduler puts it. Each round has all variants, shuffled: without wirespan (off), once more
# without it (off2: what the machine's noise makes of no difference at all), with `tail -o none` and
# `tail -o jsonl`, which record each request at the client and at the server as both are here, and with
# `tail -o none` of the servers' processes alone (server), as where clients are on other machines.
# Others by VARIANTS: `wirespan agent` of the servers' processes with metrics for Prometheus alone (metrics), and with spans sent to
# a backend that takes all (spans); for https, a script of bpftrace that prints what SSL_read and SSL_write move in nginx (bpftrace).
# After each load nginx and PostgreSQL are asked at a fixed rate: how long that takes is what users would notice.
# Medians of the differences within rounds are printed. Needs root. Raw lines: DIRECTORY/live.tsv.
#
#   WIRESPAN   the program under test                  (default: target/release/wirespan)
#   HOOKS      what it observes with                   (default: tracepoint)
#   ROUNDS     rounds                                  (default: 5; 9 for figures to quote)
#   SERVERS    what to load                            (default: nginx redis postgres; and https)
#   VARIANTS   what to compare with no wirespan        (default: server none jsonl; and metrics, spans, bpftrace)
#   NOISE      per cent by which off and off2 may differ in a round that counts (default: 15)
#   HTTP_REQUESTS, REDIS_COMMANDS, SQL_QUERIES   per run (default: 120000, 150000, 60000)
#   RATE       requests a second, for four seconds, whose latency is measured   (default: 2000; 0 for not at all)
#
# Fails when wirespan recorded less than 99.99 % of the requests, or any twice: then the costs are of no interest.
set -euo pipefail
export LC_ALL=C

[ $# -le 1 ] || { sed -n '2,24s/^# \{0,1\}//p' "$0" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${1:-$HERE/../target/bench}
WIRESPAN=${WIRESPAN:-${CARGO_TARGET_DIR:-$HERE/../target}/release/wirespan}
HOOKS=${HOOKS:-tracepoint}
ROUNDS=${ROUNDS:-5}
SERVERS=${SERVERS:-nginx redis postgres}
VARIANTS=${VARIANTS:-server none jsonl}
NOISE=${NOISE:-15}
HTTP_REQUESTS=${HTTP_REQUESTS:-120000}
REDIS_COMMANDS=${REDIS_COMMANDS:-150000}
SQL_QUERIES=${SQL_QUERIES:-60000}
RATE=${RATE:-2000}
NGINX_PORT=28080 HTTPS_PORT=28443 REDIS_PORT=26379 POSTGRES_PORT=25432 PAGE_PORT=29464 SINK_PORT=24318

# Debian keeps PostgreSQL's programs out of the way.
PATH=$PATH:/usr/sbin:/sbin:$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -1)
TICK_US=$((1000000 / $(getconf CLK_TCK)))

die() { echo "live: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }

needs() {
  case $1 in
    nginx) echo nginx h2load ;;
    https) echo nginx h2load openssl ;;
    redis) echo redis-server redis-benchmark redis-cli ;;
    postgres) echo initdb postgres psql pgbench setpriv ;;
  esac
}
port_of() { case $1 in nginx) echo $NGINX_PORT ;; https) echo $HTTPS_PORT ;; redis) echo $REDIS_PORT ;; postgres) echo $POSTGRES_PORT ;; esac; }
# What the records of a load are called in wirespan's table. The load tools send other commands as well.
process_of() { case $1 in nginx | https) echo nginx ;; redis) echo redis-server ;; postgres) echo postgres ;; esac; }
recorded_as() { case $1 in nginx | https) echo http GET ;; redis) echo redis GET ;; postgres) echo postgresql SELECT ;; esac; }
requests_of() {
  case $1 in nginx | https) echo "$HTTP_REQUESTS" ;; redis) echo "$REDIS_COMMANDS" ;; postgres) echo "$SQL_QUERIES" ;; esac
}

# until_true WHAT COMMAND...: waits at most ten seconds.
until_true() {
  local what=$1 try
  shift
  for ((try = 0; try < 200; try++)); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.05
  done
  die "$what: not after ten seconds: $(tail -3 "$WORK"/*.log)"
}

answers() { (: <"/dev/tcp/127.0.0.1/$1"); }

# start SERVER: its process id goes to pid_of[SERVER].
start() {
  local port
  port=$(port_of "$1")
  ! answers "$port" 2>/dev/null || die "port $port is in use"
  case $1 in
    nginx | https)
      local tls=
      if [ "$1" = https ]; then
        openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 2 -keyout "$WORK/key.pem" \
          -out "$WORK/cert.pem" 2>"$WORK/openssl.log"
        tls=" ssl; ssl_certificate $WORK/cert.pem; ssl_certificate_key $WORK/key.pem"
      fi
      cat >"$WORK/$1.conf" <<CONF
daemon off; master_process off; pid $WORK/$1.pid; error_log $WORK/$1.error.log;
events { worker_connections 256; }
http {
  access_log off; keepalive_requests 100000000;
  server { listen 127.0.0.1:$port$tls; location / { return 200 "The quick brown fox jumps over the lazy dog.\n"; } }
}
CONF
      taskset -c 0 nginx -c "$WORK/$1.conf" 2>"$WORK/$1.log" & ;;
    redis)
      taskset -c 0 redis-server --port "$port" --bind 127.0.0.1 --save '' --appendonly no --dir "$WORK" \
        >"$WORK/redis.log" & ;;
    postgres)
      local as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
      install -d -o postgres -g postgres "$WORK/postgres"
      (cd / && "${as[@]}" initdb -D "$WORK/postgres/data" -A trust -U postgres --no-sync >"$WORK/initdb.log")
      taskset -c 0 "${as[@]}" postgres -D "$WORK/postgres/data" -k "$WORK/postgres" -p "$port" \
        -c listen_addresses=127.0.0.1 -c fsync=off -c autovacuum=off >"$WORK/postgres.log" 2>&1 & ;;
  esac
  pid_of[$1]=$!
  until_true "$1 does not listen" answers "$port"
  [ "$1" = postgres ] || return 0
  until_true "postgres does not answer" psql -X -h "$WORK/postgres" -p "$port" -U postgres -c 'select 1'
  pgbench -i -q -h "$WORK/postgres" -p "$port" -U postgres postgres >"$WORK/pgbench.log" 2>&1
  # pgbench's own select-only script; as a file of ours, it sends no queries besides.
  printf '%s\n' '\set aid random(1, 100000)' 'SELECT abalance FROM pgbench_accounts WHERE aid = :aid;' >"$WORK/script.sql"
}

# load SERVER: sends exactly as many requests as requests_of tells, or fails.
load() {
  local port n
  port=$(port_of "$1") n=$(requests_of "$1")
  case $1 in
    nginx | https)
      local scheme=http
      [ "$1" = nginx ] || scheme=https
      taskset -c 1 h2load --h1 -t1 -c16 -n "$n" "$scheme://127.0.0.1:$port/" >"$WORK/load"
      grep -q " $n succeeded, 0 failed" "$WORK/load" ;;
    redis) taskset -c 1 redis-benchmark -p "$port" -c 16 -n "$n" -t get -q >"$WORK/load" 2>&1 ;;
    postgres)
      taskset -c 1 pgbench -n -h 127.0.0.1 -p "$port" -U postgres -M prepared -c 4 -j 1 -t $((n / 4)) \
        -f "$WORK/script.sql" postgres >"$WORK/load" 2>&1
      grep -q "actually processed: $n/$n" "$WORK/load" ;;
  esac || die "the load of $1 failed: $(tail -5 "$WORK/load")"
}

# pace SERVER: asks at the rate for four seconds; how often, and the median and the 99th percentile of the latencies in us.
pace() {
  local port n=$((RATE * 4))
  port=$(port_of "$1")
  rm -f "$WORK"/pace*
  case $1 in
    nginx | https)
      local scheme=http
      [ "$1" = nginx ] || scheme=https
      taskset -c 1 h2load --h1 -t1 -c16 --rps=$((RATE / 16)) -n "$n" --log-file="$WORK/pace.log" \
        "$scheme://127.0.0.1:$port/" >"$WORK/load"
      grep -q " $n succeeded, 0 failed" "$WORK/load" || die "$1 at a fixed rate failed: $(tail -5 "$WORK/load")"
      cut -f3 "$WORK/pace.log" ;;
    postgres)
      (cd "$WORK" && taskset -c 1 pgbench -n -h 127.0.0.1 -p "$port" -U postgres -M prepared -c 4 -j 1 -t $((n / 4)) \
        -R "$RATE" -l --log-prefix=pace -f script.sql postgres >load 2>&1) || die "pgbench failed: $(tail -5 "$WORK/load")"
      # What it was late in asking is not the server's.
      awk '{ print $3 - $7 }' "$WORK"/pace.[0-9]* ;;
  esac | sort -n | awk '{ all[NR] = $1 } END { print NR, all[int((NR + 1) / 2)], all[int((NR * 99 + 99) / 100)] }'
}

# ticks PID: CPU time, user and system, of a process and of its children that have ended (PostgreSQL's backends).
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 + $14 + $15 }'; }

# observe OPTION...: starts wirespan; its process id goes to `agent`.
observe() {
  rm -f "$WORK/agent.log"
  "$WIRESPAN" tail --hooks "$HOOKS" "$@" 2>"$WORK/agent.log" &
  agent=$!
  until_true "wirespan does not observe" grep -q observing "$WORK/agent.log"
}

# serve OPTION...: the same with `wirespan agent`.
serve() {
  "$WIRESPAN" agent --hooks "$HOOKS" --socket none --listen "127.0.0.1:$PAGE_PORT" "${only[@]}" "$@" 2>"$WORK/agent.log" &
  agent=$!
  until_true "wirespan does not observe" grep -q observing "$WORK/agent.log"
}

# A backend that takes all spans and metrics, and does nothing with them.
sink() {
  python3 - "$SINK_PORT" <<'PYTHON' &
import http.server, sys
class Sink(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sink).serve_forever()
PYTHON
  sink_pid=$!
  until_true "the backend does not listen" answers "$SINK_PORT"
}

# trace: a script of bpftrace in the place of wirespan, as one would write it to see requests and responses.
trace() {
  local library
  library=$(ldd "$(command -v nginx)" | awk '/libssl/ { print $3 }')
  bpftrace -p "${pid_of[https]}" -e "
    uprobe:$library:SSL_write { printf(\"%d > %s\\n\", pid, str(arg1, arg2)); }
    uprobe:$library:SSL_read { @to[tid] = arg1; }
    uretprobe:$library:SSL_read /@to[tid] && (int32)retval > 0/ { printf(\"%d < %s\\n\", pid, str(@to[tid], retval)); delete(@to[tid]); }
    BEGIN { printf(\"observing\\n\"); }" >"$WORK/trace.log" 2>"$WORK/agent.log" &
  agent=$!
  until_true "bpftrace does not observe" grep -q observing "$WORK/trace.log"
}

# stop_observing: wirespan ends; its closing report is in agent.log then.
stop_observing() {
  kill -INT "$agent"
  wait "$agent" || die "wirespan failed: $(tail -3 "$WORK/agent.log")"
  agent=
}

# counted SERVER: records of the load in the table that wirespan closed with, of both sides if it observed both.
counted() {
  if [ -s "$WORK/page" ]; then
    awk -v name="$(case $1 in nginx | https) echo http_server_request ;; *) echo wirespan_db_server_operation ;; esac)_duration_seconds_count" \
      -v label="$(case $1 in redis) echo '"GET"' ;; postgres) echo '"SELECT' ;; esac)" \
      'index($1, name) == 1 && (label == "" || index($0, label)) { n += $NF } END { print n + 0 }' "$WORK/page"
    return
  fi
  read -r protocol operation < <(recorded_as "$1")
  awk -v p="$protocol" -v s="127.0.0.1:$(port_of "$1")" -v o="$operation" \
    '$1 == p && $2 == s && $3 == o { n += $4 } END { print n + 0 }' "$WORK/agent.log"
}

# Events that found the buffer full, and bytes the engine missed.
events_lost() { awk '/^ *events lost/ { n += $NF } END { print n + 0 }' "$WORK/agent.log"; }
bytes_lost() { awk '/^bytes lost  /{ n += $NF } END { print n + 0 }' "$WORK/agent.log"; }

# run ROUND VARIANT: loads the servers in turn.
run() {
  local server n before after agent_before=0 agent_after=0 began ended memory="0 0" paced
  : >"$WORK/run"
  : >"$WORK/page"
  case $2 in
    metrics) serve ;;
    spans) sink && serve --otlp "http://127.0.0.1:$SINK_PORT" ;;
    bpftrace) trace ;;
    none | jsonl) observe -o "$2" >/dev/null ;;
    server) observe -o none "${only[@]}" >/dev/null ;;
  esac
  for server in $SERVERS; do
    n=$(requests_of "$server")
    [ -z "$agent" ] || agent_before=$(ticks "$agent")
    before=$(ticks "${pid_of[$server]}") began=$(date +%s%N)
    load "$server"
    ended=$(date +%s%N)
    sleep 0.5 # backends end, and wirespan reads what is left
    after=$(ticks "${pid_of[$server]}")
    [ -z "$agent" ] || agent_after=$(ticks "$agent")
    paced="0 0 0"
    [ "$RATE" = 0 ] || [ "$server" = redis ] || paced=$(pace "$server")
    echo "$server $n $(((ended - began) / 1000)) $(((after - before) * TICK_US)) $(((agent_after - agent_before) * TICK_US)) $paced" \
      >>"$WORK/run"
  done
  if [ -n "$agent" ]; then
    sleep 0.5
    case $2 in metrics | spans) curl -sS "http://127.0.0.1:$PAGE_PORT/metrics" >"$WORK/page" ;; esac
    memory=$(awk '/^VmHWM/ { h = $2 } /^VmRSS/ { r = $2 } END { print h, r }' "/proc/$agent/status")
    stop_observing
    [ -z "$sink_pid" ] || { kill "$sink_pid" && wait "$sink_pid" || true; sink_pid=; }
  else
    : >"$WORK/agent.log"
  fi
  while read -r server n wall cpu agent_cpu paced median slow; do
    printf '%s\t' "$1" "$2" "$server" "$n" "$wall" "$cpu" "$agent_cpu" "$(counted "$server")" "$(events_lost)" \
      "$(bytes_lost)" "${memory% *}" "${memory#* }" "$paced" "$median" "$slow"
    cut -d' ' -f1 /proc/loadavg
  done <"$WORK/run" | tee -a "$RAW"
}

# sides: one load of each with its records counted on either side; it also warms everything. Not timed.
sides() {
  local server protocol operation
  observe -o jsonl > >(awk '
    match($0, /"protocol":"[^"]*","operation":"[^"]*"/) {
      split(substr($0, RSTART, RLENGTH), word, "\"")
      match($0, /"server":"[^"]*","side":"[^"]*"/)
      split(substr($0, RSTART, RLENGTH), place, "\"")
      count[word[4] " " word[8] " " place[4] " " place[8]]++
    }
    END { for (key in count) print key, count[key] }' >"$WORK/sides")
  local counter=$!
  for server in $SERVERS; do load "$server"; done
  sleep 0.5
  stop_observing
  until_true "the records are not counted" test ! -d "/proc/$counter"
  echo "Recorded of a load with -o jsonl:"
  for server in $SERVERS; do
    read -r protocol operation < <(recorded_as "$server")
    awk -v server="$server" -v key="$protocol $operation 127.0.0.1:$(port_of "$server")" -v n="$(requests_of "$server")" '
      $1 " " $2 " " $3 == key { count[$4] += $5 }
      END { printf "  %-9s sent %d, at the server %d, at the client %d\n", server, n, count["server"], count["client"] }' \
      "$WORK/sides"
  done
}

# table: medians [smallest..largest], of differences and ratios to off in the same round. Exit status 1: not all recorded.
table() {
  awk -F'\t' -v noise="$NOISE" -v servers="$SERVERS" -v rounds="$ROUNDS" -v names="$VARIANTS" '
    function spread(list, n, form,   i, j, held, middle) {
      if (!n) return "-"
      for (i = 2; i <= n; i++) {
        held = list[i]
        for (j = i - 1; j > 0 && list[j] > held; j--) list[j + 1] = list[j]
        list[j + 1] = held
      }
      middle = n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
      return sprintf(form " [" form ".." form "]", middle, list[1], list[n])
    }
    function expected(variant, n) { return variant == "bpftrace" ? 0 : variant ~ /none|jsonl/ ? 2 * n : n }
    { if ($13) paced[$3] = 1
      median[$3, $2, $1] = $14; slow[$3, $2, $1] = $15
      wall[$3, $2, $1] = $5; cpu[$3, $2, $1] = $6 / $4; agent[$3, $2, $1] = $7 / $4
      if ($2 !~ /^off/) {
        all = expected($2, $4 + $13); sent[$3, $2] += all; seen[$3, $2] += $8; lost[$2 SUBSEP $1] = $9; missed[$2 SUBSEP $1] = $10
        if (all && ($8 > all || $8 < all * 0.9999))
          invalid = invalid sprintf("  %s in round %d with %s: %d of %d recorded\n", $3, $1, $2, $8, all)
        if ($11 > peak[$2]) peak[$2] = $11
        if ($12 > resident[$2]) resident[$2] = $12
      } }
    END {
      count = split(servers, server, " "); variants = split("off off2 " names, variant, " ")
      layout = "%-9s %-8s %2s  %-20s %-20s %-20s %-20s %s\n"
      printf layout, "server", "", "n", "server us/request", "more than off", "agent us/request", "throughput ratio", "recorded %"
      for (s = 1; s <= count; s++) {
        for (v = 1; v <= variants; v++) {
          n = 0
          for (r = 1; r <= rounds; r++) {
            a = cpu[server[s], "off", r]; b = cpu[server[s], "off2", r]
            if ((a > b ? a / b : b / a) > 1 + noise / 100) {
              if (v == 1) noisy = noisy sprintf("  %s round %d: off %.1f, off2 %.1f us\n", server[s], r, a, b)
              continue
            }
            n++
            # The two without wirespan are worth the same: their mean is what to relate to.
            base = (a + b) / 2; base_wall = (wall[server[s], "off", r] + wall[server[s], "off2", r]) / 2
            if (v == 2) { base = a; base_wall = wall[server[s], "off", r] }
            used[n] = cpu[server[s], variant[v], r]; more[n] = used[n] - base
            own[n] = agent[server[s], variant[v], r]; speed[n] = base_wall / wall[server[s], variant[v], r]
          }
          printf layout, server[s], variant[v], n, spread(used, n, "%.1f"), v == 1 ? "-" : spread(more, n, "%.1f"),
            v < 3 ? "-" : spread(own, n, "%.1f"), v == 1 ? "-" : spread(speed, n, "%.2f"),
            v < 3 || !sent[server[s], variant[v]] ? "-" : sprintf("%.4f", 100 * seen[server[s], variant[v]] / sent[server[s], variant[v]])
        }
      }
      for (s = 1; s <= count; s++) {
        if (!paced[server[s]]) continue
        printf "%s at a fixed rate, us:\n", server[s]
        for (v = 1; v <= variants; v++) {
          for (r = 1; r <= rounds; r++) { half[r] = median[server[s], variant[v], r]; late[r] = slow[server[s], variant[v], r] }
          printf "  %-8s p50 %-20s p99 %s\n", variant[v], spread(half, rounds, "%d"), spread(late, rounds, "%d")
        }
      }
      for (key in lost) { split(key, part, SUBSEP); events[part[1]] += lost[key]; bytes[part[1]] += missed[key] }
      for (v = 3; v <= variants; v++)
        printf "%s: peak RSS %.0f MB, at the end %.0f MB (largest of all rounds); events lost %d, bytes lost %d\n",
          variant[v], peak[variant[v]] / 1024, resident[variant[v]] / 1024, events[variant[v]], bytes[variant[v]]
      if (noisy) printf "Rounds left out, for off and off2 differ by more than %s %%:\n%s", noise, noisy
      if (invalid) { printf "NOT VALID, below 99.99 %% or more than were sent:\n%s", invalid; exit 1 }
    }' "$RAW"
}

clean() {
  local server
  [ -z "$agent" ] || kill -INT "$agent" 2>/dev/null || true
  [ -z "$sink_pid" ] || kill "$sink_pid" 2>/dev/null || true
  for server in "${!pid_of[@]}"; do kill -INT "${pid_of[$server]}" 2>/dev/null || true; done
  wait
  rm -rf "$WORK"
}

[ "$(id -u)" = 0 ] || die "needs root: wirespan loads eBPF programs"
[ -x "$WIRESPAN" ] || die "no $WIRESPAN; build with: cargo build --release -p wirespan-agent"
for server in $SERVERS; do
  [ -n "$(needs "$server")" ] || die "SERVERS knows nginx, redis and postgres, not $server"
  for need in taskset awk $(needs "$server"); do has "$need" || die "$need is missing"; done
done
case " $VARIANTS " in
  *" bpftrace "*) has bpftrace || die "bpftrace is missing"; [ "$SERVERS" = https ] || die "bpftrace is for SERVERS=https" ;;
  *" metrics "* | *" spans "*) case "$SERVERS" in *nginx*https* | *https*nginx*) die "metrics and spans cannot tell nginx from https" ;; esac ;;
esac
[ $((SQL_QUERIES % 4)) = 0 ] || die "SQL_QUERIES has to be a multiple of 4"
[ $((RATE % 16)) = 0 ] || die "RATE has to be a multiple of 16"
mkdir -p "$DIR"
RAW=$DIR/live.tsv
: >"$RAW"
WORK=$(mktemp -d)
chmod 755 "$WORK"
agent= sink_pid=
declare -A pid_of=()
trap clean EXIT

only=()
for server in $SERVERS; do
  start "$server"
  only+=(--process "$(process_of "$server")")
done
echo "$(uname -sr), $(nproc) CPUs, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), load before $(cut -d' ' -f1-3 /proc/loadavg)"
sides
echo
echo "round, variant, server, requests, wall us, server us, agent us, records, events lost, bytes lost, VmHWM kB, VmRSS kB, at the rate: requests, p50 us, p99 us, load"
for ((round = 1; round <= ROUNDS; round++)); do
  for variant in $(shuf -e off off2 $VARIANTS); do run "$round" "$variant"; done
done
echo
echo "Medians [smallest..largest]; load after $(cut -d' ' -f1-3 /proc/loadavg)"
table
