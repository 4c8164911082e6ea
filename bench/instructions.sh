#!/usr/bin/env bash
# Counts the instructions that `wirespan replay` spends on one exchange: instructions.sh CAPTURES_DIRECTORY
#
# Unlike seconds, instructions do not depend on the neighbours: a change of 1 % is visible. The directory
# comes from make-captures.sh. Of each capture the first MEGABYTES and half of that are read under
# callgrind; the difference of both, over the difference of their exchanges, leaves out start and end.
# The profiles stay in the directory, for callgrind_annotate.
#
#   WIRESPAN   the program under test  (default: target/release/wirespan)
#   MEGABYTES  size of the longer cut  (default: 20)
#   CAPTURES   names to read           (default: all nine)
set -euo pipefail
export LC_ALL=C

[ $# = 1 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=$1
WIRESPAN=${WIRESPAN:-${CARGO_TARGET_DIR:-$HERE/../target}/release/wirespan}
MEGABYTES=${MEGABYTES:-20}
CAPTURES=${CAPTURES:-http1 h2 grpc myS myP pgS pgX redis redisP}

die() { echo "instructions: $*" >&2; exit 1; }

# cut_to NAME MEGABYTES: the first whole packets of a capture, about that many bytes; prints the file.
cut_to() {
  local out=$WORK/$1-$2.pcap packets bytes
  packets=$(awk '$1 == "packets" { print $2 }' "$DIR/$1.truth")
  bytes=$(awk '$1 == "bytes" { print $2 }' "$DIR/$1.truth")
  tcpdump -n -r "$DIR/$1.pcap" -c "$((packets * $2 * 1000000 / bytes))" -w "$out" 2>/dev/null
  echo "$out"
}

# instructions FILE PROFILE: how many a replay of the file retires, all threads together.
instructions() {
  valgrind --tool=callgrind --callgrind-out-file="$2" "$WIRESPAN" replay -o none --jobs 1 "$1" \
    >/dev/null 2>"$WORK/valgrind" || die "valgrind: $(tail -3 "$WORK/valgrind")"
  awk '/Collected/ { print $4 }' "$WORK/valgrind"
}

exchanges() { "$WIRESPAN" replay -o jsonl --jobs 1 "$1" 2>/dev/null | wc -l; }

for need in valgrind tcpdump awk; do command -v "$need" >/dev/null || die "$need is missing (apt-get install $need)"; done
[ -x "$WIRESPAN" ] || die "$WIRESPAN is missing; build it with: cargo build --release -p wirespan-agent"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

printf '%-8s %12s %16s %18s %18s\n' capture exchanges instructions "per exchange" "per captured byte"
for capture in $CAPTURES; do
  [ -s "$DIR/$capture.pcap" ] || die "$DIR/$capture.pcap is missing; make it with: make-captures.sh $DIR"
  long=$(cut_to "$capture" "$MEGABYTES")
  short=$(cut_to "$capture" $((MEGABYTES / 2)))
  long_exchanges=$(exchanges "$long")
  short_exchanges=$(exchanges "$short")
  [ "$long_exchanges" -gt "$short_exchanges" ] || die "$capture: no exchanges found, nothing to divide by"
  long_cost=$(instructions "$long" "$DIR/$capture.callgrind")
  short_cost=$(instructions "$short" "$WORK/short.callgrind")
  awk -v capture="$capture" -v n="$long_exchanges" -v cost="$long_cost" \
    -v dn=$((long_exchanges - short_exchanges)) -v dcost=$((long_cost - short_cost)) \
    -v dbytes=$(($(stat -c %s "$long") - $(stat -c %s "$short"))) \
    'BEGIN { printf "%-8s %12d %16.0f %18.0f %18.2f\n", capture, n, cost, dcost / dn, dcost / dbytes }'
done
echo "where they go: callgrind_annotate $DIR/http1.callgrind | head -40"
