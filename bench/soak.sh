#!/usr/bin/env bash
# An agent beside nginx (with TLS as well), Redis and PostgreSQL under load for an hour: soak.sh [SECONDS]
#
# Every request is counted at both ends, memory does not grow; prints the figures. Needs root, and what
# the live tests need (.ci/run). One round has 1,800 requests.
set -euo pipefail
cd "$(dirname "$0")/.."
WIRESPAN_LIVE=1 WIRESPAN_SOAK=${1:-3600} cargo test --release --package wirespan-agent --locked --test live -- --nocapture --ignored soak
