#!/usr/bin/env bash
# Compares the speed of `wirespan replay` with other readers of captures: compare.sh CAPTURES_DIRECTORY
#
# The directory comes from make-captures.sh. Tools that are not installed are left out. The tools take
# turns, in an order that rotates, so that a noisy neighbour slows all of them; medians are printed.
#
#   WIRESPAN     the program under test        (default: target/release/wirespan)
#   FLOWSCOPE    flowscope's example `http_exchanges`, built by its own instructions (default: left out)
#   ROUNDS       turns of each tool            (default: 5)
#   SLOW_ROUNDS  turns of tshark               (default: 1; 0 leaves it out)
#   CAPTURES     names to read                 (default: all nine)
#
# Fails when wirespan does not find every request and every error that the truth of a capture tells.
set -euo pipefail
export LC_ALL=C

[ $# = 1 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=$1
WIRESPAN=${WIRESPAN:-${CARGO_TARGET_DIR:-$HERE/../target}/release/wirespan}
FLOWSCOPE=${FLOWSCOPE:-}
ROUNDS=${ROUNDS:-5}
SLOW_ROUNDS=${SLOW_ROUNDS:-1}
CAPTURES=${CAPTURES:-http1 h2 grpc myS myP pgS pgX redis redisP}
BASE=wirespan-jsonl # what the ratios relate to

die() { echo "compare: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }
installed() {
  case $1 in
    wirespan-*) [ -x "$WIRESPAN" ] ;;
    flowscope) [ -n "$FLOWSCOPE" ] && [ -x "$FLOWSCOPE" ] ;;
    *) has "$1" ;;
  esac
}

# reads TOOL CAPTURE: whether the tool has a parser for the protocol of that capture.
reads() {
  case $1:$2 in
    wirespan-*:* | tshark:*) true ;;
    flowscope:http1) true ;;
    suricata:http1 | suricata:h2 | suricata:grpc | suricata:pgS) true ;;
    *) false ;;
  esac
}

# command_of TOOL CAPTURE: sets the array `command`. Each writes a line per record to standard output,
# Suricata to $WORK/eve/eve.json.
command_of() {
  local file=$DIR/$2.pcap
  case $1:$2 in
    wirespan-none:*) command=("$WIRESPAN" replay -o none --jobs 1 "$file") ;;
    wirespan-jsonl:*) command=("$WIRESPAN" replay -o jsonl --jobs 1 "$file") ;;
    flowscope:*) command=("$FLOWSCOPE" "$file") ;;
    suricata:*) command=(suricata -c "$WORK/suricata.yaml" -r "$file" -S /dev/null -k none
      -l "$WORK/eve" --runmode single) ;;
    tshark:http1) command=(tshark -n -r "$file" -Y http.response -T fields -e frame.time_epoch -e tcp.stream
      -e http.request_in -e "$URI_FIELD" -e http.response.code -e http.time) ;;
    tshark:h2 | tshark:grpc) command=(tshark -n -r "$file" -d tcp.port==8081,http2 -d tcp.port==50051,http2
      -Y http2.headers -T fields -e frame.time_epoch -e tcp.stream -e http2.streamid -e http2.headers.method
      -e http2.headers.path -e http2.headers.status) ;;
    tshark:my?) command=(tshark -n -r "$file" -Y mysql -T fields -e frame.time_epoch -e tcp.stream
      -e mysql.command -e mysql.query -e mysql.response_code -e mysql.error_code) ;;
    tshark:pg?) command=(tshark -n -r "$file" -Y pgsql -T fields -e frame.time_epoch -e tcp.stream
      -e pgsql.type -e pgsql.query -e pgsql.statement -e pgsql.tag -e pgsql.status) ;;
    tshark:redis*) command=(tshark -n -r "$file" -Y resp -T fields -e frame.time_epoch -e tcp.stream
      -e resp.bulk_string.value -e resp.string -e resp.integer -e resp.error) ;;
  esac
}

# statuses TOOL CAPTURE FILE: the status of each record that has one, a line each. The load tools count
# neither logins nor PREPARE.
statuses() {
  case $1:$2 in
    wirespan-*) jq -r 'select(.status != "" and (.operation | IN("HANDSHAKE", "PREPARE") | not)) | .status' "$3" ;;
    flowscope:*) awk '$2 ~ /^[0-9]+$/ { print $2 }' "$3" ;;
    suricata:pgS) jq -r 'select(.event_type == "pgsql" and .pgsql.request.simple_query) | "OK"' "$3" ;;
    suricata:*) jq -r 'select(.event_type == "http") | .http.status // empty' "$3" ;;
    tshark:http1) cut -f5 "$3" | tr ',' '\n' | sed '/^$/d' ;;
    tshark:h2 | tshark:grpc) cut -f6 "$3" | tr ',' '\n' | sed '/^$/d' ;;
    tshark:my?) cut -f3 "$3" | tr ',' '\n' | grep -E '^(3|23)$' ;; # COM_QUERY, COM_STMT_EXECUTE
    tshark:pg?) cut -f6 "$3" | tr ',' '\n' | sed '/^$/d' ;;
    tshark:*) sed 's/.*/packet/' "$3" ;; # a row for each packet, whatever it holds
  esac
}

configure_suricata() {
  mkdir "$WORK/eve"
  # Its default depth of 1 MB would end the parsing of long keep-alive connections without a word.
  cat >"$WORK/suricata.yaml" <<'YAML'
%YAML 1.1
---
vars:
  address-groups: { HOME_NET: any, EXTERNAL_NET: any }
outputs:
  - eve-log: { enabled: yes, filetype: regular, filename: eve.json, types: [ { http: { extended: yes } }, http2, pgsql ] }
logging: { default-log-level: error, outputs: [ { console: { enabled: yes } } ] }
app-layer: { protocols: { http: { enabled: yes }, http2: { enabled: yes }, pgsql: { enabled: yes, stream-depth: 0 } } }
stream:
  memcap: 1gb
  midstream: true
  checksum-validation: no
  reassembly: { memcap: 1gb, depth: 0 }
YAML
}

# run TOOL CAPTURE OUTPUT: one timed run; appends to the raw lines unless it is round 0.
run() {
  local command
  command_of "$1" "$2"
  rm -f "$WORK"/eve/*
  { time /usr/bin/time -f %M -o "$WORK/rss" "${command[@]}" >"$3" 2>"$WORK/stderr"; } 2>"$WORK/time" \
    || die "$1 failed on $2: $(tail -3 "$WORK/stderr")"
  [ "$round" = 0 ] && return
  # wall, user + system, peak memory in kB
  printf '%s\t%s\t%s\t%s\n' "$2" "$round" "$1" \
    "$(awk -v rss="$(tail -1 "$WORK/rss")" 'END { printf "%s\t%.3f\t%s", $1, $2 + $3, rss }' "$WORK/time")" >>"$RAW"
}

# found TOOL CAPTURE: round 0, which also warms the page cache, counts what the tool finds.
found() {
  local out=$WORK/out
  run "$1" "$2" "$out"
  [ "$1" = suricata ] && out=$WORK/eve/eve.json
  # An error is a 503 of HTTP, or UNAVAILABLE (14) of gRPC.
  statuses "$1" "$2" "$out" | awk -v name="$2\t$1" -v error="$([ "$2" = grpc ] && echo 14 || echo 503)" '
    { errors += $1 == error } END { print name "\t" NR "\t" errors + 0 }' >>"$WORK/found"
  rm -f "$WORK/out"
}

# check CAPTURE: whether wirespan has found what the truth tells, no more and no less.
check() {
  local found true
  found=$(awk -F'\t' -v c="$1" '$1 == c && $2 == "wirespan-jsonl" { print $3, $4 }' "$WORK/found")
  true=$(awk '{ value[$1] = $2 } END { print value["requests"], value["errors"] + 0 }' "$DIR/$1.truth")
  [ "$found" = "$true" ] || die "$1: wirespan found (requests, errors) $found where there are $true"
}

measure() {
  local capture=$1 tool tools=() skipped=() turn
  for tool in wirespan-none wirespan-jsonl flowscope suricata tshark; do
    reads "$tool" "$capture" || continue
    [ "$tool:$SLOW_ROUNDS" = tshark:0 ] && continue
    if installed "$tool"; then tools+=("$tool"); else skipped+=("$tool"); fi
  done
  [ ${#skipped[@]} = 0 ] || echo "$capture: not installed, left out: ${skipped[*]}" >&2
  [ ${#tools[@]} -gt 0 ] || die "no tool to measure; build with: cargo build --release -p wirespan-agent"
  round=0
  for tool in "${tools[@]}"; do
    [ "$tool" = wirespan-none ] || found "$tool" "$capture" # it prints nothing that could be counted
  done
  check "$capture"
  for ((round = 1; round <= ROUNDS; round++)); do
    for ((turn = 0; turn < ${#tools[@]}; turn++)); do
      tool=${tools[(turn + round) % ${#tools[@]}]}
      [ "$tool" = tshark ] && [ "$round" -gt "$SLOW_ROUNDS" ] && continue
      run "$tool" "$capture" /dev/null
    done
  done
}

# table CAPTURE: medians, and medians of the ratios to BASE within a round.
table() {
  local truth=$DIR/$1.truth
  echo
  echo "$1: $(tr '\n' ' ' <"$truth")"
  awk -F'\t' -v capture="$1" -v base="$BASE" -v truth="$truth" -v counts="$WORK/found" '
    function median(list, n,   i, j, held) {
      for (i = 2; i <= n; i++) {
        held = list[i]
        for (j = i - 1; j > 0 && list[j] > held; j--) list[j + 1] = list[j]
        list[j + 1] = held
      }
      return n % 2 ? list[(n + 1) / 2] : (list[n / 2] + list[n / 2 + 1]) / 2
    }
    # The median of a value, or of its ratio to the base in the same round; "-" where there is none.
    function middle(value, tool, paired,   r, n, list) {
      for (r = 1; r <= rounds; r++) {
        if (!((r, tool) in value) || paired && !((r, base) in value)) continue
        list[++n] = paired ? value[r, tool] / value[r, base] : value[r, tool]
      }
      return n ? median(list, n) : "-"
    }
    function form(pattern, value) { return value == "-" ? "-" : sprintf(pattern, value) }
    BEGIN {
      while ((getline line < truth) > 0) { split(line, pair, " "); true_[pair[1]] = pair[2] }
      while ((getline line < counts) > 0) {
        split(line, part, "\t")
        if (part[1] == capture) { records[part[2]] = part[3]; errors[part[2]] = part[4] }
      }
    }
    $1 == capture {
      wall[$2, $3] = $4; cpu[$2, $3] = $5; rss[$2, $3] = $6; runs[$3]++
      if ($2 > rounds) rounds = $2
    }
    END {
      layout = "%-15s %4s %8s %8s %8s %10s %8s %8s %8s %9s %7s\n"
      printf layout, "tool", "runs", "wall s", "cpu s", "MB/s", "req/s", "RSS MB", "x wall", "x cpu", "records", "errors"
      n = split("wirespan-none wirespan-jsonl flowscope suricata tshark", order, " ")
      for (i = 1; i <= n; i++) {
        tool = order[i]
        if (!(tool in runs)) continue
        # Neighbours stretch wall time more than CPU time, and some tools use two cores.
        seconds = middle(cpu, tool)
        printf layout, tool, runs[tool], form("%.3f", middle(wall, tool)), form("%.3f", seconds),
          form("%.0f", true_["bytes"] / 1e6 / seconds), form("%.0f", true_["requests"] / seconds),
          form("%.0f", middle(rss, tool) / 1024), form("%.2f", middle(wall, tool, 1)),
          form("%.2f", middle(cpu, tool, 1)),
          (tool in records) ? records[tool] : "-", (tool in errors) && ("errors" in true_) ? errors[tool] : "-"
      }
    }' "$RAW"
}

for need in jq awk /usr/bin/time; do has "$need" || die "$need is missing (apt-get install jq gawk time)"; done
for capture in $CAPTURES; do
  for file in "$DIR/$capture.pcap" "$DIR/$capture.truth"; do
    [ -s "$file" ] || die "$file is missing; make it with: make-captures.sh $DIR"
  done
done
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
TIMEFORMAT='%3R %3U %3S'
RAW=$DIR/compare.tsv
: >"$RAW"
: >"$WORK/found"
configure_suricata
URI_FIELD=http.request.full_uri # older versions give a response its path under another name
# Not grep -q: it would end tshark by a closed pipe, which pipefail takes for "not found".
if has tshark && tshark -G fields 2>/dev/null | grep http.response_for.uri >/dev/null; then
  URI_FIELD=http.response_for.uri
fi

for capture in $CAPTURES; do measure "$capture"; done
echo "$(uname -sr), $(nproc) CPUs, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), load $(cut -d' ' -f1-3 /proc/loadavg)"
for capture in $CAPTURES; do table "$capture"; done
echo
echo "raw lines (capture, round, tool, wall s, cpu s, peak RSS kB): $RAW"
