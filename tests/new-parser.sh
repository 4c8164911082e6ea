#!/usr/bin/env bash
# A parser fresh from `cargo xtask new-parser` compiles without a warning, passes the laws and has a
# fuzz target. In a copy of the repository; builds into the copy's own target folder unless
# CARGO_TARGET_DIR says otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar --exclude=./target --exclude=./.git --exclude=./fuzz/target -cf - . | tar -xf - -C "$copy"
cd "$copy"

cargo xtask new-parser acme | tee new-parser.out
cargo fmt --package wirespan-acme --check
cargo clippy --package wirespan-acme --all-targets -- -D warnings
cargo test --package wirespan-acme
grep -q "with(wirespan_acme::Acme)" new-parser.out
test -f tests/pcaps/acme/README.md
cargo test --manifest-path fuzz/Cargo.toml
